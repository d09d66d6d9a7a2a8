package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/report/document"
)

// makeReport makes a report as JSON.
func (r *rig) makeReport(args ...string) *document.Document {
	r.Helper()
	d, err := document.Parse([]byte(r.ok(append(append([]string{"report"}, args...), "--json")...)))
	if err != nil {
		r.Fatal(err)
	}
	return d
}

func (r *rig) figure(d *document.Document, section, key string) string {
	r.Helper()
	if s := d.Section(section); s != nil {
		for _, f := range s.Figures {
			if f.Key == key {
				return f.Value
			}
		}
	}
	r.Fatalf("report %s says nothing of %s in %s", d.Kind, key, section)
	return ""
}

// 1: "Pick 25 privileged logins; for each show both factors, the rule, the person, the target." With real clients, by the running gateway.
func TestAuditor01SampleOfLogins(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	alice, bob := s.enrol("alice", byCount()), s.enrol("bob", byCount())
	s.up()
	for range 3 {
		if got := s.radclient(fromCode, quoted("User-Name", "bob"), quoted("User-Password", bob.code())); !strings.HasPrefix(got, "Access-Accept") {
			t.Fatal(got)
		}
		if _, stderr, status := s.as(alice.password, alice.code(), "ssh", "-J", "alice@gw", "core-sw1", "true"); status != 0 {
			t.Fatal(stderr)
		}
	}
	s.radclient(fromCode, quoted("User-Name", "bob"), quoted("User-Password", "00000000"))
	until(t, "the sessions' ends", func() bool { return len(s.records("--event", "session.end")) == 3 })

	d := s.makeReport("sample", "-n", "25", "--seed", "auditor")
	rows := d.Section("sample").Table.Rows
	if len(rows) != 6 {
		t.Fatalf("%d logins were drawn of six", len(rows))
	}
	sessions := 0
	for i, row := range rows {
		person, system, factors, rule := row[3], row[4], row[6], row[7]
		if !containsAll(factors, "know:", "have:totp ok", "have:") && !containsAll(factors, "know:", "have:hotp ok") || rule != "network team" {
			t.Errorf("sample %d: %q", i+1, row)
		}
		if person+"@"+system != "alice@core-sw1" && person+"@"+system != "bob@switch" {
			t.Errorf("sample %d is of %s at %s", i+1, person, system)
		}
		trail := d.Section("trail-" + row[0])
		var events []string
		for _, rec := range trail.Table.Rows {
			events = append(events, rec[2])
		}
		if person == "alice" {
			sessions++
			for _, want := range []string{"login", "access", "session.start", "session.end"} {
				if !slices.Contains(events, want) {
					t.Errorf("sample %d: no %s in its trail %v", i+1, want, events)
				}
			}
		}
	}
	if sessions != 3 {
		t.Errorf("%d sessions of three", sessions)
	}
	again := s.makeReport("sample", "-n", "25", "--seed", "auditor", "--before-record", "1000000")
	for i, row := range again.Section("sample").Table.Rows {
		if row[1] != rows[i][1] {
			t.Errorf("the same seed draws record %s in place of %s", row[1], rows[i][1])
		}
	}
	if n := s.figure(s.makeReport("mfa"), "summary", "one_kind_unexplained"); n != "0" {
		t.Errorf("%s logins are unexplained", n)
	}

	// A review is on record, and nobody reviews himself.
	id := s.records("--event", "session.start")[0].Session
	s.refusedIn("", "report", "review", id, "--by", "alice", "--finding", "none")
	s.ok("report", "review", id, "--by", "carol", "--finding", "none")
	if n := s.figure(s.makeReport("sessions"), "review", "reviewed"); n != "1" {
		t.Errorf("%s sessions are reviewed", n)
	}
	s.stop()
	s.check()
}

// 15: "Show me the statement that was signed last year, and compute it again from the log." And what somebody changes in it is found.
func TestAuditor15LastYearsStatement(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	alice := r.enrol("alice", byCount())
	pump := r.enrol("pump", byCount())
	r.ok("token", "revoke", pump.token)
	r.ok("user", "set", "pump", "--group", "devices")
	r.rules("  - {name: old devices, groups: [devices], to: [firewall], may: [login], need: [know], exception: EX-1}\n")
	r.except("{people: [pump], systems: [firewall], factors: [know]}")
	r.start()
	login := func() {
		t.Helper()
		for _, got := range []string{
			r.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", alice.code())),
			r.radclient(fromAppend, quoted("User-Name", "pump"), quoted("User-Password", pump.password)),
		} {
			if !strings.HasPrefix(got, "Access-Accept") {
				t.Fatal(got)
			}
		}
	}
	login()
	signed := filepath.Join(r.dir, "statement.pdf")
	r.ok("report", "mfa", "-o", signed)
	was := string(mustRead(t, signed))
	d := r.makeReport("mfa")
	if r.figure(d, "summary", "admissions") != "2" || r.figure(d, "summary", "one_kind_excepted") != "1" || r.figure(d, "summary", "one_kind_unexplained") != "0" {
		t.Errorf("%+v", d.Section("summary").Figures)
	}
	if !d.Meta.Verified || d.Section("coverage").Table.Rows[0][7] != "EX-1" {
		t.Errorf("verified: %v, coverage: %q", d.Meta.Verified, d.Section("coverage").Table.Rows)
	}

	// A year goes by: people come and go, the register changes, there are more logins.
	r.stop()
	r.enrol("carol", byCount())
	r.ok("exception", "end", "EX-1", "--reason", "replaced")
	r.start()
	if got := r.radclient(fromCode, quoted("User-Name", "carol"), quoted("User-Password", r.people["carol"].code())); !strings.HasPrefix(got, "Access-Accept") {
		t.Fatal(got)
	}
	var list []ReportKept
	if err := json.Unmarshal([]byte(r.ok("report", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(k ReportKept) bool { return slices.Contains(k.Formats, "pdf") })
	if len(list) != 2 || at < 0 || list[at].Record == nil {
		t.Fatalf("kept: %+v", list)
	}
	id := string(list[at].ID)
	back := filepath.Join(r.dir, "back.pdf")
	r.ok("report", "show", id, "-o", back)
	if string(mustRead(t, back)) != was {
		t.Error("what comes back is not what was signed")
	}
	var compared ReportCompared
	if err := json.Unmarshal([]byte(r.ok("report", "compare", id, "--json")), &compared); err != nil {
		t.Fatal(err)
	}
	if !compared.Same || len(compared.Differences) == 0 {
		t.Errorf("from the log: the same %v; people have come, and differ: %+v", compared.Same, compared.Differences)
	}

	// Somebody improves the kept statement; he can write files, and not records.
	for _, ext := range []string{"pdf", "json"} {
		path := filepath.Join(r.data, "reports", id+"."+ext)
		b := mustRead(t, path)
		if err := os.WriteFile(path, bytes.Replace(b, []byte("1"), []byte("0"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if said := r.refusedIn("", "report", "show", id, "--format", ext); !strings.Contains(said, "was altered") {
			t.Errorf("the altered %s: %s", ext, said)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	forged := filepath.Join(r.data, "reports", "2026-01-01-mfa-0123456789abcdef.json")
	if err := os.WriteFile(forged, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := r.refusedIn("", "report", "show", "2026-01-01-mfa-0123456789abcdef"); !strings.Contains(said, "no record vouches") {
		t.Errorf("the forged one: %s", said)
	}
	r.refusedIn("", "report", "show", "../keys/ring")
	if out := r.ok("report", "list"); !strings.Contains(out, "NO RECORD") {
		t.Errorf("the list: %s", out)
	}
	r.stop()
	r.check()
}

// A pack is made by the running gateway, on record before and after, and can be checked with the program and the key alone.
func TestReportPack(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	alice := r.enrol("alice", byCount())
	r.start()
	if got := r.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", alice.code())); !strings.HasPrefix(got, "Access-Accept") {
		t.Fatal(got)
	}
	pack := filepath.Join(r.dir, "evidence.zip")
	r.ok("report", "pack", "--seed", "s", "-o", pack)
	z, err := zip.OpenReader(pack)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := map[string][]byte{}
	for _, f := range z.File {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(rc); err != nil {
			t.Fatal(err)
		}
		rc.Close()
	}
	r.write("records.jsonl", string(files["records/records.jsonl"]))
	r.write("key.txt", string(files["records/public-key.txt"]))
	if out := r.ok("audit", "verify", filepath.Join(r.dir, "records.jsonl"), "--key", filepath.Join(r.dir, "key.txt")); !strings.HasPrefix(out, "verified: size ") {
		t.Errorf("%s", out)
	}
	proofs := 0
	for name, b := range files {
		if strings.HasPrefix(name, "proofs/") {
			proofs++
			r.write("one.tlog-proof", string(b))
			if out := r.ok("audit", "verify", filepath.Join(r.dir, "one.tlog-proof"), "--key", filepath.Join(r.dir, "key.txt")); !strings.Contains(out, "verified") {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
	if proofs == 0 {
		t.Error("there are no proofs of the sampled records")
	}
	for name, part := range map[string]string{"README.txt": "How to check", "reports/sample.html": "alice", "reports/log-health.json": `"kind": "log-health"`, "SHA256SUMS": "records/records.jsonl"} {
		if !bytes.Contains(files[name], []byte(part)) {
			t.Errorf("%s: no %q in it", name, part)
		}
	}
	end := r.last("--event", "report.pack")
	if got := hexSum(mustRead(t, pack)); got != detail(end, "sha256") {
		t.Errorf("record %d says %s, the pack is %s", end.Seq, detail(end, "sha256"), got)
	}
	for _, part := range []string{`"witness",
      "none"`, `"syslog",
      "none"`, `"clock",
      "kernel"`} {
		if !bytes.Contains(files["reports/log-health.json"], []byte(part)) {
			t.Errorf("log-health does not say %q", part)
		}
	}
	if begin := r.records("--event", "report.pack.begin"); len(begin) != 1 || detail(begin[0], "actor") == "" {
		t.Errorf("%d records of its beginning", len(begin))
	}
	back := filepath.Join(r.dir, "back.zip")
	r.ok("report", "show", detail(end, "report"), "-o", back)
	if !bytes.Equal(mustRead(t, back), mustRead(t, pack)) {
		t.Error("what is kept is not what was given")
	}
	r.stop()
	r.check()
}
