package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is printed to testdata/*.want")

// testFiles are the secrets that testdata names.
func testFiles(path string) ([]byte, error) {
	files := map[string]string{
		"vpn.secret":     "vpn-secret-of-good-length\n",
		"nps.secret":     "nps-secret-of-good-length\r\n",
		"db.secret":      "db-secret\n",
		"long.secret":    strings.Repeat("x", 49),
		"padded.secret":  "padded-secret-of-good-length\n\n",
		"empty.secret":   "\n",
		"huge.secret":    strings.Repeat("x", 4097),
		"windows.secret": "\xff\xfeM\x00",
	}
	if text, ok := files[filepath.Base(path)]; ok {
		return []byte(text), nil
	}
	return nil, fmt.Errorf("open %s: no such file or directory", path)
}

func testEnv(name string) (string, bool) {
	v, ok := map[string]string{"LDAP_SECRET": "ldap-secret", "WIFI_SECRET": "wifi-secret-of-good-length", "DB": "db-secret"}[name]
	return v, ok
}

func parseTest(name string, data []byte) (*Config, error) {
	return Parse(name, data, "/etc/sallyport", testEnv, testFiles)
}

// render is what an operator sees of a file.
func render(cfg *Config, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintln(&b, err)
		return b.String()
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(&b, "warning:", w)
	}
	for _, s := range settingsOf(cfg).all {
		fmt.Fprintf(&b, "%s = %s\n", s.path, s.text)
	}
	return b.String()
}

// TestFiles holds every file of testdata to what it should print. In bad-*.yaml all is said at once, and no secret is
// repeated (P9): those that could slip out are called Marker.
func TestFiles(t *testing.T) {
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := parseTest(filepath.Base(name), data)
			if bad := strings.HasPrefix(filepath.Base(name), "bad-"); bad != (err != nil) || bad != (cfg == nil) {
				t.Errorf("config %v, error %v", cfg != nil, err)
			}
			got := render(cfg, err)
			if strings.Contains(got, "Marker") {
				t.Error("a secret is repeated")
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestProblemsAreComplete: each problem has its file, its line and its field, whatever is wrong.
func TestProblemsAreComplete(t *testing.T) {
	names, err := filepath.Glob("testdata/bad-*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parseTest(name, data)
		var problems Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		whole := regexp.MustCompile("empty|syntax|tab|utf8|document|alias")
		for i, p := range problems {
			if p.File != name || p.Text == "" || (p.Line == 0 || p.Field == "") && !whole.MatchString(name) && !strings.HasPrefix(p.Text, "has a key") {
				t.Errorf("incomplete: %+v", p)
			}
			if i > 0 && p.Line < problems[i-1].Line {
				t.Errorf("%s: line %d after line %d", name, p.Line, problems[i-1].Line)
			}
		}
	}
}

// TestEverythingGivesValues reads the file of every key back in the types that the other packages get.
func TestEverythingGivesValues(t *testing.T) {
	data, err := os.ReadFile("testdata/ok-everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := parseTest("ok-everything.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]struct {
		got  Secret
		want string
	}{
		"inline, as written":           {cfg.RADIUS.Clients[3].Secret, "0123 with # and: colon"},
		"file, one line end less":      {cfg.RADIUS.Clients[0].Secret, "vpn-secret-of-good-length"},
		"file, one Windows line end":   {cfg.Login.RADIUS.Secret, "nps-secret-of-good-length"},
		"environment":                  {cfg.RADIUS.Clients[1].Secret, "wifi-secret-of-good-length"},
		"database, URL":                {cfg.Database.URL, "postgres://sallyport@db.example.nhs.uk/sallyport"},
		"database, password by itself": {cfg.Database.Password, "db-secret"},
	}
	for name, s := range secrets {
		if string(s.got.Bytes()) != s.want {
			t.Errorf("%s: got %q", name, s.got.Bytes())
		}
	}
	rules := cfg.Policy()
	if errs := rules.Validate(); len(errs) > 0 || len(rules) != 2 {
		t.Errorf("%d rules: %v", len(rules), errs)
	}
	if !rules[0].Record || rules[1].Record || cfg.Rules[0].Record != RecordRequired || cfg.Rules[1].Record != RecordOff {
		t.Errorf("record: %v %v", cfg.Rules[0].Record, cfg.Rules[1].Record)
	}
	reply := cfg.Rules[0].Reply
	if len(reply) != 3 || reply[0].Name != "Cisco-AVPair" || len(reply[0].Values) != 2 || reply[2].Values[0] != "0123" {
		t.Errorf("reply: %+v", reply)
	}
	problem := reply[1].Problem("is not known", "look in the dictionary").String()
	if want := "ok-everything.yaml:111: rules[network team].reply.Class: is not known\n  hint: look in the dictionary"; problem != want {
		t.Errorf("got  %s\nwant %s", problem, want)
	}
}

// TestLegalPlainSecrets: what YAML would take for a number, a truth or a date is a secret of exactly those characters
// (trap C1).
func TestLegalPlainSecrets(t *testing.T) {
	for _, secret := range []string{"0123", "1e3", "0x1F", "true", "yes", "2026-11-24", "1_000", "012:34", ".5", "+1", "<<", "=", "a  b"} {
		cfg, err := parseTest("x.yaml", []byte("radius: {clients: [{name: a, address: 10.0.0.1, secret: "+secret+"}]}"))
		if err != nil {
			t.Errorf("%q: %v", secret, err)
			continue
		}
		if got := string(cfg.RADIUS.Clients[0].Secret.Bytes()); got != secret {
			t.Errorf("%q became %q", secret, got)
		}
	}
}

// TestRecordUnsaid: a rule that says nothing about recording is told from one that says off, and does not require it.
func TestRecordUnsaid(t *testing.T) {
	for text, want := range map[string]struct {
		said     string
		required bool
	}{"": {RecordUnsaid, false}, ", record: off": {RecordOff, false}, ", record: required": {RecordRequired, true}} {
		cfg, err := parseTest("x.yaml", []byte(`rules: [{name: a, groups: ["*"], to: ["*"], may: [shell]`+text+`}]`))
		if err != nil {
			t.Fatal(err)
		}
		if r := cfg.Rules[0]; r.Record != want.said || r.Policy.Record != want.required {
			t.Errorf("%q: %q, %v", text, r.Record, r.Policy.Record)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // past the umask
			t.Fatal(err)
		}
		return path
	}
	client := func(key, value string) string {
		return "radius: {listen: [127.0.0.1:0], clients: [{name: a, address: 10.0.0.1, class: remote, " + key + ": " + value + "}]}"
	}
	if _, err := Load(filepath.Join(dir, "none.yaml"), testEnv); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(dir, testEnv); err == nil {
		t.Error("a folder is read")
	}
	write("good.secret", "a-secret-of-good-length-1\n", 0o640)
	write("open.secret", "a-secret-of-good-length-2\n", 0o644)
	write("writable.secret", "a-secret-of-good-length-3\n", 0o602)
	for _, c := range []struct {
		name, key, value string
		mode             os.FileMode
		err, warning     string
	}{
		{"relative", "secret_file", "good.secret", 0o644, "", ""},
		{"absolute", "secret_file", filepath.Join(dir, "good.secret"), 0o644, "", ""},
		{"world-readable", "secret_file", "open.secret", 0o600, "everybody on this machine can read or change", ""},
		{"world-writable", "secret_file", "writable.secret", 0o600, "everybody on this machine can read or change", ""},
		{"folder", "secret_file", ".", 0o600, "is not a file", ""},
		{"device", "secret_file", "/dev/zero", 0o600, "is not a file", ""},
		{"inline in an open file", "secret", "a-secret-of-good-length-4", 0o644, "", "file that everybody"},
		{"inline in a closed file", "secret", "a-secret-of-good-length-4", 0o640, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := Load(write("c.yaml", client(c.key, c.value), c.mode), testEnv)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "good-length") {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(cfg.RADIUS.Clients[0].Secret.Bytes(), []byte("a-secret-of-good-length-")) {
				t.Error("another secret")
			}
			if got := fmt.Sprint(cfg.Warnings); (c.warning == "") != (len(cfg.Warnings) == 0) || !strings.Contains(got, c.warning) {
				t.Errorf("warnings %v, want %q", got, c.warning)
			}
			if cfg.Data != filepath.Join(dir, "data") {
				t.Errorf("data %s", cfg.Data)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	_, err := parseTest("x.yaml", bytes.Repeat([]byte("#"), MaxFile+1))
	if err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
	many, err := parseTest("x.yaml", []byte(strings.Repeat("? x\n", 5000)))
	if err == nil || many != nil || len(err.Error()) > 100_000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

// TestSample: what init writes loads without a warning, by default and with everything given, and with all that it has
// commented out taken in.
func TestSample(t *testing.T) {
	golden := "testdata/sample.golden"
	got := Sample(SampleValues{})
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s", got)
	}
	files := func(path string) ([]byte, error) {
		if !slices.Contains([]string{"radius-local", "vpn-leeds", "ldap", "nps"}, strings.TrimSuffix(strings.TrimPrefix(path, "/etc/sallyport/keys/"), ".secret")) {
			return nil, fmt.Errorf("no such file: %s", path)
		}
		return []byte("a-secret-of-good-length-1\n"), nil
	}
	commented := regexp.MustCompile(`(?m)^( *)# (audit:|targets:|realms:|ldap:|radius:|tls:|eap:|  +- name|  +address|  +account|  +host_key|  +class|  +tags|- name|  [a-z_]+:|reply:)`)
	whole := commented.ReplaceAllString(string(got), "$1$2")
	for name, text := range map[string]string{
		"default": string(got),
		"whole":   whole,
		"given":   string(Sample(SampleValues{Node: "gw1", RADIUS: "[::1]:0", SSH: "127.0.0.1:0", Metrics: "localhost:0", HostKey: "/x y", Recipient: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"})),
	} {
		cfg, err := Parse("sallyport.yaml", []byte(text), "/etc/sallyport", testEnv, files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(cfg.Warnings) > 0 || len(cfg.RADIUS.Clients) < 2 || len(cfg.Rules) != 1 {
			t.Errorf("%s: warnings %v", name, cfg.Warnings)
		}
		if recorded := len(cfg.Recording.Recipients) == 1; recorded != (name == "given") {
			t.Errorf("%s: recipients %v", name, cfg.Recording.Recipients)
		}
		if name == "whole" && (len(cfg.Audit.Witnesses) != 1 || len(cfg.SSH.Targets) != 1 || len(cfg.RADIUS.Clients) != 3 || len(cfg.Rules[0].Reply) != 2) {
			t.Errorf("whole: not all of it was taken in:\n%s", text)
		}
	}
}

func TestDataOf(t *testing.T) {
	for content, want := range map[string]string{
		"data: /srv/x\n":                          "/srv/x",
		"data: ./d\nunknown: [1, 2]\n":            "d",
		"node: gw1\n":                             "data",
		"data: d\nradius: {clients: [{name: 7}]}": "d",
		"data: d\nradius: {}\nradius: {}\n":       "d",
		"data: [\n":                               "",
		"data: {a: b}\n":                          "",
	} {
		path := filepath.Join(t.TempDir(), "sallyport.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if want != "" && !filepath.IsAbs(want) {
			want = filepath.Join(filepath.Dir(path), want)
		}
		if got := DataOf(path); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
	if got := DataOf(filepath.Join(t.TempDir(), "none.yaml")); got != "" {
		t.Errorf("no file: %q", got)
	}
}
