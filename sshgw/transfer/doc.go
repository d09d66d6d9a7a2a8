// Package transfer watches and filters file transfers that pass through the gateway as bytes. It is pure: no clock, no
// I/O, no goroutines.
package transfer
