package report

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	_ "embed" // the README of a pack
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"sallyport/internal/report/document"
)

// Parts are what a pack has beside the reports. Functions may be nil.
type Parts struct {
	Export     func(w io.Writer) error             // all records, with a checkpoint as the last line
	PublicKey  string                              // of the log
	Checkpoint string                              // the newest, a signed note
	Proof      func(seq uint64) ([]byte, error)    // an offline proof of one record
	More       map[string]func(w io.Writer) error  // further files, by their name
	Formats    []string                            // of the reports; empty: all
	At         func(file string, n int, total int) // progress; files that were begun
}

// Packed is a file of a pack.
type Packed struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

//go:embed pack.txt
var packText string

// packing writes a zip whose bytes depend on what is put in alone: files in a fixed order, all with the time at which the facts were
// gathered.
type packing struct {
	*zip.Writer
	f     *Facts
	files []Packed
}

// Pack writes one zip with every report in every form, the records, and what it takes to check them. It needs as much memory as the largest report.
func (f *Facts) Pack(ctx context.Context, w io.Writer, parts Parts) ([]Packed, error) {
	p := &packing{Writer: zip.NewWriter(w), f: f}
	formats := parts.Formats
	if len(formats) == 0 {
		formats = document.Formats()
	}
	var proofs []uint64
	if parts.Proof != nil {
		var err error
		if proofs, err = f.Records(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.text("README.txt", strings.NewReplacer(
		"{node}", f.s.Node, "{made}", f.p.At(f.made), "{period}", f.p.At(f.r.From)+" to "+f.p.At(f.r.To), "{by}", f.s.By,
		"{version}", f.s.Version, "{integrity}", f.integrity.Text, "{seed}", f.r.Seed,
	).Replace(packText)); err != nil {
		return nil, err
	}
	for i, kind := range Kinds() {
		if parts.At != nil {
			parts.At(kind, i, len(Kinds()))
		}
		d, err := f.Report(ctx, kind)
		if err != nil {
			return nil, err
		}
		if err := p.report(d, formats); err != nil {
			return nil, err
		}
	}
	verification, err := json.MarshalIndent(f.integrity, "", " ")
	if err != nil {
		return nil, err
	}
	for _, file := range []struct{ name, text string }{
		{"records/public-key.txt", parts.PublicKey}, {"records/checkpoint.txt", parts.Checkpoint}, {"records/verification.json", string(verification) + "\n"},
	} {
		if file.text == "" {
			continue
		}
		if err := p.text(file.name, file.text); err != nil {
			return nil, err
		}
	}
	for _, seq := range proofs {
		proof, err := parts.Proof(seq)
		if err != nil {
			return nil, fmt.Errorf("proof of record %d: %w", seq, err)
		}
		if err := p.text(fmt.Sprintf("proofs/%d.tlog-proof", seq), string(proof)); err != nil {
			return nil, err
		}
	}
	for _, name := range byCount(parts.More, func(func(io.Writer) error) int { return 0 }) {
		if err := p.file(name, parts.More[name]); err != nil {
			return nil, err
		}
	}
	if parts.Export != nil {
		if err := p.file("records/records.jsonl", parts.Export); err != nil {
			return nil, err
		}
	}
	// The list of files is the last, since it has a sum of each. The form is sha256sum's.
	var list strings.Builder
	for _, file := range p.files {
		fmt.Fprintf(&list, "%s  %s\n", file.SHA256, file.Name)
	}
	if err := p.text("SHA256SUMS", list.String()); err != nil {
		return nil, err
	}
	return p.files, p.Close()
}

func (p *packing) report(d *document.Document, formats []string) error {
	for _, format := range formats {
		err := p.file("reports/"+d.Kind+"."+format, func(w io.Writer) error { return d.Write(w, format) })
		if err != nil {
			return err
		}
	}
	for _, table := range d.Tables() {
		if strings.HasPrefix(table, "trail-") || strings.HasPrefix(table, "entry-") {
			continue // these are in the whole report's CSV
		}
		err := p.file("tables/"+d.Kind+"."+table+".csv", func(w io.Writer) error { return d.CSVTable(w, table) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *packing) text(name, text string) error {
	return p.file(name, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
}

func (p *packing) file(name string, write func(w io.Writer) error) error {
	z, err := p.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: p.f.made})
	if err != nil {
		return fmt.Errorf("pack: %s: %w", name, err)
	}
	sum := sha256.New()
	n := &counting{w: io.MultiWriter(z, sum)}
	if err := write(n); err != nil {
		return fmt.Errorf("pack: %s: %w", name, err)
	}
	p.files = append(p.files, Packed{name, n.n, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
