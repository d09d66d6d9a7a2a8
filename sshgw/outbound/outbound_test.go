package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestParseAlgorithms(t *testing.T) {
	t.Parallel()
	insecure := ssh.InsecureAlgorithms()
	m := algorithms(t, "modern")
	for k := range kinds {
		for _, name := range m.lists[k] {
			if strings.Contains(name, "sha1") || strings.Contains(name, "cbc") || strings.HasPrefix(name, "ssh-rsa") || strings.HasPrefix(name, "ssh-dss") {
				t.Errorf("modern has %s", name)
			}
			for _, bad := range [][]string{insecure.KeyExchanges, insecure.Ciphers, insecure.MACs, insecure.HostKeys} {
				for _, b := range bad {
					if b == name {
						t.Errorf("modern has %s, which golang.org/x/crypto/ssh calls insecure", name)
					}
				}
			}
		}
	}
	for _, c := range []struct {
		words  []string
		legacy bool
		text   string
		kex    int
		least  int
	}{
		{nil, false, "modern", 8, 2048},
		{[]string{"modern"}, false, "modern", 8, 2048},
		{[]string{"legacy"}, true, "legacy", 11, 768},
		{[]string{"aes256-ctr"}, false, "list", 8, 2048},
		{[]string{"modern", "small-rsa"}, true, "list with small-rsa", 8, 768},
		{[]string{"diffie-hellman-group1-sha1", "3des-cbc"}, true, "list with diffie-hellman-group1-sha1, 3des-cbc", 1, 2048},
		{[]string{"modern", "diffie-hellman-group1-sha1"}, true, "list with diffie-hellman-group1-sha1", 9, 2048},
		{[]string{"curve25519-sha256@libssh.org"}, false, "list", 1, 2048},
	} {
		a := algorithms(t, c.words...)
		if a.Legacy() != c.legacy || a.String() != c.text || len(a.lists[kindKeyExchange]) != c.kex || a.least != c.least {
			t.Errorf("%v: legacy %v, %q, %d key exchanges, RSA from %d; want %+v", c.words, a.Legacy(), a, len(a.lists[kindKeyExchange]), a.least, c)
		}
		for k := range kinds {
			if len(a.lists[k]) == 0 {
				t.Errorf("%v: no %s, so golang.org/x/crypto/ssh would take its defaults", c.words, kindNames[k])
			}
		}
	}
	if zero := (Algorithms{}).filled(); zero.Legacy() || len(zero.lists[kindMAC]) == 0 {
		t.Error("the zero Algorithms are not modern")
	}
	_, err := ParseAlgorithms([]string{"aes256-ctr", "rot13", "\x1b[31m"})
	if err == nil || !strings.Contains(err.Error(), `"rot13"`) || !strings.Contains(err.Error(), "3des-cbc") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("unknown names: %v", err)
	}
	if _, err := ParseAlgorithms([]string{"modern", "legacy"}); err == nil {
		t.Error("legacy in a list is accepted")
	}
}

// An old switch is refused with what it offers and what would meet it, and let in where the setting says so.
func TestOldSwitch(t *testing.T) {
	t.Parallel()
	key := sha1Only(t, rsaKey(t, 1024))
	f := newFake(t, oldSwitch, key)
	target := Target{Address: f.addr(), HostKeys: known(key), Credential: NewPassword(hunter)}

	_, err := try(t, target, Options{})
	var none *NoCommonAlgorithm
	if !errors.As(err, &none) {
		t.Fatalf("modern: %v", err)
	}
	const needs = "algorithms: legacy, or just what it needs: algorithms: [modern, diffie-hellman-group1-sha1, ssh-rsa, 3des-cbc, hmac-sha1]"
	if len(none.Lacking) != 4 || !strings.Contains(none.Hint(), needs) || !strings.Contains(err.Error(), "key exchange: it offers diffie-hellman-group1-sha1;") {
		t.Errorf("modern: %v\nhint: %s", err, none.Hint())
	}

	target.Algorithms = algorithms(t, "modern", "diffie-hellman-group1-sha1", "ssh-rsa", "3des-cbc", "hmac-sha1")
	_, err = try(t, target, Options{})
	var weak *WeakHostKey
	if !errors.As(err, &weak) || weak.Bits != 1024 || !strings.Contains(weak.Hint(), "small-rsa") {
		t.Fatalf("a small key: %v", err)
	}
	if f.tried() != 0 {
		t.Fatal("the password was shown to a target that was refused")
	}
	want := []string{"diffie-hellman-group1-sha1", "ssh-rsa", "3des-cbc", "hmac-sha1", "rsa-1024"}
	for _, words := range [][]string{
		{"legacy"},
		{"modern", "diffie-hellman-group1-sha1", "ssh-rsa", "3des-cbc", "hmac-sha1", "small-rsa"},
		{"diffie-hellman-group1-sha1", "ssh-rsa", "3des-cbc", "hmac-sha1", "small-rsa"},
	} {
		target.Algorithms = algorithms(t, words...)
		info, err := try(t, target, Options{})
		if err != nil {
			t.Errorf("%v: %v", words, err)
		} else if !sameSet(info.Legacy, want) || info.Key != KeyOf(key.PublicKey()) {
			t.Errorf("%v: legacy %v of %+v, want %v", words, info.Legacy, info, want)
		}
	}
	// The list is meant as it stands.
	target.Algorithms = algorithms(t, "diffie-hellman-group14-sha1", "ssh-rsa", "3des-cbc", "hmac-sha1", "small-rsa")
	if _, err = try(t, target, Options{}); !errors.As(err, &none) || len(none.Lacking) != 1 || none.Lacking[0].Kind != "key exchange" {
		t.Errorf("a list without the key exchange: %v", err)
	}
}

// crypto/rsa refuses keys below 1,024 bits unless the program says otherwise, as cmd/sallyport does.
func TestTinyRSA(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	key := rsaKey(t, 768)
	f := newFake(t, nil, key)
	target := Target{Address: f.addr(), HostKeys: known(key), Credential: NewPassword(hunter), Algorithms: algorithms(t, "legacy")}
	info, err := try(t, target, Options{})
	if err != nil || !sameSet(info.Legacy, []string{"rsa-768"}) {
		t.Errorf("768 bits by legacy: %v, %v", info.Legacy, err)
	}
	target.Algorithms = Algorithms{}
	var weak *WeakHostKey
	if _, err = try(t, target, Options{}); !errors.As(err, &weak) {
		t.Errorf("768 bits by modern: %v", err)
	}
	tiny := rsaKey(t, 752)
	g := newFake(t, nil, tiny)
	target = Target{Address: g.addr(), HostKeys: known(tiny), Credential: NewPassword(hunter), Algorithms: algorithms(t, "legacy")}
	if _, err = try(t, target, Options{}); !errors.As(err, &weak) {
		t.Errorf("752 bits by legacy: %v", err)
	}
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	ed, ec, rs, other, ds := edKey(t), ecKey(t), rsaKey(t, 2048), edKey(t), dsaKey(t)
	print := func(s ssh.Signer) Key { return Key{Fingerprint: ssh.FingerprintSHA256(s.PublicKey())} }
	full := func(s ssh.Signer) Key { return KeyOf(s.PublicKey()) }
	for name, c := range map[string]struct {
		target []ssh.Signer
		known  HostKeys
		words  []string
		want   string // type of the error; "": let in
		key    ssh.Signer
		dials  int
	}{
		"nothing known":               {[]ssh.Signer{ed}, HostKeys{}, nil, "*outbound.UnknownHostKey", ed, 1},
		"approved":                    {[]ssh.Signer{ed}, known(ed), nil, "", ed, 1},
		"pinned by fingerprint":       {[]ssh.Signer{ed}, HostKeys{Pinned: []Key{print(ed)}}, nil, "", ed, 1},
		"pinned by key":               {[]ssh.Signer{ed}, HostKeys{Pinned: []Key{full(ed)}}, nil, "", ed, 1},
		"one of several":              {[]ssh.Signer{ed}, known(other, ed, rs), nil, "", ed, 1},
		"changed":                     {[]ssh.Signer{ed}, known(other), nil, "*outbound.ChangedHostKey", ed, 1},
		"changed though only type":    {[]ssh.Signer{ec}, known(ed), nil, "*outbound.ChangedHostKey", ec, 1},
		"known RSA beside ed25519":    {[]ssh.Signer{ed, ec, rs}, known(rs), nil, "", rs, 1},
		"known ecdsa beside ed25519":  {[]ssh.Signer{ed, ec, rs}, known(ec), nil, "", ec, 1},
		"RSA known by print alone":    {[]ssh.Signer{ed, ec, rs}, HostKeys{Pinned: []Key{print(rs)}}, nil, "", rs, 3},
		"another known by print":      {[]ssh.Signer{ed, ec, rs}, HostKeys{Pinned: []Key{print(other)}}, nil, "*outbound.ChangedHostKey", ed, 4},
		"revoked":                     {[]ssh.Signer{ed}, HostKeys{Revoked: []Key{print(ed)}}, nil, "*outbound.RevokedHostKey", ed, 1},
		"revoked and approved":        {[]ssh.Signer{ed}, HostKeys{Approved: []Key{full(ed)}, Revoked: []Key{print(ed)}}, nil, "*outbound.RevokedHostKey", ed, 1},
		"revoked and pinned":          {[]ssh.Signer{ed}, HostKeys{Pinned: []Key{full(ed)}, Revoked: []Key{full(ed)}}, nil, "*outbound.RevokedHostKey", ed, 1},
		"another one revoked":         {[]ssh.Signer{ed}, HostKeys{Approved: []Key{full(ed)}, Revoked: []Key{full(other)}}, nil, "", ed, 1},
		"nothing but a revoked known": {[]ssh.Signer{ed}, HostKeys{Revoked: []Key{full(other)}}, nil, "*outbound.UnknownHostKey", ed, 1},
		"DSA by legacy":               {[]ssh.Signer{ds}, known(ds), []string{"legacy"}, "", ds, 1},
		"DSA by modern":               {[]ssh.Signer{ds}, known(ds), nil, "*outbound.NoCommonAlgorithm", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, nil, c.target...)
			dials := 0
			count := func(ctx context.Context, network, address string) (net.Conn, error) {
				dials++
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			info, err := try(t, Target{Address: f.addr(), HostKeys: c.known, Credential: NewPassword(hunter), Algorithms: algorithms(t, c.words...)}, Options{Dial: count})
			got := ""
			if err != nil {
				got = fmt.Sprintf("%T", err)
			}
			if got != c.want || dials != c.dials {
				t.Errorf("%s after %d dials (%v), want %q after %d", got, dials, err, c.want, c.dials)
			}
			if c.key != nil && info.Key != KeyOf(c.key.PublicKey()) {
				t.Errorf("info has key %+v, want %+v", info.Key, KeyOf(c.key.PublicKey()))
			}
			if c.want != "" && f.tried() != 0 {
				t.Error("the password was shown to a target that was refused")
			}
			if hinted, ok := err.(interface{ Hint() string }); err != nil && (!ok || hinted.Hint() == "") {
				t.Errorf("%v has no hint", err)
			}
		})
	}
}

func TestParseHostKey(t *testing.T) {
	t.Parallel()
	key := edKey(t).PublicKey()
	line, print := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), ssh.FingerprintSHA256(key)
	for _, c := range []struct {
		line    string
		want    Key
		revoked bool
		bad     bool
	}{
		{line: print, want: Key{Fingerprint: print}},
		{line: line, want: Key{print, "ssh-ed25519"}},
		{line: line + " root@sw1", want: Key{print, "ssh-ed25519"}},
		{line: "@revoked " + print, want: Key{Fingerprint: print}, revoked: true},
		{line: "@revoked\t" + line, want: Key{print, "ssh-ed25519"}, revoked: true},
		{line: "@revoked", bad: true},
		{line: "@revoked" + print, bad: true},
		{line: "@cert-authority " + line, bad: true},
		{line: "SHA256:short", bad: true},
		{line: print + "=", bad: true},
		{line: "no-pty " + line, bad: true},
		{line: line + "\n" + line, bad: true},
		{line: "", bad: true},
	} {
		got, revoked, err := ParseHostKey(c.line)
		if (err != nil) != c.bad || got != c.want || revoked != c.revoked {
			t.Errorf("%q: %+v, revoked %v, %v; want %+v", c.line, got, revoked, err, c)
		}
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	ed, ec, rs := edKey(t), ecKey(t), rsaKey(t, 2048)
	f := newFake(t, nil, rs, ec, ed)
	keys, err := Scan(t.Context(), Target{Name: "sw1", Address: f.addr()}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range keys {
		got = append(got, ssh.FingerprintSHA256(k))
	}
	if want := []string{ssh.FingerprintSHA256(ed.PublicKey()), ssh.FingerprintSHA256(ec.PublicKey()), ssh.FingerprintSHA256(rs.PublicKey())}; !sameSet(got, want) {
		t.Errorf("scanned %v, want %v", got, want)
	}
	if f.tried() != 0 {
		t.Error("a scan tried to log in")
	}
}

// hostile speaks as the test says, and then says nothing more.
func hostile(t *testing.T, speak func(net.Conn)) Dialer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		speak(conn)
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	}
}

// wait reads until the other side has closed.
func wait(conn net.Conn) {
	var b [4096]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			return
		}
	}
}

// drip sends the same for as long as anybody listens.
func drip(conn net.Conn, text string) {
	go wait(conn)
	for {
		if _, err := conn.Write([]byte(text)); err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// A target that hangs, is slow, or talks nonsense ends within the limit of the step, which is named.
func TestHostileTargets(t *testing.T) {
	t.Parallel()
	const short = 100 * time.Millisecond
	long := time.Minute
	for name, c := range map[string]struct {
		speak   func(net.Conn)
		times   Times
		step    Step
		timeout bool
	}{
		"silent":             {wait, Times{Version: short, Exchange: long}, StepVersion, true},
		"dripping lines":     {func(c net.Conn) { drip(c, "x\r\n") }, Times{Version: short, Exchange: long}, StepVersion, true},
		"dripping no line":   {func(c net.Conn) { drip(c, "x") }, Times{Version: long}, StepVersion, false},
		"closes at once":     {func(net.Conn) {}, Times{}, StepVersion, false},
		"HTTP":               {func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, Times{}, StepVersion, false},
		"SSH 1":              {func(c net.Conn) { fmt.Fprint(c, "SSH-1.5-old\r\n"); wait(c) }, Times{Exchange: short}, StepExchange, true},
		"version, then mute": {func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-mute\r\n"); wait(c) }, Times{Version: long, Exchange: short}, StepExchange, true},
		"version, then drip": {func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-drip\r\n\x00\x00\x7f\x00"); drip(c, "\x00") }, Times{Version: long, Exchange: short}, StepExchange, true},
		"version, then junk": {func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-junk\r\n", strings.Repeat("junk", 100)); wait(c) }, Times{}, StepExchange, false},
		"huge packet":        {func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-huge\r\n\x7f\xff\xff\xff\x00"); wait(c) }, Times{}, StepExchange, false},
		"escapes": {func(c net.Conn) {
			fmt.Fprint(c, "\x1b]0;x\a\r\nSSH-2.0-\x1b[31m\r\n\x00\x00\x00\x0c\x04\x01\x1b]0;")
			wait(c)
		}, Times{Exchange: short}, StepExchange, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			_, err := try(t, Target{Address: "x:22", Credential: NewPassword(hunter)}, Options{Dial: hostile(t, c.speak), Times: c.times})
			var failed *Failed
			if !errors.As(err, &failed) || failed.Step != c.step || failed.Timeout() != c.timeout {
				t.Errorf("%v; want a failure at %s, timeout %v", err, c.step, c.timeout)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\a\r\n") {
				t.Errorf("the error has control characters: %q", err)
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestConnectFails(t *testing.T) {
	t.Parallel()
	stuck := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	_, err := try(t, Target{Address: "x:22", Credential: NewPassword(hunter)}, Options{Dial: stuck, Times: Times{Connect: time.Millisecond}})
	var failed *Failed
	if !errors.As(err, &failed) || failed.Step != StepConnect || !failed.Timeout() {
		t.Errorf("a dial that hangs: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = Dial(ctx, Target{Name: "sw1", Address: "x:22", Credential: NewPassword(hunter)}, Options{Dial: stuck}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled dial: %v", err)
	}
	if _, err = try(t, Target{Address: "x:22"}, Options{Dial: hostile(t, wait)}); err == nil {
		t.Error("no credential, and no error")
	}
}

// A login that its caller gives up ends, whatever it waits for.
func TestCancelledWhileUnderWay(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	dial := hostile(t, func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-mute\r\n"); cancel(); wait(c) })
	_, _, err := Dial(ctx, Target{Name: "sw1", Address: "x:22", Credential: NewPassword(hunter)}, Options{Dial: dial})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// The sniffer survives whatever a target sends.
func FuzzSniffer(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x04\x14aaaaaaaaaaaaaaaaaaaaaaaa"))
	f.Add([]byte("hello\nSSH-2.0-x\n\x00\x00\x00\x01\xff\x14"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &sniffer{version: func() {}}
		for len(b) > 0 && !s.done {
			n := min(len(b), 7)
			s.said = append(s.said, b[:n]...)
			s.look()
			b = b[n:]
		}
		if len(s.said) > maxSniffed+7 {
			t.Fatalf("%d bytes are kept", len(s.said))
		}
	})
}
