package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	cfg, err := parseTest("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const diffBase = `
radius:
  listen: [127.0.0.1:1812]
  clients:
    - {name: a, address: 10.0.0.1, secret: Marker-secret-number-1, class: remote}
    - {name: b, address: 10.0.0.2, secret: Marker-secret-number-2, class: remote}
rules:
  - {name: one, groups: ["*"], to: [a], may: [login], reply: {Class: x}}
  - {name: two, groups: ["*"], to: [b], may: [login]}
`

// TestDiff names what changed, and nothing else; of secrets only that (P9).
func TestDiff(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new string // replacement in diffBase
		want     []string
	}{
		{"nothing", "", "", nil},
		{"a comment and another order of clients", "radius:", "# hello\nradius:", nil},
		{"a value", "127.0.0.1:1812", "127.0.0.1:1912", []string{`radius.listen: ["127.0.0.1:1812"] -> ["127.0.0.1:1912"]`}},
		{"a secret", "number-1", "number-x", []string{"radius.clients[a].secret: changed"}},
		{"a client", "name: b,", "name: c,", []string{
			"radius.clients[b]: removed", "radius.clients[c]: added", `rules[two].to: ["b"] -> ["c"]`,
		}},
		{"a rule", "name: two", "name: zwei", []string{
			"rules[two]: removed", "rules[zwei]: added", `rules: order: "one", "two" -> "one", "zwei"`,
		}},
		{"record said", "name: one", "record: off, name: one", []string{`rules[one].record: "" -> "off"`}},
		{"a reply's value", "Class: x", "Class: y", []string{`rules[one].reply[Class].values: ["x"] -> ["y"]`}},
		{"a reply's name", "Class: x", "Filter-Id: x", []string{"rules[one].reply[Class]: removed", "rules[one].reply[Filter-Id]: added"}},
		{"recording", "radius:", "recording: {max_bytes: 2GiB, on_limit: stop}\nradius:", []string{
			"recording.max_bytes: 1073741824 -> 2147483648", `recording.on_limit: "end" -> "stop"`,
		}},
		{"a database with a password", "radius:", "database: {url: postgres://h/d, secret: Marker-db}\nradius:", []string{
			"database.url: set", "database.password: set", "database: removed",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			edited := strings.Replace(diffBase, c.old, c.new, 1)
			if c.name == "a client" {
				edited = strings.Replace(edited, "to: [b]", "to: [c]", 1)
			}
			got := Diff(mustParse(t, diffBase), mustParse(t, edited))
			if strings.Contains(strings.Join(got, "\n"), "Marker") {
				t.Errorf("a secret is repeated: %q", got)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestDiffOfRulesOrder: the first rule that matches decides, so their order is a setting.
func TestDiffOfRulesOrder(t *testing.T) {
	a, b := mustParse(t, diffBase), mustParse(t, diffBase)
	b.Rules[0], b.Rules[1] = b.Rules[1], b.Rules[0]
	if got := Diff(a, b); !slices.Equal(got, []string{`rules: order: "one", "two" -> "two", "one"`}) {
		t.Errorf("got %q", got)
	}
	if Hash(a) == Hash(b) {
		t.Error("the same hash")
	}
}

// TestHash: every setting has a part in it, and the values of secrets have none, so that it can be published.
func TestHash(t *testing.T) {
	base := Hash(mustParse(t, diffBase))
	if Hash(mustParse(t, "# a comment\n"+diffBase)) != base {
		t.Error("a comment changes it")
	}
	if Hash(mustParse(t, strings.ReplaceAll(diffBase, "number-1", "number-x"))) != base {
		t.Error("the value of a secret changes it: guesses could be tried against it")
	}
	for _, edit := range [][2]string{{"10.0.0.1", "10.0.0.3"}, {"may: [login]", "may: [shell]"}, {"Class: x", "Class: y"}, {"class: remote", "class: privileged-internal"}} {
		if Hash(mustParse(t, strings.Replace(diffBase, edit[0], edit[1], 1))) == base {
			t.Errorf("%s -> %s does not change it", edit[0], edit[1])
		}
	}
}

// TestSettingsAreTheFilesKeys: the paths that Diff prints are those that the file has, so that they can be found there.
func TestSettingsAreTheFilesKeys(t *testing.T) {
	data, err := os.ReadFile("testdata/ok-everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg := mustParse(t, string(data))
	seen := map[string]bool{}
	for _, s := range settingsOf(cfg).all {
		if seen[s.path] {
			t.Errorf("%s is there twice: Diff would miss changes", s.path)
		}
		seen[s.path] = true
		key := s.path[strings.LastIndexByte(s.path, '.')+1:]
		switch key {
		case "password", "start", "rate", "full", "on", "values", "name": // written in one with others
			continue
		}
		if !strings.Contains(string(data), key+":") && !strings.Contains(string(data), key+"_") {
			t.Errorf("%s: no key %s", s.path, key)
		}
	}
}
