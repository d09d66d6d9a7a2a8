package report

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/report/count"
	"sallyport/internal/report/document"
)

// follow reads the trails of the sample, once.
func (f *Facts) follow(ctx context.Context) error {
	if f.trailed {
		return nil
	}
	trails, err := count.Follow(ctx, f.s.Log, f.next, f.workers(), f.t.Draw.Have)
	if err != nil {
		return fmt.Errorf("the trails of the sample: %w", err)
	}
	f.trails, f.trailed = trails, true
	return nil
}

// Records are the numbers of all records in the sample's trails, for their proofs.
func (f *Facts) Records(ctx context.Context) ([]uint64, error) {
	if err := f.follow(ctx); err != nil {
		return nil, err
	}
	var all []uint64
	for i := range f.trails {
		for _, r := range f.trails[i].Records {
			all = append(all, r.Seq)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// sample is what an auditor draws: logins by chance, and for each everything that is on record of it.
func (f *Facts) sample(ctx context.Context, d *document.Document) error {
	if err := f.follow(ctx); err != nil {
		return err
	}
	dr := f.t.Draw
	d.Title = "Sample of logins"
	d.Lead = fmt.Sprintf("%d of %s, drawn by the seed %q.", len(f.trails), plural(dr.Of, "admission", "admissions"), f.r.Seed)
	t := &document.Table{Empty: "There was nothing to draw from.", Columns: []document.Column{
		{Key: "sample", Title: "No.", Right: true},
		{Key: "record", Title: "Record", Right: true},
		{Key: "time", Title: "Time"},
		{Key: "person", Title: "Person"},
		{Key: "system", Title: "System"},
		{Key: "class", Title: "Class"},
		{Key: "factors", Title: "Factors", Wide: true},
		{Key: "rule", Title: "Rule"},
		{Key: "exception", Title: "Exception"},
		{Key: "records", Title: "Records", Right: true},
		{Key: "finding", Title: "Finding"},
	}}
	d.Sections = append(d.Sections, document.Section{ID: "sample", Title: "What was drawn", Basis: document.Log, Table: t, Text: []string{
		"An admission is in the sample when SHA-256 of the lines \"sallyport-sample\", the seed and the record's number is among the smallest. The same seed over the same records gives the same sample, and anybody can draw it from an export. The finding is for the auditor to fill in.",
	}})
	for i := range f.trails {
		tr := &f.trails[i]
		s, rec := f.trail(i+1, tr)
		if rec == nil {
			return fmt.Errorf("record %d was drawn, and is not in its own trail", tr.Seq)
		}
		kind := document.Good
		if kindsOf(rec) < 2 {
			kind = document.Warn
		}
		t.Add(kind, fmt.Sprint(i+1), fmt.Sprint(tr.Seq), f.p.At(rec.Time), rec.Person, rec.System, rec.Class, factorWords(rec.Factors), rec.Rule, rec.Exception, fmt.Sprint(len(tr.Records)+tr.Left+tr.Chunks), "")
		d.Sections = append(d.Sections, s)
	}
	return nil
}

func kindsOf(rec *audit.Record) int {
	seen := map[string]bool{}
	for _, x := range rec.Factors {
		if x.Result == "ok" || x.Result == "leaned" {
			seen[x.Kind] = true
		}
	}
	return len(seen)
}

func factorWords(list []audit.Factor) string {
	var parts []string
	for _, x := range list {
		parts = append(parts, fmt.Sprintf("%s:%s %s (%s)", x.Kind, x.Method, x.Result, x.Token))
	}
	return strings.Join(parts, "; ")
}

// trail shows the records of one admission, and finds that of the admission itself.
func (f *Facts) trail(no int, tr *count.Trail) (document.Section, *audit.Record) {
	t := &document.Table{Columns: []document.Column{
		{Key: "record", Title: "Record", Right: true},
		{Key: "time", Title: "Time"},
		{Key: "event", Title: "Event"},
		{Key: "result", Title: "Result"},
		{Key: "reason", Title: "Reason"},
		{Key: "source", Title: "Source"},
		{Key: "system", Title: "System"},
		{Key: "factors", Title: "Factors", Wide: true},
		{Key: "detail", Title: "Detail", Wide: true},
	}}
	var own *audit.Record
	for _, r := range tr.Records {
		rec, err := audit.Parse([]byte(r.JSON))
		if err != nil {
			t.Add(document.Bad, fmt.Sprint(r.Seq), "", "", "", err.Error(), "", "", "", "")
			continue
		}
		if r.Seq == tr.Seq {
			own = rec
		}
		var detail []string
		for _, x := range rec.Detail {
			detail = append(detail, x.Key+"="+x.Value)
		}
		t.Add(document.Plain, fmt.Sprint(r.Seq), rec.Time.In(f.p.Zone).Format("2006-01-02 15:04:05.000 MST"), rec.Event, string(rec.Result), rec.Reason, rec.Source, rec.System, factorWords(rec.Factors), strings.Join(detail, "; "))
	}
	t.Left = tr.Left
	s := document.Section{ID: fmt.Sprintf("trail-%d", no), Title: fmt.Sprintf("Sample %d: record %d", no, tr.Seq), Basis: document.Log, Table: t}
	if tr.Chunks > 0 {
		s.Text = []string{fmt.Sprintf("Besides, %s of the session's recording.", plural(tr.Chunks, "record is of a sealed piece", "records are of sealed pieces"))}
	}
	return s, own
}
