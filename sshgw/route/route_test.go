package route

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile names are put where a name is expected.
var hostile = []string{
	"", "\x00", "alice\x00", "alice\nroot", "\x1b[31malice", "al ice", "\xff\xfe", "álice", "..", "-oProxyCommand=x",
	strings.Repeat("a", 64<<10), strings.Repeat("@", 300), "alice@", "@alice", "a@@b", "a@b@c@d", "%", "a%%b", "alice@\x00",
}

func TestParseUser(t *testing.T) {
	for _, c := range []struct {
		name string
		want User
		bad  bool
	}{
		{name: "alice", want: User{Person: "alice"}},
		{name: "alice@core-sw1", want: User{Person: "alice", Target: "core-sw1"}},
		{name: "alice%core-sw1", want: User{Person: "alice", Target: "core-sw1"}},
		{name: "alice@root@srv1", want: User{Person: "alice", Account: "root", Target: "srv1"}},
		{name: "alice%root%srv1", want: User{Person: "alice", Account: "root", Target: "srv1"}},
		{name: "alice%root@srv1", want: User{Person: "alice", Account: "root", Target: "srv1"}},
		{name: "Alice", want: User{Person: "Alice"}},
		{name: "DOMAIN\\alice", want: User{Person: "DOMAIN\\alice"}},
		{name: "", bad: true},
		{name: "@", bad: true},
		{name: "alice@", bad: true},
		{name: "@srv1", bad: true},
		{name: "alice@@srv1", bad: true},
		{name: "a@b@c@d", bad: true},
		{name: strings.Repeat("a", maxUser), want: User{Person: strings.Repeat("a", maxUser)}},
		{name: strings.Repeat("a", maxUser+1), bad: true},
	} {
		got, err := ParseUser(c.name)
		if (err != nil) != c.bad || got != c.want {
			t.Errorf("ParseUser(%.40q) = %+v, %v; want %+v, bad %v", c.name, got, err, c.want, c.bad)
		}
	}
}

// P9: an error about a user name holds no part of it.
func TestParseUserErrorIsSilent(t *testing.T) {
	for _, name := range hostile {
		if _, err := ParseUser("hunter2" + name + "@@"); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseUser of %.40q says %v", name, err)
		}
	}
}

func FuzzParseUser(f *testing.F) {
	for _, name := range append(hostile, "alice", "alice@root@srv1", "a%b") {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		u, err := ParseUser(name)
		if err != nil {
			if u != (User{}) {
				t.Fatalf("ParseUser(%q) = %+v beside %v", name, u, err)
			}
			return
		}
		joined := u.Person
		for _, part := range []string{u.Account, u.Target} {
			if part != "" {
				joined += "@" + part
			}
		}
		if joined != strings.ReplaceAll(name, "%", "@") {
			t.Fatalf("ParseUser(%q) = %+v, which says something else", name, u)
		}
		if u.Person == "" || strings.ContainsAny(u.Person+u.Account+u.Target, "@%") || u.Account != "" && u.Target == "" {
			t.Fatalf("ParseUser(%q) = %+v", name, u)
		}
		_ = utf8.ValidString(name)
	})
}

func TestNewTable(t *testing.T) {
	ok := Target{Name: "srv1", Address: "10.0.0.1:22", Jump: Opaque}
	if _, err := NewTable([]Target{ok, {Name: "Core_sw-1.example", Address: "[2001:db8::1]:2222"}}); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]Target{
		"twice":        {ok, {Name: "SRV1", Address: "10.0.0.2:22"}},
		"no port":      {{Name: "x", Address: "10.0.0.1"}},
		"port zero":    {{Name: "x", Address: "10.0.0.1:0"}},
		"port word":    {{Name: "x", Address: "10.0.0.1:ssh"}},
		"big port":     {{Name: "x", Address: "10.0.0.1:65536"}},
		"no host":      {{Name: "x", Address: ":22"}},
		"IPv4 name":    {{Name: "10.0.0.9", Address: "10.0.0.1:22"}},
		"trailing dot": {{Name: "srv.", Address: "10.0.0.1:22"}},
		"option":       {{Name: "-oProxy", Address: "10.0.0.1:22"}},
		"jump mode":    {{Name: "x", Address: "10.0.0.1:22", Jump: 9}},
	} {
		if _, err := NewTable(list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, name := range hostile {
		if _, err := NewTable([]Target{{Name: name, Address: "10.0.0.1:22"}}); err == nil {
			t.Errorf("target name %.40q accepted", name)
		}
	}
	_, err := NewTable([]Target{{Name: "a b", Address: "x"}, {Name: "", Address: "10.0.0.1:0"}})
	if n := len(strings.Split(err.Error(), "\n")); n != 4 {
		t.Errorf("%d mistakes are named, want all 4: %v", n, err)
	}
}

func TestFind(t *testing.T) {
	table, err := NewTable([]Target{
		{Name: "core-sw1", Address: "10.0.0.1:22", Jump: Opaque},
		{Name: "Srv2", Address: "10.0.0.2:2222"},
		{Name: "v6", Address: "[2001:db8::1]:22"},
		{Name: "dns", Address: "Host.Example:22"},
		{Name: "shared-a", Address: "10.0.0.5:22", Jump: Opaque},
		{Name: "shared-b", Address: "10.0.0.5:22", Jump: Recorded},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host string
		port uint32
		want string
	}{
		{"core-sw1", 22, "core-sw1"},
		{"CORE-SW1", 22, "core-sw1"},
		{"core-sw1.", 22, "core-sw1"},
		{"core-sw1", 23, ""},
		{"10.0.0.1", 22, "core-sw1"},
		{"10.0.0.1", 443, ""},
		{"::ffff:10.0.0.1", 22, "core-sw1"},
		{"010.0.0.1", 22, ""},
		{"srv2", 22, "Srv2"},
		{"srv2", 2222, "Srv2"},
		{"10.0.0.2", 22, ""},
		{"10.0.0.2", 2222, "Srv2"},
		{"2001:db8:0:0::1", 22, "v6"},
		{"2001:DB8::1", 22, "v6"},
		{"host.example", 22, "dns"},
		{"HOST.example.", 22, "dns"},
		{"10.0.0.5", 22, ""}, // two rules may differ: the name has to be used
		{"shared-b", 22, "shared-b"},
		{"core-sw1", 0, ""},
		{"core-sw1", 22 + 1<<16, ""},
		{"10.0.0.1", 22 + 1<<16, ""},
		{"localhost", 22, ""},
		{"", 22, ""},
	} {
		got, ok := table.Find(c.host, c.port)
		name := ""
		if ok {
			name = got.Name
		}
		if name != c.want {
			t.Errorf("Find(%q, %d) = %q, want %q", c.host, c.port, name, c.want)
		}
	}
	for _, host := range hostile {
		if _, ok := table.Find(host, 22); ok {
			t.Errorf("Find(%.40q) found something", host)
		}
	}
}

func TestJumpModeWords(t *testing.T) {
	for _, m := range []JumpMode{Off, Opaque, Recorded} {
		if got, err := ParseJumpMode(m.String()); err != nil || got != m {
			t.Errorf("ParseJumpMode(%q) = %v, %v", m, got, err)
		}
	}
	if m, err := ParseJumpMode("on"); err == nil || m != Off {
		t.Errorf("an unknown word is %v, %v; want Off and an error", m, err)
	}
}
