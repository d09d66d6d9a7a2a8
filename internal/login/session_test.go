package login

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
)

// report is what the NAS of vpn says.
func (b *bench) report(stage Stage, name, session string, detail ...Detail) audit.Record {
	b.t.Helper()
	a := b.attempt()
	a.ID, a.Name, a.Detail = "", name, detail
	receipt, err := b.gate.AskAccounting(Accounting{Attempt: a, Stage: stage, NAS: "nas1", Session: session, Reason: "none"}).Wait()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.record(receipt.Seq())
}

// live are the sessions, as "person at NAS's word".
func (b *bench) live(want ...string) {
	b.t.Helper()
	var got []string
	for _, s := range b.gate.Sessions() {
		got = append(got, s.Person+" "+s.Get(DetailSession))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		b.t.Fatalf("live: %q, want %q", got, want)
	}
}

// What sessions are live follows from the records, also after a restart, with and without a snapshot.
func TestSessions(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		b := newBench(t)
		restart := func() {
			if snapshot {
				if err := b.gate.Snapshot(b.log.Snapshot); err != nil {
					t.Fatal(err)
				}
			}
			b.restart()
		}
		first := b.report(Starts, "alice", "1", Detail{"framed_ip", "10.0.0.1"})
		b.report(Starts, "bob", "2")
		b.report(Starts, "hunter2!", "3") // somebody whom the gateway does not know
		b.live(" 3", "alice 1", "bob 2")
		restart()
		b.live(" 3", "alice 1", "bob 2")
		b.advance(time.Minute)
		update := b.report(GoesOn, "alice", "1", Detail{"bytes_in", "100"}, Detail{"framed_ip", "10.0.0.2"})
		if update.Session != first.Session || update.Event != EventSessionUpdate {
			t.Errorf("an update is of %s (%s), the start of %s", update.Session, update.Event, first.Session)
		}
		again := b.report(Starts, "alice", "1")
		if again.Session != first.Session || again.Event != EventSessionStart {
			t.Errorf("a start that is reported again is of %s, the start of %s", again.Session, first.Session)
		}
		s := b.gate.Sessions()[0]
		if s.ID != first.Session || s.Person != "alice" || !s.Started.Equal(noon) || !s.Seen.Equal(noon.Add(time.Minute)) || s.System != "vpn" {
			t.Errorf("%+v", s)
		}
		other := b.report(Starts, "bob", "1") // the NAS uses its word again
		if other.Session == first.Session {
			t.Error("two people have one session")
		}
		b.live(" 3", "bob 1", "bob 2")
		end := b.report(Ends, "bob", "2")
		if end.Event != EventSessionEnd || end.Session == other.Session {
			t.Errorf("end: %+v", end)
		}
		b.report(Ends, "bob", "2") // reported again, or never begun: recorded all the same
		heard := b.report(GoesOn, "alice", "9")
		if heard.Event != EventSessionStart {
			t.Errorf("a session first heard of in an update is %s", heard.Event)
		}
		restart()
		b.live(" 3", "alice 9", "bob 1")
		b.report(NASOn, "", "")
		b.live()
		restart()
		b.live()
	}
}

// Sessions of the gateway's own do not outlive it, and the record says so.
func TestOrphans(t *testing.T) {
	b := newBench(t)
	a := b.attempt()
	a.Protocol = "ssh"
	b.report(Starts, "bob", "1")
	if _, err := b.gate.Note(t.Context(), Event{Event: EventSessionStart, Result: audit.Info, Session: NewID(), Attempt: a}); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.live("alice ", "bob 1")
	if err := b.gate.EndOrphans("ssh", nil); err != nil {
		t.Fatal(err)
	}
	b.live("bob 1")
	b.restart()
	b.live("bob 1")
}

// P7: what a NAS makes up takes no more memory than is allowed for.
func TestSessionsAreBounded(t *testing.T) {
	s := newSessions()
	for i := range MaxSessions + 10 {
		s.put(&Session{ID: fmt.Sprint(i), Detail: []Detail{{DetailSession, fmt.Sprint(i)}}})
	}
	if len(s.byID) != MaxSessions || len(s.byKey) != MaxSessions {
		t.Errorf("%d and %d", len(s.byID), len(s.byKey))
	}
	if !strings.Contains(sessionKey("a", "b", "c"), "\x00") {
		t.Error("parts of a key run together")
	}
}
