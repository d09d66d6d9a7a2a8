// Package house holds no code, only the tests that keep the house in order: who may import whom, and why; what no
// package below cmd may touch; versions that must not sink; how long a file may get.
package house
