package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/report"
	"sallyport/internal/report/document"
	"sallyport/internal/report/kept"
	"sallyport/internal/report/mapping"
)

// This file is what the verbs of reports do, in the daemon and in a command's own process alike.

// ReportMake is the input of report.make.
type ReportMake struct {
	report.Request
	Format string `json:"format"` // html, csv, json, pdf or text; JSON is kept besides
	Table  string `json:"table,omitempty"`
}

// ReportMade is its answer, and that of report.show.
type ReportMade struct {
	ID      kept.ID `json:"id"`
	SHA256  string  `json:"sha256"` // of its JSON
	Record  uint64  `json:"record"` // that says so
	Content []byte  `json:"content"`
}

// ReportID names a kept report.
type ReportID struct {
	ID     string `json:"id"`
	Format string `json:"format,omitempty"`
}

// ReportKept is a row of report.list.
type ReportKept struct {
	kept.Entry
	Kind   string    `json:"kind"`
	Made   time.Time `json:"made,omitzero"`
	By     string    `json:"by,omitempty"`
	SHA256 string    `json:"sha256,omitempty"`
	Record *uint64   `json:"record,omitempty"` // nil: no record vouches for it
}

// ReportCompared is the answer of report.compare.
type ReportCompared struct {
	ID          kept.ID               `json:"id"`
	Same        bool                  `json:"same"` // in all that is from the log and the register
	Differences []document.Difference `json:"differences"`
}

func (a *app) reportVerbs() {
	a.turn = make(chan struct{}, 1)
	admin.Handle(a.admin, "report.make", a.reportMake)
	admin.Handle(a.admin, "report.list", func(ctx context.Context, _ admin.Empty) ([]ReportKept, error) { return a.reportList(ctx) })
	admin.Handle(a.admin, "report.show", a.reportShow)
	admin.Handle(a.admin, "report.compare", a.reportCompare)
	admin.HandleStream(a.admin, "report.pack", a.reportPack)
}

// alone waits for this report's turn. Each may read the whole log on all processors, and logins come first.
func (a *app) alone(ctx context.Context) (done func(), err error) {
	select {
	case a.turn <- struct{}{}:
		return func() { <-a.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *app) reports() kept.Folder { return kept.Folder(filepath.Join(a.paths.data, "reports")) }

// frameworksFile stands in for the built-in mapping, where it is there.
const frameworksFile = "frameworks.yaml"

// reportState reads all that reports are made from. Full is how closely they look at the log.
func (a *app) reportState(ctx context.Context, full bool) (report.State, error) {
	cfg := a.config()
	s := report.State{
		Now: a.admin.Now(), By: admin.ActorOf(ctx).Name, Version: version(), Config: hashOf(cfg), Node: cfg.Node, Organisation: cfg.Organisation, Log: a.log, Rules: *a.gate.Policy(),
		First: cfg.Login.FirstFactor, Live: len(a.gate.Sessions()), Standings: a.standings,
		Verify: func(ctx context.Context) report.Integrity { return a.verifyForReport(ctx, full) },
		Directory: func(ctx context.Context, person string) ([]string, error) {
			groups, _, err := a.directoryGroups(ctx, person)
			return groups, err
		},
	}
	for _, sys := range systemsOf(cfg) {
		s.Systems = append(s.Systems, sys)
	}
	for _, o := range cfg.Operators.People {
		who := cmp.Or(o.Person, o.User, "group "+o.Group)
		s.Operators = append(s.Operators, report.Operator{Who: who, Role: string(o.Role)})
	}
	path := filepath.Join(a.paths.data, frameworksFile)
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		if s.Mapping, err = mapping.Parse(text, frameworksFile+" of this gateway, SHA-256 "+hexSum(text), report.Kinds()); err != nil {
			return s, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return s, err
	}
	return s, errors.Join(
		a.store.People(ctx, func(p login.Person) error { s.People = append(s.People, p); return nil }),
		a.store.Tokens(ctx, func(t login.Token) error { s.Tokens = append(s.Tokens, t); return nil }),
		a.store.Keys(ctx, func(k login.Key) error { s.Keys = append(s.Keys, k); return nil }),
		a.store.Exceptions(ctx, func(x login.Exception) error { s.Exceptions = append(s.Exceptions, x); return nil }),
		a.store.TimedGrants(ctx, func(g login.TimedGrant) error { s.Grants = append(s.Grants, g); return nil }),
		a.store.Attestations(ctx, func(x login.Attestation) error { s.Attestations = append(s.Attestations, x); return nil }),
	)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// standings are what the running gateway's parts say of themselves.
func (a *app) standings(ctx context.Context) []report.Standing {
	if a.parts == nil {
		return []report.Standing{{Part: "gateway", What: "daemon", State: "is not running: nothing is known of its witnesses and receivers"}}
	}
	return a.parts(ctx)
}

// verifyForReport looks whether the records are those that the newest checkpoint signs. In full it checks as `audit verify` does, which
// takes many times as long.
func (a *app) verifyForReport(ctx context.Context, full bool) report.Integrity {
	look, more := a.recount, ""
	if full {
		look, more = a.verifyInFull, " The form of each was checked too, that no code was accepted twice, and that records tell of every erasure."
	}
	r, err := look(ctx)
	if err != nil {
		return report.Integrity{Done: true, Text: "NOT SOUND, or not to be read: " + err.Error()}
	}
	return report.Integrity{
		Done: true, Sound: true, Size: r.Size, Root: r.Root.String(), Erased: r.Erased, Unsigned: r.Unsigned,
		Text: fmt.Sprintf("Verified: records 0 to %d are those that the newest checkpoint signs (root %s); %d of them are erased. Since they were signed, not one was altered, removed, added or moved.%s",
			max(r.Size, 1)-1, r.Root, r.Erased, more),
	}
}

func (a *app) recount(ctx context.Context) (audit.Report, error) {
	return a.log.Recount(ctx, runtime.GOMAXPROCS(0))
}

func (a *app) verifyInFull(context.Context) (r audit.Report, err error) {
	v, err := readVerifier(a.paths.auditPublic)
	if err != nil {
		return r, err
	}
	if _, err := a.log.Checkpoint(); err != nil { // so that it signs the newest records too
		return r, err
	}
	r, err = audit.VerifyDir(a.paths.journal, a.paths.checkpoint, v, nil)
	if err == nil && len(r.UncoveredErased) > 0 {
		err = fmt.Errorf("record %d is erased, and no record tells of it%s", r.UncoveredErased[0].First, rangesText(r.UncoveredErased))
	}
	return r, err
}

// reportMake makes a report, keeps it, and records that.
func (a *app) reportMake(ctx context.Context, in ReportMake) (ReportMade, error) {
	if !slices.Contains(append(document.Formats(), document.Text), in.Format) {
		return ReportMade{}, admin.Refuse("html, csv, json or pdf", "%q is not a format", in.Format)
	}
	if err := in.Fill(a.admin.Now()); err != nil {
		return ReportMade{}, admin.Refuse("`sallyport help report "+in.Kind+"` has examples", "%v", err)
	}
	done, err := a.alone(ctx)
	if err != nil {
		return ReportMade{}, err
	}
	defer done()
	s, err := a.reportState(ctx, in.Kind == report.LogHealth)
	if err != nil {
		return ReportMade{}, err
	}
	d, err := report.Make(ctx, s, in.Request)
	if err != nil {
		return ReportMade{}, err
	}
	return a.keepReport(ctx, d, in.Format, in.Table)
}

// keepReport keeps a report before its record is made: a file that no record vouches for is worth nothing, and a record without its file is a
// report that is lost.
func (a *app) keepReport(ctx context.Context, d *document.Document, format, table string) (out ReportMade, err error) {
	raw, err := d.Bytes(document.JSON)
	if err != nil {
		return out, err
	}
	sum := sha256.Sum256(raw)
	out.ID, out.SHA256 = kept.Name(d.Meta.Made, d.Kind, sum), hex.EncodeToString(sum[:])
	if out.Content, err = render(d, raw, format, table); err != nil {
		return out, admin.Refuse("", "%v", err)
	}
	if err := a.reports().Put(out.ID, document.JSON, raw); err != nil {
		return out, full(err)
	}
	detail := []audit.Detail{
		{Key: "report", Value: string(out.ID)},
		{Key: "sha256", Value: out.SHA256},
		{Key: "size", Value: strconv.Itoa(len(raw))},
		{Key: "from", Value: d.Meta.From.Format(time.RFC3339Nano)},
		{Key: "to", Value: d.Meta.To.Format(time.RFC3339Nano)},
		{Key: "as_at", Value: d.Meta.On.Format(time.RFC3339Nano)},
		{Key: "filter", Value: d.Meta.Filter},
		{Key: "records", Value: fmt.Sprint(d.Meta.NextSeq)},
		{Key: "format", Value: format},
	}
	if format != document.JSON && format != document.Text && table == "" {
		if err := a.reports().Put(out.ID, format, out.Content); err != nil {
			return out, err
		}
		detail = append(detail, audit.Detail{Key: "sha256_" + format, Value: hexSum(out.Content)})
	}
	out.Record, err = a.admin.Note(ctx, "report."+d.Kind, audit.Info, string(login.ReasonOK), detail...)
	return out, err
}

// full says what to do where no more reports can be kept.
func full(err error) error {
	if errors.Is(err, kept.ErrFull) {
		return admin.Refuse("move old ones from reports in the data folder to where they are to be archived; their records stay", "%v", err)
	}
	return err
}

// render gives one form of a report; raw is its JSON.
func render(d *document.Document, raw []byte, format, table string) ([]byte, error) {
	switch {
	case table != "":
		var b writer
		err := d.CSVTable(&b, table)
		return b, err
	case format == document.JSON:
		return raw, nil
	}
	return d.Bytes(format)
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }

// vouched finds the record of a kept report.
func (a *app) vouched(ctx context.Context, id kept.ID) (rec *audit.Record, err error) {
	day, err := time.Parse(time.DateOnly, id.Day())
	if err != nil {
		return nil, err
	}
	f := audit.Filter{Event: "report." + id.Kind(), Since: day.AddDate(0, 0, -1), Until: day.AddDate(0, 0, 2)}
	err = a.index.Find(ctx, f, func(r *audit.Record) error {
		if detailIn(r, "report") == string(id) {
			rec = r
		}
		return nil
	})
	return rec, err
}

func detailIn(rec *audit.Record, key string) string {
	for _, d := range rec.Detail {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}

func (a *app) reportList(ctx context.Context) ([]ReportKept, error) {
	list := []ReportKept{}
	entries, err := a.reports().List()
	if err != nil {
		return list, err
	}
	for _, e := range entries {
		row := ReportKept{Entry: e, Kind: e.ID.Kind()}
		rec, err := a.vouched(ctx, e.ID)
		if err != nil {
			return list, err
		}
		if rec != nil {
			row.Record, row.Made, row.By, row.SHA256 = &rec.Seq, rec.Time, detailIn(rec, "actor"), detailIn(rec, "sha256")
		}
		list = append(list, row)
	}
	return list, nil
}

// keptJSON reads a kept report, and gives it only when it is what its record says.
func (a *app) keptJSON(ctx context.Context, name string) (raw []byte, rec *audit.Record, id kept.ID, err error) {
	const hint = "`sallyport report list` shows those that are kept"
	if id, err = kept.ParseID(name); err != nil {
		return nil, nil, id, admin.Refuse(hint, "%v", err)
	}
	if rec, err = a.vouched(ctx, id); err != nil {
		return nil, nil, id, err
	}
	if raw, err = a.reports().Read(id, document.JSON); err != nil {
		return nil, nil, id, admin.Refuse(hint, "%v", err)
	}
	if rec == nil {
		return nil, nil, id, admin.Refuse("it may have been put there by hand", "no record vouches for report %s", id)
	}
	if got, want := hexSum(raw), detailIn(rec, "sha256"); got != want {
		return nil, nil, id, admin.Refuse("keep the file as it is, and look who could write the folder",
			"report %s was altered: its SHA-256 is %s, and record %d says %s", id, got, rec.Seq, want)
	}
	return raw, rec, id, nil
}

func (a *app) reportShow(ctx context.Context, in ReportID) (out ReportMade, err error) {
	if in.Format == "zip" {
		return a.packShow(ctx, in.ID)
	}
	raw, rec, id, err := a.keptJSON(ctx, in.ID)
	if err != nil {
		return out, err
	}
	out.ID, out.SHA256, out.Record = id, detailIn(rec, "sha256"), rec.Seq
	if in.Format == document.JSON {
		out.Content = raw
	} else if want := detailIn(rec, "sha256_"+in.Format); want != "" {
		if out.Content, err = a.reports().Read(id, in.Format); err == nil && hexSum(out.Content) != want {
			err = admin.Refuse("`--format json` shows what is sound of it", "report %s as %s was altered: record %d says another SHA-256", id, in.Format, rec.Seq)
		}
		if err != nil {
			return out, err
		}
	}
	if out.Content == nil {
		d, err := document.Parse(raw)
		if err != nil {
			return out, err
		}
		if out.Content, err = d.Bytes(in.Format); err != nil {
			return out, admin.Refuse("html, csv, json or pdf", "%v", err)
		}
	}
	return out, a.admin.Record(ctx, "report.show", audit.Info, string(login.ReasonOK), audit.Detail{Key: "report", Value: string(id)})
}

// reportCompare makes a kept report once more, of the same records, and tells what differs.
func (a *app) reportCompare(ctx context.Context, in ReportID) (out ReportCompared, err error) {
	raw, _, id, err := a.keptJSON(ctx, in.ID)
	if err != nil {
		return out, err
	}
	was, err := document.Parse(raw)
	if err != nil {
		return out, err
	}
	r, err := report.RequestOf(was)
	if err == nil {
		err = r.Fill(was.Meta.Made)
	}
	if err != nil {
		return out, err
	}
	done, err := a.alone(ctx)
	if err != nil {
		return out, err
	}
	defer done()
	r.Fast = true // that the log is whole is `audit verify`'s to say
	s, err := a.reportState(ctx, false)
	if err != nil {
		return out, err
	}
	made, err := report.Make(ctx, s, r)
	if err != nil {
		return out, err
	}
	if raw, err = made.Bytes(document.JSON); err != nil {
		return out, err
	}
	now, err := document.Parse(raw)
	if err != nil {
		return out, err
	}
	out = ReportCompared{ID: id, Same: true, Differences: document.Compare(was, now)}
	for _, d := range out.Differences {
		if d.Basis != document.State && d.Section != "integrity" {
			out.Same = false
		}
	}
	return out, a.admin.Record(ctx, "report.compare", audit.Info, string(login.ReasonOK),
		audit.Detail{Key: "report", Value: string(id)}, audit.Detail{Key: "same", Value: yesNo(out.Same)}, audit.Detail{Key: "differences", Value: strconv.Itoa(len(out.Differences))})
}
