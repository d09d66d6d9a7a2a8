package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/login"
	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

// challenge answers every request with a challenge.
func challenge(fill ...func(*wire.Writer)) func(*exchangetest.Fake, exchangetest.Request) {
	return func(f *exchangetest.Fake, r exchangetest.Request) {
		f.Send(r, f.Reply(r, wire.CodeAccessChallenge, fill...))
	}
}

func add(t byte, value []byte) func(*wire.Writer) {
	return func(w *wire.Writer) { w.Add(t, value) }
}

// What a further question shows is readable, harmless and bounded, whatever the server sends.
func TestPrompt(t *testing.T) {
	t.Parallel()
	pieces := func(texts ...string) func(w *wire.Writer) {
		return func(w *wire.Writer) {
			for _, text := range texts {
				w.Add(wire.AttrReplyMessage, []byte(text))
			}
		}
	}
	long := strings.Repeat("x", wire.MaxValue-1)
	for _, c := range []struct {
		name string
		fill func(*wire.Writer)
		want string
	}{
		{"none", pieces(), ""},
		{"one", pieces("Enter your code: "), "Enter your code:"},
		{"several", pieces("Enter", "your code:"), "Enter your code:"},
		{"a character over two", pieces(long+"\xc3", "\xa9t\xc3\xa9"), long + "été"},
		{"lines", pieces("one\r\ntwo\n\n\tthree\x00"), "one two three"},
		{"escapes", pieces("\x1b[2Jcode\x07\u009b31m"), "[2Jcode 31m"},
		{"other direction", pieces("a\u202eb\u2066c\u200bd\ufeff"), "abcd"},
		{"no UTF-8", pieces("caf\xe9"), "caf\ufffd"},
		{"only what cannot be read", pieces("\x01\x02\u200b"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := nps(t, challenge(c.fill))
			if got := start(t, []string{f.Addr()}).further(c.name, pap("alice", password)); got.Prompt != c.want {
				t.Errorf("%q, want %q", got.Prompt, c.want)
			}
		})
	}
	t.Run("a hundred", func(t *testing.T) {
		t.Parallel()
		f := nps(t, challenge(pieces(append(bytesOf("Grüße ", 100), "\x1b[0m")...)))
		got := start(t, []string{f.Addr()}).further("a hundred", pap("alice", password)).Prompt
		sound(t, got)
		if len(got) < maxPrompt/2 {
			t.Errorf("only %d bytes are left", len(got))
		}
	})
	t.Run("all that a packet holds", func(t *testing.T) {
		t.Parallel()
		f := nps(t, challenge(pieces(bytesOf(strings.Repeat("é", 126), 15)...)))
		sound(t, start(t, []string{f.Addr()}).further("much", pap("alice", password)).Prompt)
	})
}

func bytesOf(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// sound is what every prompt must be.
func sound(t testing.TB, prompt string) {
	t.Helper()
	if len(prompt) > maxPrompt || !utf8.ValidString(prompt) {
		t.Errorf("%d bytes, valid: %v", len(prompt), utf8.ValidString(prompt))
	}
	for _, r := range prompt {
		if !unicode.IsPrint(r) {
			t.Errorf("%q is in %q", r, prompt)
		}
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		prompt []byte
		want   bool
	}{
		{"absent", nil, false},
		{"no echo", []byte{0, 0, 0, 0}, false},
		{"echo", []byte{0, 0, 0, 1}, true},
		{"neither", []byte{0, 0, 0, 2}, false},
		{"no number", []byte{1}, false},
	} {
		f := nps(t, challenge(add(wire.AttrPrompt, c.prompt)))
		if got := start(t, []string{f.Addr()}).further(c.name, pap("alice", password)); got.Echo != c.want {
			t.Errorf("%s: %v", c.name, got.Echo)
		}
	}
}

// A State is given back unmodified, to the server that sent it, also by another gateway with other servers before it. One
// that a State of ours has no room for is refused, with the reason.
func TestState(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 16, maxState, maxState + 1, wire.MaxValue} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			state := bytes.Repeat([]byte{0, 0xff, 7}, wire.MaxValue)[:n]
			f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) {
				if f.Password(r) == password {
					challenge(add(wire.AttrState, state))(f, r)
					return
				}
				f.Send(r, f.Reply(r, wire.CodeAccessAccept))
			})
			other := nps(t, judge)
			r := start(t, []string{f.Addr()})
			if n > maxState {
				err := r.fails("too long", pap("alice", password), login.ErrUnavailable)
				if !strings.Contains(err.Error(), fmt.Sprintf("State of %d octets", n)) || !strings.Contains(err.Error(), f.Addr()) {
					t.Errorf("it does not say why: %v", err)
				}
				return
			}
			q := pap("alice", "123456")
			q.More = r.further("first", pap("alice", password)).State
			start(t, []string{other.Addr(), f.Addr()}).passes("at another gateway", q)
			got := requests(f)
			if len(got) != 2 || attribute(got[1], wire.AttrState) != string(state) || attribute(got[1], wire.AttrUserName) != "alice" {
				t.Errorf("%d requests, the last with State %x", len(got), attribute(got[len(got)-1], wire.AttrState))
			}
			if got[1].State.Present() != (n > 0) || attribute(got[0], wire.AttrState) != "" {
				t.Error("a State where there should be none")
			}
		})
	}
}

// An answer to a further question goes to the server that asked, and to no other.
func TestStateOfAServerThatIsGone(t *testing.T) {
	t.Parallel()
	asker := nps(t, challenge(add(wire.AttrState, []byte("state"))))
	other := nps(t, judge)
	r := start(t, []string{asker.Addr(), other.Addr()})
	q := pap("alice", password)
	q.More = r.further("first", pap("alice", password)).State
	asker.Close()
	err := r.fails("the asker is gone", q, login.ErrUnavailable)
	if !strings.Contains(err.Error(), asker.Addr()) || strings.Contains(err.Error(), other.Addr()) {
		t.Errorf("%v", err)
	}
	r.fails("and is put aside", q, login.ErrUnavailable)
	if n := len(requests(other)); n != 0 {
		t.Errorf("another server got %d requests", n)
	}
	r.passes("a new login", pap("alice", password))

	elsewhere := start(t, []string{other.Addr()})
	err = elsewhere.fails("a server that is not configured", q, login.ErrUnavailable)
	if !strings.Contains(err.Error(), "not configured") {
		t.Errorf("%v", err)
	}
	for _, more := range [][]byte{{}, q.More[:stateAt-1], make([]byte, login.MaxMore+1), bytes.Replace(q.More, q.More[tagSize:tagSize+1], []byte{2}, 1)} {
		q.More = more
		r.fails("a state that is none", q, login.ErrUnavailable)
	}
}

// P6: nobody is let in, whatever a server says. Strangers are asked about as they typed, people who are to be spared by names
// that cannot exist, each time another; the requests are alike.
func TestNobody(t *testing.T) {
	t.Parallel()
	f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) { f.Send(r, f.Reply(r, wire.CodeAccessAccept)) })
	r := start(t, []string{f.Addr()})
	typed := login.NewSecret(password)
	r.fails("a stranger", login.Question{Name: "Mallory", Password: typed}, login.ErrWrong)
	r.fails("spared", login.Question{Password: typed}, login.ErrWrong)
	r.fails("spared again", login.Question{Password: typed}, login.ErrWrong)
	r.fails("a long name", login.Question{Person: "x", Name: strings.Repeat("x", wire.MaxValue+1), Password: typed}, login.ErrWrong)
	r.fails("no password", pap("alice", ""), login.ErrWrong)
	r.fails("a NUL", pap("alice", "x\x00y"), login.ErrWrong)
	r.fails("evidence that is none", login.Question{Person: "alice", Name: "alice", Evidence: 1}, login.ErrWrong)
	r.passes("without a name as typed", login.Question{Person: "alice", Password: typed})
	got := requests(f)
	names := make(map[string]bool)
	for i, r := range got {
		name := attribute(r, wire.AttrUserName)
		switch i {
		case 0:
			if name != "Mallory" {
				t.Errorf("the stranger's name is %q", name)
			}
		case 7:
			if name != "alice" {
				t.Errorf("the person's name is %q", name)
			}
		default:
			if names[name] || !strings.HasPrefix(name, nobodyName) || len(name) != len(nobodyName)+2*nonceSize {
				t.Errorf("request %d is about %q", i, name)
			}
			names[name] = true
		}
		if !r.View.Password.Present() || attribute(r, wire.AttrNASIdentifier) != DefaultNASIdentifier {
			t.Errorf("request %d is not like the others", i)
		}
	}
	if len(got) != 8 {
		t.Errorf("%d requests", len(got))
	}
	if f.Password(got[1]) != password || f.Password(got[4]) == "" {
		t.Error("the work is not the same")
	}
}

// A conversation about nobody stays one, with the same name, and lets nobody in; one about a person who must be spared in the
// middle of it goes on about nobody, without his State.
func TestNobodyIsAskedOn(t *testing.T) {
	t.Parallel()
	f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) {
		switch f.Password(r) {
		case "accept":
			f.Send(r, f.Reply(r, wire.CodeAccessAccept))
		default:
			challenge(add(wire.AttrState, []byte("state")))(f, r)
		}
	})
	r := start(t, []string{f.Addr()})
	spared := login.Question{Password: login.NewSecret(password)}
	person := pap("alice", password)
	spared.More = r.further("spared", spared).State
	spared.More = r.further("spared, asked on", spared).State
	person.More = spared.More
	person.Password = login.NewSecret("accept")
	r.fails("alice with nobody's conversation", person, login.ErrWrong)

	person = pap("alice", password)
	more := r.further("a person", person).State
	spared.More = more
	spared.Password = login.NewSecret("accept")
	r.fails("spared in the middle", spared, login.ErrWrong)

	got := requests(f)
	name := func(i int) string { return attribute(got[i], wire.AttrUserName) }
	if len(got) != 5 || name(0) != name(1) || name(1) != name(2) || !strings.HasPrefix(name(0), nobodyName) {
		t.Errorf("%d requests: %q %q %q", len(got), name(0), name(1), name(2))
	}
	if attribute(got[1], wire.AttrState) != "state" || attribute(got[2], wire.AttrState) != "state" {
		t.Error("nobody's State is not given back")
	}
	if name(4) == name(0) || !strings.HasPrefix(name(4), nobodyName) || got[4].State.Present() {
		t.Errorf("spared in the middle: %q, State %q", name(4), attribute(got[4], wire.AttrState))
	}
}

// A stranger is asked on by the name that he typed, as everybody is.
func TestStrangerIsAskedOn(t *testing.T) {
	t.Parallel()
	f := nps(t, challenge(add(wire.AttrState, []byte("state"))))
	r := start(t, []string{f.Addr()})
	q := login.Question{Name: "mallory", Password: login.NewSecret(password)}
	q.More = r.further("a stranger", q).State
	r.further("a stranger, asked on", q)
	if got := requests(f); len(got) != 2 || attribute(got[1], wire.AttrUserName) != "mallory" || attribute(got[1], wire.AttrState) != "state" {
		t.Errorf("%d requests", len(got))
	}
}

// Responses go on as they are, under the name of the question, or the same as it was hashed; never under another.
func TestEvidence(t *testing.T) {
	t.Parallel()
	f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) { f.Send(r, f.Reply(r, wire.CodeAccessAccept)) })
	r := start(t, []string{f.Addr()})
	for _, c := range []struct{ name, hashed, want string }{
		{"alice", "alice", "alice"},
		{"alice", "ALICE", "ALICE"},
		{"CORP\\alice", "corp\\Alice", "corp\\Alice"},
		{"CORP\\alice", "alice", "CORP\\alice"},
		{"alice", "mallory", "alice"},
		{"susan", "\u017fusan", "susan"}, // folds to it in Unicode
		{"alice", "", "alice"},
	} {
		e := &wire.MSCHAPv2{UserName: c.hashed, Challenge: []byte("0123456789abcdef")}
		copy(e.Response[:], bytes.Repeat([]byte("response"), 7))
		before := len(requests(f))
		r.passes(c.hashed, login.Question{Person: "p", Name: c.name, Evidence: e})
		got := requests(f)[before]
		if name := attribute(got, wire.AttrUserName); name != c.want {
			t.Errorf("%q hashed as %q is asked about as %q, want %q", c.name, c.hashed, name, c.want)
		}
		if got.MSChallenge.Text(got.Packet) != string(e.Challenge) || got.MSResponse2.Text(got.Packet) != string(e.Response[:]) || got.View.Password.Present() {
			t.Error("the response is not handed on")
		}
	}
	before := len(requests(f))
	r.passes("CHAP", login.Question{Person: "p", Name: "p", Evidence: &wire.CHAP{ID: 9, Response: [16]byte{1, 2}, Challenge: []byte("c")}})
	got := requests(f)[before]
	if got.CHAP.Text(got.Packet) != "\x09\x01\x02"+strings.Repeat("\x00", 14) || got.CHAPChallenge.Text(got.Packet) != "c" || got.View.Password.Present() {
		t.Error("the CHAP response is not handed on")
	}
}

// What a NAS needs is handed on in clear; what belongs to one hop never is, whatever Relay says.
func TestExtra(t *testing.T) {
	t.Parallel()
	ms := func(t byte, value string) wire.Attribute {
		return wire.Attribute{Vendor: wire.VendorMicrosoft, Type: t, Value: []byte(value)}
	}
	send, recv := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 32)
	f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) {
		f.Send(r, f.Reply(r, wire.CodeAccessAccept, func(w *wire.Writer) {
			for _, a := range []wire.Attribute{
				{Type: wire.AttrClass, Value: []byte("one")},
				{Type: wire.AttrState, Value: []byte("hop")},
				{Type: wire.AttrProxyState, Value: []byte("hop")},
				{Type: attrTunnelPassword, Value: []byte("hop")},
				{Type: wire.AttrCHAPChallenge, Value: []byte("hop")},
				ms(26, "\x05S=0123"), ms(2, "hop"), ms(msMPPEKeys, "hop"), ms(7, "\x00\x00\x00\x02"),
				ms(16, string(f.Salted(r, 1, send))), ms(17, string(f.Salted(r, 2, recv))),
				{Vendor: 9, Type: 1, Value: []byte("two")},
			} {
				w.AddAttribute(a)
			}
			w.AddEncoded([]byte{wire.AttrClass, 2}) // an empty one, which RADIUS does not have
		}))
	})
	got := extraOf(t, start(t, []string{f.Addr()}, func(o *Options) {
		o.Relay = func(uint32, byte) bool { return true }
	}).passes("all", pap("alice", password)))
	want := &wire.Extra{
		MSCHAP2Success: []byte("\x05S=0123"), SendKey: send, RecvKey: recv,
		Attributes: []wire.Attribute{{Type: wire.AttrClass, Value: []byte("one")}, ms(7, "\x00\x00\x00\x02"), {Vendor: 9, Type: 1, Value: []byte("two")}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("handed on: %+v\nwant %+v", got, want)
	}
	r := start(t, []string{f.Addr()})
	if got := extraOf(t, r.passes("what was not asked for", pap("alice", password))); len(got.Attributes) != 0 || len(got.SendKey) != 16 {
		t.Errorf("handed on: %+v", got)
	}

	broken := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) {
		f.Send(r, f.Reply(r, wire.CodeAccessAccept, func(w *wire.Writer) { w.AddAttribute(ms(16, "not salted")) }))
	})
	err := start(t, []string{broken.Addr()}).fails("a key that cannot be read", pap("alice", password), login.ErrUnavailable)
	if !strings.Contains(err.Error(), "MS-MPPE") || !strings.Contains(err.Error(), broken.Addr()) {
		t.Errorf("%v", err)
	}
}

// A refusal is a wrong password; what MS-CHAP says of it goes along, without what a terminal would obey.
func TestRejected(t *testing.T) {
	t.Parallel()
	const text = "E=648 R=0 C=00112233445566778899AABBCCDDEEFF V=3 M=Password expired"
	for _, c := range []struct{ value, want string }{
		{"", ""}, {"\x05", ""}, {"\x05" + text, text}, {"\x05" + text + "\x1b[2J\n", text + " [2J"},
	} {
		f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) {
			f.Send(r, f.Reply(r, wire.CodeAccessReject, func(w *wire.Writer) {
				w.AddText(wire.AttrReplyMessage, "no")
				w.AddAttribute(wire.Attribute{Vendor: wire.VendorMicrosoft, Type: wire.MicrosoftCHAPError, Value: []byte(c.value)})
			}))
		})
		err := start(t, []string{f.Addr()}).fails("refused", pap("alice", password), login.ErrWrong)
		var refusal *Rejected
		if errors.As(err, &refusal) != (c.want != "") || refusal != nil && refusal.MSCHAPError != c.want {
			t.Errorf("%q: %+v", c.value, refusal)
		}
	}
}

// FuzzAnswer has a server answer with any attributes: no bytes panic or let nobody in, and a further question is always
// bounded and readable.
func FuzzAnswer(f *testing.F) {
	type reply struct {
		code       byte
		attributes []byte
	}
	var next atomic.Pointer[reply]
	server := exchangetest.NewFake(f, testSecret, func(fake *exchangetest.Fake, r exchangetest.Request) {
		if r.Packet[0] == wire.CodeAccessRequest {
			next := next.Load()
			fake.Send(r, fake.Reply(r, next.code, func(w *wire.Writer) { w.AddEncoded(next.attributes) }))
		}
	})
	r := start(f, []string{server.Addr()}, func(o *Options) {
		o.Timeout = 2 * time.Second
		o.Relay = func(uint32, byte) bool { return true }
	})
	f.Add(byte(2), []byte{26, 12, 0, 0, 1, 55, 16, 6, 1, 2, 3, 4})
	f.Add(byte(11), append([]byte{18, 6, 'p', 0x1b, '[', 0xff}, 24, 4, 1, 2, 76, 6, 0, 0, 0, 1))
	f.Add(byte(3), []byte{26, 9, 0, 0, 1, 55, 2, 3, 5})
	f.Fuzz(func(t *testing.T, c byte, b []byte) {
		b = b[:min(len(b), wire.MaxPacket-64)]
		// Only what is well-formed comes as far as this; the exchange's own target has the rest.
		packet := append(make([]byte, wire.HeaderSize), 80, 18)
		packet = append(append(packet, make([]byte, 16)...), b...)
		var v wire.View
		if v.Parse(packet) != wire.None {
			return
		}
		code := []byte{2, 3, 11}[c%3]
		next.Store(&reply{code, b})
		answer, err := r.Check(t.Context(), pap("alice", password))
		switch {
		case err != nil && !errors.Is(err, login.ErrWrong) && !errors.Is(err, login.ErrUnavailable):
			t.Fatal(err)
		case err == nil && answer.More == nil && code != wire.CodeAccessAccept:
			t.Fatalf("code %d let alice in", code)
		case answer.More != nil:
			sound(t, answer.More.Prompt)
			if len(answer.More.State) > login.MaxMore {
				t.Fatalf("a state of %d bytes", len(answer.More.State))
			}
		}
		if _, err := r.Check(t.Context(), login.Question{Name: "alice", Password: login.NewSecret(password)}); err == nil && code == wire.CodeAccessAccept {
			t.Fatal("nobody was let in")
		}
	})
}
