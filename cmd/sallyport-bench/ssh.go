package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sshName is SSH's word in -shapes, beside those of RADIUS.
const sshName = "ssh"

// sshParts are what is measured of SSH, in this order; -ssh chooses.
var sshParts = []string{partBulk, partKeys, partLogins, partIdle}

const (
	partBulk   = "bulk"
	partKeys   = "keys"
	partLogins = "logins"
	partIdle   = "idle"
)

// sshParty is a program in the middle, in a table's row, with what its CPU and memory are read from.
type sshParty struct {
	name string
	srv  *server
	kids bool // its work is done by children of it, which have ended when it is read
}

// The parties' names.
const (
	partyDirect  = "no gateway"
	partySSHD    = "sshd -J"
	partyJump    = "x/crypto jump"
	partyProxy   = "x/crypto proxy"
	partyBoth    = "x/crypto jump and proxy"
	partyGateway = "Sallyport"
)

// sshWay is one way from a client to the target.
type sshWay struct {
	name  string // in the tables
	party string
	// What stock ssh is told: whom to jump by, empty for nobody, and the host.
	by, host string
	// inner: the client ends an SSH connection with the target, or with the gateway for it, within the first.
	inner bool
	rival string // the way that a bound compares it with; empty: none
}

// The ways' names.
const (
	wayDirect       = "no gateway"
	waySSHD         = "jump, sshd"
	wayJump         = "jump, x/crypto"
	wayOpaque       = "jump, opaque"
	wayRecordedJump = "jump, recorded"
	wayProxy        = "proxy, x/crypto"
	wayBoth         = "jump that ends SSH, x/crypto"
	wayProxied      = "proxied, not recorded"
	wayRecorded     = "proxied, recorded"
)

var sshWays = []sshWay{
	{name: wayDirect, party: partyDirect, host: "direct"},
	{name: waySSHD, party: partySSHD, by: "sshd", host: "direct", inner: true},
	{name: wayJump, party: partyJump, by: "xjump", host: "direct", inner: true},
	{name: wayOpaque, party: partyGateway, by: "gw", host: "plain", inner: true, rival: wayJump},
	{name: wayBoth, party: partyBoth, by: "xboth", host: "direct", inner: true},
	{name: wayRecordedJump, party: partyGateway, by: "gw", host: "taped", inner: true, rival: wayBoth},
	{name: wayProxy, party: partyProxy, host: "xproxy"},
	{name: wayProxied, party: partyGateway, host: "gw-plain", rival: wayProxy},
	{name: wayRecorded, party: partyGateway, host: "gw-taped", rival: wayProxy},
}

// sshFigures is all that was measured of SSH.
type sshFigures struct {
	Versions string      `json:"versions"`
	Hash     float64     `json:"password_hash_ms"` // CPU of one, with the cost that the people here have
	Bulk     []bulkRun   `json:"bulk"`
	Keys     []keysRun   `json:"keys"`
	Logins   []loginsRun `json:"logins"`
	Idle     []idleRun   `json:"idle"`
}

// measureSSH measures everything of SSH. The parties all live for the whole time, and take turns.
func (b *bench) measureSSH(ctx context.Context) (err error) {
	r := &sshRig{bench: b, dir: filepath.Join(b.dir, sshName)}
	defer func() { err = errors.Join(err, r.end()) }()
	if err := r.start(ctx); err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	b.SSH = &sshFigures{Versions: r.versions(ctx)}
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{
		{partBulk, r.measureBulk}, {partKeys, r.measureKeys}, {partLogins, r.measureLogins}, {partIdle, r.measureIdle},
	} {
		if !slices.Contains(b.sshParts, part.name) {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return fmt.Errorf("ssh, %s: %w", part.name, err)
		}
	}
	return nil
}

// chosenParts reads the flag -ssh.
func chosenParts(list string) ([]string, error) {
	if list == "all" {
		return sshParts, nil
	}
	var parts []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); !slices.Contains(sshParts, name) {
			return nil, fmt.Errorf("-ssh: %q is not known: want all, or some of %s", name, strings.Join(sshParts, ", "))
		}
		parts = append(parts, name)
	}
	return parts, nil
}

// ways are those that can be measured, by name; all when there are no names.
func (r *sshRig) ways(names ...string) (list []sshWay) {
	for _, w := range sshWays {
		if len(names) > 0 && !slices.Contains(names, w.name) {
			continue
		}
		if r.way != "" && r.way != w.name {
			continue
		}
		if r.parties[w.party] != nil {
			list = append(list, w)
		}
	}
	return list
}

// writeMode writes a file of the rig.
func (r *sshRig) write(name, text string, mode os.FileMode) error {
	return os.WriteFile(filepath.Join(r.dir, name), []byte(text), mode)
}
