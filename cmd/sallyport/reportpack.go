package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/report"
	"sallyport/internal/report/kept"
)

// ReportPack is the input of report.pack.
type ReportPack struct {
	report.Request
	NoRecords bool `json:"no_records,omitempty"` // leave the export out
}

// maxKeptPack bounds the packs that are kept: larger ones are whole exports of the log, which has all that is in them.
const maxKeptPack = 256 << 20

// packWriter hands a pack on and sums it; what fits is kept besides.
type packWriter struct {
	w    io.Writer
	sum  io.Writer
	keep *os.File // nil: it became too large
	n    int64
}

func (p *packWriter) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	p.sum.Write(b) // a hash never fails
	if p.keep != nil {
		if p.n > maxKeptPack {
			p.drop()
		} else if _, err := p.keep.Write(b); err != nil {
			return 0, fmt.Errorf("keeping the pack: %w", err)
		}
	}
	return p.w.Write(b)
}

func (p *packWriter) drop() {
	if p.keep != nil {
		p.keep.Close()
		os.Remove(p.keep.Name())
		p.keep = nil
	}
}

// reportPack writes a zip. That somebody reads the log is recorded before the first byte, and what he got, by its sum, after the last: a
// pack without the second record is none.
func (a *app) reportPack(ctx context.Context, in ReportPack, w io.Writer) error {
	in.Kind = report.MFA
	if err := in.Fill(a.admin.Now()); err != nil {
		return admin.Refuse("`sallyport help report pack` has examples", "%v", err)
	}
	detail := []audit.Detail{
		{Key: "from", Value: in.From.Format(time.RFC3339Nano)},
		{Key: "to", Value: in.To.Format(time.RFC3339Nano)},
		{Key: "as_at", Value: in.On.Format(time.RFC3339Nano)},
		{Key: "records", Value: yesNo(!in.NoRecords)},
		{Key: "seed", Value: in.Seed},
	}
	if err := a.admin.Record(ctx, "report.pack.begin", audit.Info, string(login.ReasonOK), detail...); err != nil {
		return err
	}
	done, err := a.alone(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, err := a.reportState(ctx, true)
	if err != nil {
		return err
	}
	f, err := report.Gather(ctx, s, in.Request)
	if err != nil {
		return err
	}
	checkpoint, err := a.log.Checkpoint()
	if err != nil {
		return err
	}
	parts := report.Parts{PublicKey: a.admin.PublicKey + "\n", Checkpoint: checkpoint, Proof: a.proofForReport(checkpoint)}
	if cosigned, err := a.log.Cosigned(); err == nil && cosigned != "" {
		parts.More = map[string]func(io.Writer) error{
			"records/cosigned-checkpoint.txt": func(w io.Writer) error { _, err := io.WriteString(w, cosigned); return err },
		}
	}
	if !in.NoRecords {
		parts.Export = a.log.Export
	}
	if err := a.reports().Room(maxKeptPack); err != nil {
		return full(err)
	}
	keep, err := os.CreateTemp(string(a.reports()), ".pack-*")
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := &packWriter{w: w, sum: sum, keep: keep}
	defer out.drop()
	if _, err := f.Pack(ctx, out, parts); err != nil {
		return err
	}
	id := kept.Name(s.Now, "pack", [sha256.Size]byte(sum.Sum(nil)))
	if out.keep != nil {
		if err := a.reports().Adopt(id, "zip", out.keep); err != nil {
			return err
		}
		out.keep = nil
	}
	detail = append(detail, audit.Detail{Key: "report", Value: string(id)}, audit.Detail{Key: "sha256", Value: hex.EncodeToString(sum.Sum(nil))},
		audit.Detail{Key: "size", Value: strconv.FormatInt(out.n, 10)})
	return a.admin.Record(ctx, "report.pack", audit.Info, string(login.ReasonOK), detail...)
}

// proofForReport proves records below the checkpoint that witnesses have signed, and newer ones below the log's own.
func (a *app) proofForReport(own string) func(seq uint64) ([]byte, error) {
	cosigned, err := a.log.Cosigned()
	return func(seq uint64) ([]byte, error) {
		if err == nil && cosigned != "" {
			if file, err := a.log.Prove(seq, cosigned); err == nil {
				return file, nil
			}
		}
		return a.log.Prove(seq, own)
	}
}

// packShow gives a kept pack back.
func (a *app) packShow(ctx context.Context, name string) (out ReportMade, err error) {
	const hint = "`sallyport report list` shows those that are kept"
	id, err := kept.ParseID(name)
	if err != nil {
		return out, admin.Refuse(hint, "%v", err)
	}
	rec, err := a.vouched(ctx, id)
	if err != nil {
		return out, err
	}
	if rec == nil {
		return out, admin.Refuse("it may have been put there by hand", "no record vouches for pack %s", id)
	}
	out = ReportMade{ID: id, SHA256: detailIn(rec, "sha256"), Record: rec.Seq}
	if out.Content, err = a.reports().Read(id, "zip"); err != nil {
		return out, admin.Refuse(hint, "%v", err)
	}
	if got := hexSum(out.Content); got != out.SHA256 {
		return ReportMade{}, admin.Refuse("keep the file as it is, and look who could write the folder",
			"pack %s was altered: its SHA-256 is %s, and record %d says %s", id, got, rec.Seq, out.SHA256)
	}
	return out, a.admin.Record(ctx, "report.show", audit.Info, string(login.ReasonOK), audit.Detail{Key: "report", Value: string(id)})
}
