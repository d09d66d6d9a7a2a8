package trust

import (
	"bytes"
	"context"
	"fmt"

	"sallyport/internal/report"
	"sallyport/internal/report/document"
)

// ExampleRecords is about how many records the example has.
const ExampleRecords = 8_000

// Statement makes the example's facts: the year of the trust, as the board of it would ask for.
func Statement(ctx context.Context) (*report.Facts, *Sealed, error) {
	t := New()
	lines, err := t.Fill(ExampleRecords)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := Seal(lines)
	if err != nil {
		return nil, nil, err
	}
	t.Verify = func(context.Context) report.Integrity { return sealed.Verify() }
	t.Standings = func(context.Context) []report.Standing {
		return []report.Standing{{Part: "example", What: "forwarding and witnesses", State: "a made-up trust has none", Well: true}}
	}
	r := report.Request{Kind: report.MFA, From: t.Begin, To: t.End, Zone: Zone, Number: 25, Seed: "example-2026", Plan: t.Plan}
	if err := r.Fill(t.Now); err != nil {
		return nil, nil, err
	}
	f, err := report.Gather(ctx, t.State, r)
	return f, sealed, err
}

// Example writes the files of the example: the statement, some of the reports, and a pack.
func Example(ctx context.Context, write func(name string, content []byte) error) error {
	f, sealed, err := Statement(ctx)
	if err != nil {
		return err
	}
	for _, out := range []struct {
		kind    string
		formats []string
	}{
		{report.MFA, document.Formats()},
		{report.Access, []string{document.HTML}},
		{report.Exceptions, []string{document.HTML}},
		{report.Sample, []string{document.HTML}},
		{report.LogHealth, []string{document.HTML}},
	} {
		d, err := f.Report(ctx, out.kind)
		if err != nil {
			return err
		}
		for _, format := range out.formats {
			b, err := d.Bytes(format)
			if err != nil {
				return err
			}
			if err := write(out.kind+"."+format, b); err != nil {
				return err
			}
		}
	}
	var pack bytes.Buffer
	parts := report.Parts{Export: sealed.Export, PublicKey: sealed.PublicKey + "\n", Checkpoint: sealed.Checkpoint}
	if _, err := f.Pack(ctx, &pack, parts); err != nil {
		return fmt.Errorf("the pack: %w", err)
	}
	return write("evidence-pack.zip", pack.Bytes())
}
