package report_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/report"
	"sallyport/internal/report/document"
	"sallyport/internal/report/trust"
)

// year is the made-up trust with a year's records.
func year(t testing.TB, n int) (*trust.Trust, trust.Lines, report.Request) {
	t.Helper()
	tr := trust.New()
	lines, err := tr.Fill(n)
	if err != nil {
		t.Fatal(err)
	}
	r := report.Request{Kind: report.MFA, From: tr.Begin, To: tr.End, Zone: trust.Zone, Seed: "2026", Plan: tr.Plan}
	if err := r.Fill(tr.Now); err != nil {
		t.Fatal(err)
	}
	return tr, lines, r
}

func gather(t testing.TB, s report.State, r report.Request) *report.Facts {
	t.Helper()
	f, err := report.Gather(t.Context(), s, r)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func makeOne(t testing.TB, f *report.Facts, kind string) *document.Document {
	t.Helper()
	d, err := f.Report(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := d.Bytes(document.JSON)
	if err != nil {
		t.Fatal(err)
	}
	if d, err = document.Parse(raw); err != nil {
		t.Fatal(err)
	}
	return d
}

func figure(t testing.TB, d *document.Document, section, key string) string {
	t.Helper()
	s := d.Section(section)
	if s == nil {
		t.Fatalf("report %s has no section %s", d.Kind, section)
	}
	for _, f := range s.Figures {
		if f.Key == key {
			return f.Value
		}
	}
	t.Fatalf("section %s has no figure %s", section, key)
	return ""
}

// cell finds a cell by the first cell of its row and the column's key.
func cell(t testing.TB, d *document.Document, section, row, key string) string {
	t.Helper()
	s := d.Section(section)
	if s == nil || s.Table == nil {
		t.Fatalf("report %s has no table %s", d.Kind, section)
	}
	j := slices.IndexFunc(s.Table.Columns, func(c document.Column) bool { return c.Key == key })
	for _, r := range s.Table.Rows {
		if r[0] == row && j >= 0 {
			return r[j]
		}
	}
	t.Fatalf("table %s: no row %q with column %q", section, row, key)
	return ""
}

func parseAll(t testing.TB, lines trust.Lines) []*audit.Record {
	t.Helper()
	var all []*audit.Record
	for i, line := range lines {
		rec, err := audit.Parse(line)
		if err != nil || rec.Seq != uint64(i) {
			t.Fatalf("record %d: %v", i, err)
		}
		all = append(all, rec)
	}
	return all
}

// admission is the rule of the package's comment, written down once more, without haste.
func admission(rec *audit.Record) bool {
	return rec.Result == audit.Accept && rec.Reason != "repeated" && (rec.Event == "access" || rec.Event == "login" && rec.System != "gateway")
}

func kinds(rec *audit.Record) int {
	seen := map[string]bool{}
	for _, f := range rec.Factors {
		if f.Result == "ok" || f.Result == "leaned" {
			seen[f.Kind] = true
		}
	}
	return len(seen)
}

// The statement's numbers are those that somebody gets who reads every record by himself.
func TestStatementCounts(t *testing.T) {
	tr, lines, r := year(t, 60_000)
	d := makeOne(t, gather(t, tr.State, r), report.MFA)
	var n, two, refused int
	byClass, byMonth := map[string]int{}, map[string]int{}
	london, _ := time.LoadLocation(trust.Zone)
	for _, rec := range parseAll(t, lines) {
		if rec.Result == audit.Reject && (rec.Event == "login" || rec.Event == "access") {
			refused++
		}
		if !admission(rec) {
			continue
		}
		n++
		if kinds(rec) >= 2 {
			two++
		}
		byClass[rec.Class]++
		byMonth[rec.Time.In(london).Format("2006-01")]++
	}
	for key, want := range map[string]int{"admissions": n, "one_kind_excepted": n - two, "one_kind_unexplained": 0, "refused": refused} {
		if got := figure(t, d, "summary", key); got != strconv.Itoa(want) {
			t.Errorf("%s: %s, want %d", key, got, want)
		}
	}
	if n == two || n == 0 {
		t.Fatalf("the year has %d admissions, %d with two kinds: it tests nothing", n, two)
	}
	for class, title := range map[string]string{"remote": "Remote access", "privileged-internal": "Privileged, other systems"} {
		if got := cell(t, d, "admissions", title, "admissions"); got != strconv.Itoa(byClass[class]) {
			t.Errorf("%s: %s, want %d", class, got, byClass[class])
		}
	}
	for _, p := range d.Section("admissions").Chart.Points {
		if int(p.Value) != byMonth[p.Label] {
			t.Errorf("%s: %v, want %d", p.Label, p.Value, byMonth[p.Label])
		}
	}
	if got := cell(t, d, "coverage", "Privileged, other systems", "exceptions"); got != "EX-1, EX-2" {
		t.Errorf("exceptions of the class: %s", got)
	}
	// Eleven registers as they stood: of EX-2 the review is overdue since 15 June.
	if got := cell(t, d, "exceptions", "EX-2", "state"); got != "review-overdue" {
		t.Errorf("EX-2 is %s", got)
	}
	if got := figure(t, d, "summary", "exceptions_overdue"); got != "1" {
		t.Errorf("overdue: %s", got)
	}
	if !slices.ContainsFunc(d.Section("plan").Table.Rows, func(r []string) bool { return strings.HasPrefix(r[0], "Payroll") && r[5] == "2026-10-31" }) {
		t.Error("what the operator has named is not in the plan")
	}
}

// How many processors read the records changes nothing in what is found.
func TestStretchesAddUp(t *testing.T) {
	tr, lines, r := year(t, 90_000)
	whole := map[string]string{}
	for _, workers := range []int{1, 2, 3} {
		tr.Workers = workers
		f := gather(t, tr.State, r)
		for _, kind := range report.Kinds() {
			raw, err := makeOne(t, f, kind).Bytes(document.JSON)
			if err != nil {
				t.Fatal(err)
			}
			if old, seen := whole[kind]; seen && old != string(raw) {
				t.Errorf("%s differs when %d processors read", kind, workers)
			}
			whole[kind] = string(raw)
		}
	}
	if len(lines) < 80_000 {
		t.Errorf("%d records are too few for three stretches", len(lines))
	}
}

// one is a log of a few records.
func one(t testing.TB, recs ...*audit.Record) trust.Lines {
	t.Helper()
	var lines trust.Lines
	for i, rec := range recs {
		rec.Seq, rec.Node = uint64(i), "gw1"
		lines = append(lines, rec.AppendJSON(nil))
	}
	return lines
}

func access(at time.Time, person, exception string, factors ...audit.Factor) *audit.Record {
	return &audit.Record{
		Time: at, Event: "access", Result: audit.Accept, Reason: "ok", Person: person, PersonKind: "staff", Login: person, Protocol: "ssh", Source: "10.0.0.1",
		System: "pump-server", Class: "privileged-internal", Rule: "r", Exception: exception, Factors: factors, Session: "s-" + person, Attempt: "a-" + person,
	}
}

var (
	password = audit.Factor{Kind: "know", Method: "password", Result: "ok"}
	key      = audit.Factor{Kind: "have", Method: "key", Token: "SHA256:x", Result: "ok"}
	code     = audit.Factor{Kind: "have", Method: "totp", Token: "tk-1", Result: "ok"}
	wrong    = audit.Factor{Kind: "have", Method: "totp", Token: "tk-1", Result: "wrong"}
)

// An admission with fewer than two kinds stands in the statement unless an exception allows it that was in force at that very moment, in the
// version of that moment (auditor's attempts 2 and 11).
func TestUnexplained(t *testing.T) {
	tr := trust.New()
	day := func(m time.Month, d int) time.Time { return time.Date(2026, m, d, 12, 0, 0, 0, time.UTC) }
	later := access(day(2, 1), "h", "EX-9", password)
	later.System, later.Class = "db1", "privileged-internal"
	other := access(day(2, 1), "i", "EX-1", password)
	other.System = "db1"
	tr.Log = one(
		t,
		access(day(1, 1), "a", "none", password, code),                              // two kinds
		access(day(1, 2), "b", "none", key, code),                                   // 1: two things had are one kind
		access(day(1, 3), "c", "none", password, wrong),                             // 2: a wrong code proves nothing
		access(day(1, 4), "d", "EX-1", password),                                    // excepted
		access(day(6, 16), "e", "EX-2", key),                                        // 4: its review was overdue then, and the system is another
		access(day(1, 5).AddDate(-2, 0, 0), "f", "EX-1"),                            // before the period
		access(time.Date(2025, 7, 2, 0, 0, 0, 0, time.UTC), "g", "EX-77", password), // 6: there is no such entry
		later, // 7: nor this
		other, // 8: out of its scope
	)
	r := report.Request{Kind: report.MFA, From: tr.Begin, To: tr.End, Zone: "UTC"}
	if err := r.Fill(tr.Now); err != nil {
		t.Fatal(err)
	}
	d := makeOne(t, gather(t, tr.State, r), report.MFA)
	var got []string
	for _, row := range d.Section("unexplained").Table.Rows {
		got = append(got, row[0]+" "+row[7])
	}
	want := []string{
		"1 no exception is named", "2 no exception is named", "4 the exception was review-overdue then", "6 the register had no such entry then",
		"7 the register had no such entry then", "8 the exception does not cover it",
	}
	if !slices.Equal(got, want) {
		t.Errorf("unexplained:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := figure(t, d, "summary", "one_kind_unexplained"); n != "6" {
		t.Errorf("%s, want 6", n)
	}
	if n := figure(t, d, "summary", "one_kind_excepted"); n != "1" {
		t.Errorf("%s by exception, want 1", n)
	}
	if !strings.Contains(d.Lead, "6 logins through this gateway proved fewer than two kinds") {
		t.Errorf("the lead hides it: %s", d.Lead)
	}
}

// A version that was entered later does not make right what was wrong before, nor the other way round.
func TestVersionOfTheMoment(t *testing.T) {
	tr := trust.New()
	base := tr.Exceptions[0]
	base.ID, base.Scope.Groups, base.Scope.People = "EX-50", nil, []string{"a"}
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	asked := base
	asked.Version, asked.Changed, asked.Approval = 1, at, login.Approval{}
	approved := base
	approved.Version, approved.Changed = 2, at.AddDate(0, 0, 10)
	over := approved
	over.Version, over.Changed, over.Ended = 3, at.AddDate(0, 0, 20), at.AddDate(0, 0, 20)
	tr.Exceptions = []login.Exception{asked, approved, over}
	tr.Log = one(t, access(at.AddDate(0, 0, 5), "a", "EX-50", password), access(at.AddDate(0, 0, 15), "a", "EX-50", password), access(at.AddDate(0, 0, 25), "a", "EX-50", password))
	r := report.Request{Kind: report.MFA, From: tr.Begin, To: tr.End, Zone: "UTC"}
	if err := r.Fill(tr.Now); err != nil {
		t.Fatal(err)
	}
	d := makeOne(t, gather(t, tr.State, r), report.MFA)
	rows := d.Section("unexplained").Table.Rows
	if len(rows) != 2 || rows[0][0] != "0" || rows[0][7] != "the exception was requested then" || rows[1][0] != "2" || rows[1][7] != "the exception was ended then" {
		t.Errorf("%q", rows)
	}
	r.On = at.AddDate(0, 0, 12)
	if got := cell(t, makeOne(t, gather(t, tr.State, r), report.Exceptions), "register", "EX-50", "version"); got != "2" {
		t.Errorf("as it stood on the 13th it is version %s", got)
	}
}

// Every report can be made of a log with nothing in it, of a gateway with nobody at it.
func TestEmptyLog(t *testing.T) {
	s := report.State{Now: time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC), Log: trust.Lines{}}
	r := report.Request{Kind: report.Sample, Zone: "UTC"}
	if err := r.Fill(s.Now); err != nil {
		t.Fatal(err)
	}
	f := gather(t, s, r)
	for _, kind := range report.Kinds() {
		d := makeOne(t, f, kind)
		for _, format := range append(document.Formats(), document.Text) {
			if b, err := d.Bytes(format); err != nil || len(b) == 0 {
				t.Errorf("%s as %s: %d bytes, %v", kind, format, len(b), err)
			}
		}
	}
	if d := makeOne(t, f, report.MFA); d.Lead != "No login through this gateway is on record in the period." {
		t.Errorf("%s", d.Lead)
	}
}

// Names that mean harm come through every report and every form without doing any. The forms themselves are tested in document.
func TestHostileNamesInReports(t *testing.T) {
	tr := trust.New()
	evil := "=\u202e<script>alert(1)</script>\x1b[2J\xff"
	rec := access(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), evil, evil, password, code)
	rec.System, rec.Class, rec.Rule, rec.PersonKind = evil, evil, evil, "break-glass"
	rec.Detail = []audit.Detail{{Key: "actor", Value: evil}, {Key: "grant", Value: evil}}
	bad := access(rec.Time, evil, evil, password)
	read := &audit.Record{Time: rec.Time, Event: "audit.search", Result: audit.Info, Protocol: "admin", Detail: rec.Detail, System: evil, Person: evil}
	refused := access(rec.Time, evil, "none")
	refused.Result, refused.Reason = audit.Reject, evil
	tr.Log = one(t, rec, bad, read, refused)
	for i := range tr.People {
		tr.People[i].FullName, tr.People[i].Company, tr.People[i].Owner = evil, evil, evil
	}
	for i := range tr.Exceptions {
		tr.Exceptions[i].Title, tr.Exceptions[i].Rationale = evil, evil
	}
	tr.By, tr.Organisation = evil, evil
	r := report.Request{Kind: report.MFA, From: tr.Begin, To: tr.End, Zone: "UTC", Seed: strings.TrimSuffix(evil, "\xff")}
	if err := r.Fill(tr.Now); err != nil {
		t.Fatal(err)
	}
	f := gather(t, tr.State, r)
	for _, kind := range report.Kinds() {
		d := makeOne(t, f, kind)
		for _, format := range []string{document.HTML, document.CSV, document.Text, document.JSON} {
			b, err := d.Bytes(format)
			if err != nil {
				t.Fatal(err)
			}
			if s := string(b); strings.ContainsAny(s, "\u202e\x1b") || strings.Contains(s, "\xff") || format == document.HTML && strings.Contains(s, "<script") || format == document.CSV && strings.Contains(s, "\n=") {
				t.Errorf("%s as %s lets a name do harm", kind, format)
			}
		}
	}
}

// Days are the zone's: on the last Sunday of March one has 23 hours, on that of October one has 25 (auditors ask by local days).
func TestSummerTime(t *testing.T) {
	for _, c := range []struct {
		day   string
		hours int
	}{{"2026-03-29", 23}, {"2026-10-25", 25}, {"2026-06-30", 24}} {
		london, err := time.LoadLocation("Europe/London")
		if err != nil {
			t.Fatal(err)
		}
		from, _ := time.ParseInLocation(time.DateOnly, c.day, london)
		var recs []*audit.Record
		for at := from.Add(-time.Hour); at.Before(from.AddDate(0, 0, 1).Add(time.Hour)); at = at.Add(time.Hour) {
			recs = append(recs, access(at.UTC(), "a", "none", password, code), access(at.Add(time.Hour-time.Millisecond).UTC(), "a", "none", password, code))
		}
		s := report.State{Now: from.AddDate(0, 1, 0), Log: one(t, recs...)}
		r := report.Request{Kind: report.LogHealth, From: from.AddDate(0, 0, -1), To: from.AddDate(0, 0, 2), Zone: "Europe/London"}
		if err := r.Fill(s.Now); err != nil {
			t.Fatal(err)
		}
		d := makeOne(t, gather(t, s, r), report.LogHealth)
		var got []string
		for _, p := range d.Section("activity").Chart.Points {
			got = append(got, fmt.Sprintf("%s:%v", p.Label, p.Value))
		}
		want := fmt.Sprintf("%s:2 %s:%d %s:2", from.AddDate(0, 0, -1).Format(time.DateOnly), c.day, 2*c.hours, from.AddDate(0, 0, 1).Format(time.DateOnly))
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", c.day, got, want)
		}
	}
}

// The sample can be drawn again by anybody who has the records and the seed, by the recipe in the pack's README (auditor's attempt 1).
func TestSampleIsReproducible(t *testing.T) {
	tr, lines, r := year(t, 30_000)
	r.Kind, r.Number, r.Seed = report.Sample, 25, "lots of O'Brien"
	d := makeOne(t, gather(t, tr.State, r), report.Sample)
	type lot struct {
		hash string
		seq  uint64
	}
	var lots []lot
	all := parseAll(t, lines)
	for _, rec := range all {
		if admission(rec) && !rec.Time.Before(tr.Begin) && rec.Time.Before(tr.End) {
			sum := sha256.Sum256(fmt.Appendf(nil, "sallyport-sample\n%s\n%d\n", r.Seed, rec.Seq))
			lots = append(lots, lot{hex.EncodeToString(sum[:]), rec.Seq})
		}
	}
	slices.SortFunc(lots, func(a, b lot) int { return strings.Compare(a.hash, b.hash) })
	rows := d.Section("sample").Table.Rows
	if len(rows) != 25 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, row := range rows {
		if row[1] != fmt.Sprint(lots[i].seq) {
			t.Errorf("sample %d is record %s, want %d", i+1, row[1], lots[i].seq)
		}
		own := all[lots[i].seq]
		if row[3] != own.Person || row[4] != own.System || row[7] != own.Rule {
			t.Errorf("sample %d: %q, want %s at %s by %s", i+1, row, own.Person, own.System, own.Rule)
		}
		// The trail is every record of the attempt and the session, no more and no fewer.
		want := map[string]bool{}
		for _, rec := range all {
			if rec.Attempt == own.Attempt || own.Session != "none" && rec.Session == own.Session {
				want[fmt.Sprint(rec.Seq)] = true
			}
		}
		trail := d.Section(fmt.Sprintf("trail-%d", i+1)).Table.Rows
		if len(trail) != len(want) || len(want) == 0 {
			t.Errorf("sample %d: %d records in its trail, want %d", i+1, len(trail), len(want))
		}
		for _, x := range trail {
			if !want[x[0]] {
				t.Errorf("sample %d: record %s is not of its trail", i+1, x[0])
			}
		}
	}
	r.Seed = "another"
	if again := makeOne(t, gather(t, tr.State, r), report.Sample); again.Section("sample").Table.Rows[0][1] == rows[0][1] && again.Section("sample").Table.Rows[1][1] == rows[1][1] {
		t.Error("another seed draws the same")
	}
}

// A report that is made again later, when more is on record, says the same of the same records; and what somebody changed in it is told
// (auditor's attempt 15).
func TestCompare(t *testing.T) {
	tr, lines, r := year(t, 20_000)
	was := makeOne(t, gather(t, tr.State, r), report.MFA)
	r, err := report.RequestOf(was)
	if err != nil {
		t.Fatal(err)
	}
	more := append(slices.Clone(lines), one(t, access(tr.End.Add(-time.Hour).UTC(), "late", "none", password))...)
	tr.Log = trust.Lines(more)
	tr.Now = tr.Now.AddDate(1, 0, 0)
	if err := r.Fill(tr.Now); err != nil {
		t.Fatal(err)
	}
	now := makeOne(t, gather(t, tr.State, r), report.MFA)
	for _, d := range document.Compare(was, now) {
		if d.Basis != document.State {
			t.Errorf("differs: %+v", d)
		}
	}
	was.Sections[0].Figures[1].Value = "17"
	was.Section("exceptions").Table.Rows[0][1] = "something else"
	diff := document.Compare(was, now)
	n := 0
	for _, d := range diff {
		if d.Basis != document.State {
			n++
		}
	}
	if n != 3 { // the figure, the row that was, the row that is
		t.Errorf("%d differences of three: %+v", n, diff)
	}
}

func TestRequests(t *testing.T) {
	now := time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)
	for want, r := range map[string]report.Request{
		"not a report":    {Kind: "nothing"},
		"no time zone":    {Kind: report.MFA, Zone: "Mars/Olympus"},
		"no length":       {Kind: report.MFA, From: now, To: now.Add(-1)},
		"more than":       {Kind: report.MFA, From: now.AddDate(-30, 0, 0), To: now},
		"want 1 to":       {Kind: report.Sample, Number: 1001},
		"want system":     {Kind: report.MFA, Plan: []report.Planned{{System: "x"}}},
		"planned systems": {Kind: report.MFA, Plan: make([]report.Planned, 201)},
		"not UTF-8":       {Kind: report.Sample, Seed: "\xff"},
		"seed or class":   {Kind: report.Sample, Seed: strings.Repeat("x", 501)},
	} {
		if err := r.Fill(now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, zone := range []string{"Local", "../../etc/passwd"} {
		r := report.Request{Kind: report.MFA, Zone: zone}
		if r.Fill(now) == nil {
			t.Errorf("zone %q is taken", zone)
		}
	}
}

// A directory that does not answer fails the report: half of the groups would look like all.
func TestDirectoryFails(t *testing.T) {
	tr, _, r := year(t, 300)
	tr.Directory = func(context.Context, string) ([]string, error) { return nil, io.ErrUnexpectedEOF }
	if _, err := report.Gather(t.Context(), tr.State, r); err == nil || !strings.Contains(err.Error(), "the groups of") {
		t.Errorf("%v", err)
	}
}

// A record that cannot be read fails the report, and is named.
func TestUnreadableRecord(t *testing.T) {
	tr, lines, r := year(t, 300)
	lines[7] = []byte(`{"v":1,"seq":7}`)
	if _, err := report.Gather(t.Context(), tr.State, r); err == nil || !strings.Contains(err.Error(), "record 7") {
		t.Errorf("%v", err)
	}
	lines[7] = nil // erased is no fault
	if got := figure(t, makeOne(t, gather(t, tr.State, r), report.LogHealth), "integrity", "erased"); got != "1" {
		t.Errorf("erased: %s", got)
	}
}

// A pack is the same for the same facts, all its files are in its list of sums, and its records verify with the public key alone.
func TestPack(t *testing.T) {
	tr, lines, r := year(t, 3000)
	sealed, err := trust.Seal(lines)
	if err != nil {
		t.Fatal(err)
	}
	tr.Verify = func(context.Context) report.Integrity { return sealed.Verify() }
	parts := report.Parts{Export: sealed.Export, PublicKey: sealed.PublicKey + "\n", Checkpoint: sealed.Checkpoint, Proof: func(seq uint64) ([]byte, error) { return fmt.Appendf(nil, "proof of %d\n", seq), nil }}
	var packs [2]bytes.Buffer
	for i := range packs {
		if _, err := gather(t, tr.State, r).Pack(t.Context(), &packs[i], parts); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(packs[0].Bytes(), packs[1].Bytes()) {
		t.Error("two packs of the same facts differ")
	}
	z, err := zip.NewReader(bytes.NewReader(packs[0].Bytes()), int64(packs[0].Len()))
	if err != nil {
		t.Fatal(err)
	}
	sums, proofs := "", 0
	seen := map[string]string{}
	for _, file := range z.File {
		rc, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		seen[file.Name] = hex.EncodeToString(sum[:])
		if file.Name == "SHA256SUMS" {
			sums = string(b)
		}
		if strings.HasPrefix(file.Name, "proofs/") {
			proofs++
		}
	}
	for _, name := range []string{"README.txt", "reports/mfa.pdf", "reports/sample.html", "tables/access.access.csv", "records/records.jsonl", "records/verification.json", "reports/mapping.json"} {
		if !strings.Contains(sums, seen[name]+"  "+name+"\n") || seen[name] == "" {
			t.Errorf("%s is missing, or its sum is wrong", name)
		}
	}
	if proofs < 25 {
		t.Errorf("%d proofs", proofs)
	}
	if got := sealed.Verify(); !got.Sound {
		t.Errorf("the records do not verify: %s", got.Text)
	}
	lines[5] = bytes.Replace(lines[5], []byte(`"seq":5`), []byte(`"seq":5`), 1)
	lines[5] = bytes.Replace(lines[5], []byte("radius"), []byte("RADIUS"), 1)
	lines[6] = bytes.Replace(lines[6], []byte("ok"), []byte("OK"), 1)
	if got := sealed.Verify(); got.Sound {
		t.Error("altered records verify")
	}
}

// The statement is for a board: two pages, whatever the size of the trust.
func TestStatementIsShort(t *testing.T) {
	tr, _, r := year(t, 20_000)
	b, err := makeOne(t, gather(t, tr.State, r), report.MFA).Bytes(document.PDF)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte("/Type /Page\n")); n > 2 || n == 0 {
		t.Errorf("%d pages", n)
	}
}

// BenchmarkStatement is the whole statement over records in memory.
func BenchmarkStatement(b *testing.B) {
	tr, lines, r := year(b, 200_000)
	for b.Loop() {
		if _, err := report.Make(b.Context(), tr.State, r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(lines))*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// The answer to a repeated request lets nobody in anew, and one login over SSH opens many sessions, of which each has its own trail.
func TestRepeatsAndShares(t *testing.T) {
	tr := trust.New()
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	repeated := access(at, "a", "none", password, code)
	repeated.Event, repeated.Reason, repeated.System, repeated.Protocol = "login", "repeated", "vpn-leeds", "radius"
	gate := access(at, "b", "none", password, code)
	gate.Event, gate.System, gate.Session = "login", "gateway", "none"
	first, second := access(at, "b", "none", password, code), access(at, "b", "none", password, code)
	first.Session, second.Session = "one", "two"
	start, end, other := access(at, "b", "none"), access(at, "b", "none"), access(at, "b", "none")
	start.Event, start.Result, start.Session = "session.start", audit.Info, "one"
	end.Event, end.Result, end.Session, end.Attempt = "session.end", audit.Error, "one", "none" // after a restart
	other.Event, other.Result, other.Session = "session.start", audit.Info, "two"
	tr.Log = one(t, repeated, gate, first, second, start, end, other)
	r := report.Request{Kind: report.Sample, From: tr.Begin, To: tr.End, Zone: "UTC", Seed: "x"}
	if err := r.Fill(tr.Now); err != nil {
		t.Fatal(err)
	}
	f := gather(t, tr.State, r)
	if got := figure(t, makeOne(t, f, report.MFA), "summary", "admissions"); got != "2" {
		t.Errorf("%s admissions, want 2", got)
	}
	d := makeOne(t, f, report.Sample)
	want := map[string]string{"2": "1 2 4 5", "3": "1 3 6"}
	for i, row := range d.Section("sample").Table.Rows {
		var seqs []string
		for _, x := range d.Section(fmt.Sprintf("trail-%d", i+1)).Table.Rows {
			seqs = append(seqs, x[0])
		}
		if got := strings.Join(seqs, " "); got != want[row[1]] {
			t.Errorf("the trail of record %s is %s, want %s", row[1], got, want[row[1]])
		}
	}
}

// A long session's trail is bounded, and says how much of it is left out; pieces of its recording are counted.
func TestLongTrail(t *testing.T) {
	tr := trust.New()
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	recs := []*audit.Record{access(at, "b", "none", password, code)}
	for i := range 1000 {
		x := access(at, "b", "none")
		x.Event, x.Result = "transfer", audit.Info
		if i%2 == 0 {
			x.Event = "recording.chunk"
		}
		recs = append(recs, x)
	}
	tr.Log = one(t, recs...)
	r := report.Request{Kind: report.Sample, From: tr.Begin, To: tr.End, Zone: "UTC", Seed: "x"}
	if err := r.Fill(tr.Now); err != nil {
		t.Fatal(err)
	}
	s := makeOne(t, gather(t, tr.State, r), report.Sample).Section("trail-1")
	if len(s.Table.Rows) != 300 || s.Table.Left != 201 || len(s.Text) != 1 || !strings.Contains(s.Text[0], "500 records") {
		t.Errorf("%d rows, %d left, %q", len(s.Table.Rows), s.Table.Left, s.Text)
	}
}
