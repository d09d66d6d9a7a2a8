package login

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"sallyport/internal/audit"
)

// repeatFor is how long an accepted answer may be given again, to the same question under another identifier.
const repeatFor = 10 * time.Second

// A NAS that hears no answer turns to another server, or finds this one restarted, and asks the same again in a packet
// that looks new. The code is used by then. So that the person isn't turned away, the acceptance is repeated for a few
// seconds for whoever asks just what was asked: the same system, the same challenge (or, where there was none, the same
// calling station at the same port of the NAS), the same person and the same code. Nothing is consumed by it, and the
// record says what it is. All of it follows from the record that consumed the code, so that it's known after a restart.
//
// Where the process that accepted the code still runs, there is nothing to make up for: it answers resends from its own
// memory, and refuses the code to everybody else.

// The details by which logins without a challenge are told apart.
const (
	detailCalling = "calling_station"
	detailPort    = "nas_port"
)

// acceptance is what a device remembers of how its last code was accepted.
type acceptance struct {
	As    uint64 // what was asked, see sameness; 0: cannot be told
	Until int64  // Unix milliseconds
	own   bool   // this process accepted it
}

func acceptedAt(at time.Time, as uint64) acceptance {
	return acceptance{As: as, Until: at.Add(repeatFor).UnixMilli()}
}

// sameness is what two requests have in common that are one to the NAS; 0 when that cannot be told. Turn is the
// challenge that was answered, or empty.
func sameness(system, turn, calling, port string) uint64 {
	if turn == "" && (calling == "" || port == "") {
		return 0
	}
	var room [256]byte
	text := room[:0]
	for _, part := range [...]string{system, turn, calling, port} {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	sum := sha256.Sum256(text)
	return max(binary.BigEndian.Uint64(sum[:]), 1)
}

// samenessOf is that of an attempt.
func samenessOf(a *Attempt, turn string) uint64 {
	if turn != "" {
		return sameness(a.System.Name, turn, "", "")
	}
	var calling, port string
	for _, d := range a.Detail {
		switch d.Key {
		case detailCalling:
			calling = d.Value
		case detailPort:
			port = d.Value
		}
	}
	return sameness(a.System.Name, "", calling, port)
}

// samenessIn is that of the attempt that a record tells of.
func samenessIn(rec *audit.Record) uint64 {
	for _, x := range rec.Effects {
		if x.Set == effectUsed {
			return sameness(rec.System, x.ID, "", "")
		}
	}
	var calling, port string
	for _, d := range rec.Detail {
		switch d.Key {
		case detailCalling:
			calling = d.Value
		case detailPort:
			port = d.Value
		}
	}
	return sameness(rec.System, "", calling, port)
}

// repeats reports whether an answer to as may be given again. The caller holds the lock of the device's owner.
func (d *device) repeats(step int64, as uint64, now time.Time) bool {
	return as != 0 && step == d.last && as == d.accepted.As && !d.accepted.own && now.UnixMilli() < d.accepted.Until
}
