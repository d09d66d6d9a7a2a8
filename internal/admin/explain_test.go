package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"sallyport/internal/login"
	"sallyport/otp"
)

// step finds a guard's step.
func (e *Explained) find(guard string) (Step, bool) {
	for _, s := range e.Steps {
		if s.Guard == guard {
			return s, true
		}
	}
	return Step{}, false
}

// TestExplainDirectory: groups that only the directory knows count, and a directory that cannot be asked refuses everybody,
// as at a login (P4).
func TestExplainDirectory(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "carol", Groups: []string{"wards"}}, nil)
	d.do("token.enrol", TokenEnrol{Person: "carol", Params: otp.Default(), Active: true}, nil)
	var groups []string
	var asked bool
	var failure error
	d.service.Directory = func(context.Context, string) ([]string, bool, error) { return groups, asked, failure }
	ask := func() (e Explained) {
		t.Helper()
		d.do("explain", Explain{Person: "carol", System: "vpn"}, &e)
		return e
	}
	if e := ask(); e.Allowed || e.Reason != login.ReasonNoRule {
		t.Errorf("without a directory: %+v", e)
	} else if _, said := e.find("directory"); said {
		t.Errorf("a directory is told of that was not asked: %+v", e)
	}
	groups, asked = []string{"network"}, true
	if e := ask(); !e.Allowed || e.Rule != "network team" {
		t.Errorf("with the directory's group: %+v", e)
	} else if s, _ := e.find("directory"); !s.OK {
		t.Errorf("%+v", e)
	}
	groups, failure = nil, errors.New("connection refused")
	if e := ask(); e.Allowed || e.Reason != login.ReasonDirectoryDown {
		t.Errorf("with the directory down: %+v", e)
	} else if s, said := e.find("directory"); s.OK || !said {
		t.Errorf("%+v", e)
	}
}

// P9: a packet holds what was typed, if hidden: the record of its reading tells which it was, and holds none of it.
func TestExplainedPacketIsNotKept(t *testing.T) {
	d := newDesk(t)
	d.service.Examine = func(ExplainPacket) (Examined, error) { return Examined{Reason: "ma_bad"}, nil }
	packet := []byte("a password that is hidden, and can be guessed at")
	d.do("explain.packet", ExplainPacket{Packet: packet, Client: "vpn"}, nil)
	all := d.allRecords()
	var filter string
	for _, rec := range all {
		if rec.Event == "read.explain.packet" {
			filter = recordDetail(rec, "filter")
		}
		line := string(rec.AppendJSON(nil))
		if strings.Contains(line, base64.StdEncoding.EncodeToString(packet)[:20]) {
			t.Errorf("it is in %s", line)
		}
	}
	if sum := sha256.Sum256(packet); !strings.Contains(filter, hex.EncodeToString(sum[:])) || !strings.Contains(filter, "vpn") {
		t.Errorf("the record says %q", filter)
	}
}

// TestExplainPacket: what the adapter stops goes no further, and what it does not goes the road of a described login.
func TestExplainPacket(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	d.do("token.enrol", TokenEnrol{Person: "alice", Params: otp.Default(), Active: true}, nil)
	if e := d.refused("explain.packet", ExplainPacket{}); e == nil {
		t.Error("examined without who examines")
	}
	x := Examined{Reason: login.ReasonOK, System: "vpn", Person: "alice", Typed: `WARD\alice`, Steps: []Step{{"packet", true, ""}}}
	d.service.Examine = func(ExplainPacket) (Examined, error) { return x, nil }
	ask := func() (e Explained) {
		t.Helper()
		before := len(d.records())
		d.do("explain.packet", ExplainPacket{Packet: []byte{1}}, &e)
		if len(d.records()) != before {
			t.Error("it left a record")
		}
		return e
	}
	if e := ask(); !e.Allowed || e.Rule != "network team" || len(e.Steps) != 5 {
		t.Errorf("%+v", e)
	} else if s, _ := e.find("name"); s.Text == "" {
		t.Errorf("the realm is not told of: %+v", e)
	}
	x.Continues = true // with a challenge that was made for nobody
	if e := ask(); e.Allowed || e.Reason != login.ReasonStateUnknown {
		t.Errorf("%+v", e)
	}
	x.Reason, x.Silent = "ma_bad", true
	if e := ask(); e.Allowed || e.Reason != "ma_bad" || !e.Silent || len(e.Steps) != 1 {
		t.Errorf("%+v", e)
	}
}
