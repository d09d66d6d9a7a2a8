package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/audit/witness"
)

// verifyFlags are what a verification compares with.
type verifyFlags struct {
	key         string
	witnessKeys []string
	checkpoints []string
}

func (c *cli) auditVerify() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify [FILE]", Short: "Prove that no record was altered, removed, added or moved", Args: cobra.MaximumNArgs(1),
		Long: `With FILE and --key: verifies an exported file, or the proof of one record (audit proof), with public keys and nothing else.
Without: verifies this gateway's own journal, also while the daemon runs, against its stored checkpoints.
With --witness-key, the key of each witness must have signed a checkpoint that is in the file (or beside the journal, or given by
--checkpoint). With --checkpoint, the log must also hold to checkpoints that were kept elsewhere, or that a
witness gives out: a log that was cut or made anew since is found.
Prints the size and root of the tree and exits with 0, or names the first bad record and exits with 1.`,
		Example: `  sallyport audit verify
  sallyport audit verify june.jsonl --key sallyport.pub
  sallyport audit verify june.jsonl --key sallyport.pub --witness-key w1.pub --checkpoint from-the-witness
  sallyport audit verify record-4711.tlog-proof --key sallyport.pub --witness-key w1.pub`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && f.key == "" {
				return usageError{hintf("`sallyport audit public-key > sallyport.pub` writes it, at the gateway", "an exported file is verified with --key KEYFILE")}
			}
			with, err := f.read()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				report, err := c.verifyLive(f.key, with)
				return c.verified(report, err)
			}
			return c.verifyFile(args[0], f.key, with)
		},
	}
	cmd.Flags().StringVar(&f.key, "key", "", "`KEYFILE` with the public key of the log")
	cmd.Flags().StringArrayVar(&f.witnessKeys, "witness-key", nil, "`KEYFILE` with the public key of a witness that must have signed; may be given again")
	cmd.Flags().StringArrayVar(&f.checkpoints, "checkpoint", nil, "`FILE` with checkpoints that were kept elsewhere; may be given again")
	return cmd
}

// maxKept bounds a file of kept checkpoints, in bytes: some 200,000 of them.
const maxKept = 64 << 20

func (f *verifyFlags) read() (with audit.Witnessed, err error) {
	for _, path := range f.witnessKeys {
		b, err := os.ReadFile(path)
		if err != nil {
			return with, err
		}
		v, err := witness.NewVerifier(strings.TrimSpace(string(b)))
		if err != nil {
			return with, hintf("it is the one line that `sallyport witness init` prints", "%s: %w", path, err)
		}
		if !slices.ContainsFunc(with.Witnesses, func(w note.Verifier) bool { return w.Name() == v.Name() && w.KeyHash() == v.KeyHash() }) {
			with.Witnesses = append(with.Witnesses, v)
		}
	}
	for _, path := range f.checkpoints {
		b, err := readBounded(path, maxKept)
		if err != nil {
			return with, err
		}
		kept := audit.SplitCheckpoints(string(b))
		if len(kept) == 0 {
			return with, hintf("`sallyport audit checkpoint` prints one, and a witness gives out what it has signed", "%s: there is no checkpoint in it", path)
		}
		with.Kept = append(with.Kept, kept...)
	}
	return with, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s: more than %d bytes", path, most)
	}
	return b, err
}

// verifyLive verifies the journal of this gateway in place, beside a daemon that may be writing it.
func (c *cli) verifyLive(keyFile string, with audit.Witnessed) (audit.Report, error) {
	cfg, err := c.load()
	if err != nil {
		return audit.Report{}, err
	}
	p := layout(cfg.Data)
	if keyFile == "" {
		keyFile = p.auditPublic
	}
	v, err := readVerifier(keyFile)
	if err != nil {
		return audit.Report{}, err
	}
	bar := c.progress("records", 0)
	defer bar.done()
	return audit.VerifyDirWith(p.journal, p.checkpoint, v, with, bar.at)
}

// verifyFile tells an export from a proof by how it begins.
func (c *cli) verifyFile(path, keyFile string, with audit.Witnessed) error {
	v, err := readVerifier(keyFile)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	if begin, _ := in.Peek(64); audit.IsProof(begin) {
		file, err := io.ReadAll(io.LimitReader(in, audit.MaxProof+1))
		if err != nil {
			return err
		}
		return c.verifyProof(file, v, with)
	}
	bar := c.progress("records", 0)
	report, err := audit.VerifyExportWith(in, v, with, bar.at)
	bar.done()
	return c.verified(report, err)
}

const hintKeep = "keep the file or data folder as it is, and compare with earlier exports and checkpoints"

// notVerified says what was wrong, to programs too.
func (c *cli) notVerified(err error) error {
	var bad *audit.BadRecord
	if c.json && errors.As(err, &bad) {
		if e := c.printJSON(map[string]any{"verified": false, "record": bad.Seq, "what": bad.What}); e != nil {
			return e
		}
	}
	if errors.Is(err, audit.ErrUnwitnessed) {
		if c.json {
			if e := c.printJSON(map[string]any{"verified": false, "what": err.Error()}); e != nil {
				return e
			}
		}
		return hintf("give a checkpoint that the witness has signed by --checkpoint: `curl` it from the witness, or `sallyport audit checkpoint --cosigned`",
			"the records are whole, but not verified: %w", err)
	}
	return hintf(hintKeep, "not verified: %w", err)
}

// verified prints what a verification of many records found.
func (c *cli) verified(report audit.Report, err error) error {
	if err != nil {
		return c.notVerified(err)
	}
	if report.Unfinished != "" {
		fmt.Fprintf(c.stderr, "note: a killed gateway left an unfinished write, which nobody was told of; the next start cuts it off (%s)\n", report.Unfinished)
	}
	if report.Unsigned > 0 {
		fmt.Fprintf(c.stderr, "note: the newest %d records are whole, and not signed yet\n", report.Unsigned)
	}
	if err := c.judgeErased(&report); err != nil {
		return err
	}
	var signed []witnessSignature
	for _, cosigned := range report.Cosigned {
		signed = append(signed, signaturesOf(cosigned.Checkpoint)...)
	}
	if c.json {
		out := map[string]any{"verified": true, "size": report.Size, "root": report.Root.String()}
		if report.Erased > 0 {
			out["erased"], out["erased_ranges"], out["erasures"] = report.Erased, report.ErasedRanges, report.Erasures
		}
		if len(report.Cosigned) > 0 {
			out["checkpoints"], out["witnesses"] = len(report.Cosigned), signed
		}
		return c.printJSON(out)
	}
	fmt.Fprintf(c.stdout, "verified: size %d root %s\n", report.Size, report.Root)
	if n := len(report.Cosigned); n > 0 {
		fmt.Fprintf(c.stdout, "it holds to %d checkpoints that were kept or signed elsewhere, the largest of %d records\n", n, largest(report.Cosigned))
	}
	return c.printSignatures(signed)
}

func largest(all []audit.Cosigned) (size uint64) {
	for _, c := range all {
		size = max(size, c.Size)
	}
	return size
}

// witnessSignature is what a witness vouches for.
type witnessSignature struct {
	Witness string    `json:"witness"`
	Size    uint64    `json:"size"`
	Time    time.Time `json:"time"` // by the witness's clock
}

func signaturesOf(c audit.Checkpoint) []witnessSignature {
	all := []witnessSignature{}
	for _, s := range c.Cosigned {
		at, _ := witness.SignedAt(s) // it was verified, so it has one
		all = append(all, witnessSignature{s.Name, c.Size, at})
	}
	return all
}

// printSignatures prints the newest of each witness.
func (c *cli) printSignatures(all []witnessSignature) error {
	newest := make(map[string]int)
	for i, s := range all {
		if j, ok := newest[s.Witness]; !ok || s.Size >= all[j].Size {
			newest[s.Witness] = i
		}
	}
	for i, s := range all {
		if newest[s.Witness] != i {
			continue
		}
		if _, err := fmt.Fprintf(c.stdout, "witnessed: %d records by %s at %s\n", s.Size, printable(s.Witness), s.Time.Format(time.RFC3339)); err != nil {
			return err
		}
	}
	return nil
}

// verifyProof verifies the proof of one record, and prints the record.
func (c *cli) verifyProof(file []byte, v note.Verifier, with audit.Witnessed) error {
	if len(with.Kept) > 0 {
		return usagef("--checkpoint goes with an export or a live log: a proof has its own")
	}
	p, err := audit.VerifyProof(file, v, with.Witnesses...)
	if err == nil {
		err = missingWitness(p.Checkpoint, with.Witnesses)
	}
	if err != nil {
		return c.notVerified(err)
	}
	signed := signaturesOf(p.Checkpoint)
	var record string
	if p.Record != nil {
		record = string(p.Record.AppendJSON(nil))
	}
	if c.json {
		out := map[string]any{"verified": true, "seq": p.Seq, "size": p.Checkpoint.Size, "root": p.Checkpoint.Root.String(), "witnesses": signed, "erased": p.Record == nil}
		if p.Record != nil {
			out["record"] = rawJSON(record)
		}
		return c.printJSON(out)
	}
	fmt.Fprintf(c.stdout, "verified: record %d of size %d root %s\n", p.Seq, p.Checkpoint.Size, p.Checkpoint.Root)
	if p.Record == nil {
		fmt.Fprintln(c.stdout, "the record is erased: only that there was one, and which, is proved")
	} else {
		fmt.Fprintln(c.stdout, record)
	}
	if p.Checkpoint.Strangers > 0 {
		fmt.Fprintf(c.stderr, "note: %d signatures by others were not looked at; --witness-key KEYFILE checks a witness's\n", p.Checkpoint.Strangers)
	}
	return c.printSignatures(signed)
}

// rawJSON is text that is JSON already.
type rawJSON string

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }

// missingWitness is the error that a witness whose key was given has not signed.
func missingWitness(c audit.Checkpoint, witnesses []note.Verifier) error {
	for _, v := range witnesses {
		signed := false
		for _, s := range c.Cosigned {
			signed = signed || s.Name == v.Name() && s.Hash == v.KeyHash()
		}
		if !signed {
			return fmt.Errorf("%w: %s+%08x", audit.ErrUnwitnessed, v.Name(), v.KeyHash())
		}
	}
	return nil
}

func (c *cli) auditProof() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "proof SEQ", Short: "Write the proof that one record is in the log", Args: cobra.ExactArgs(1),
		Long: `Writes a C2SP tlog-proof of the record with the number SEQ: the record itself, its place in the tree, and a signed
checkpoint, with the witnesses' signatures when they have seen the record. Whoever has the file and the public keys can
check it without this gateway: audit verify FILE --key KEYFILE.`,
		Example: "  sallyport audit proof 4711 -o record-4711.tlog-proof",
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := strconv.ParseUint(args[0], 10, 63)
			if err != nil {
				return usagef("%q is not the number of a record", args[0])
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var p Proof
				if err := caller.Call(cmd.Context(), "audit.proof", ProofIn{Record: seq}, &p); err != nil {
					return err
				}
				if !p.Witnessed {
					fmt.Fprintln(c.stderr, "note: no witness has signed a checkpoint with this record yet; the proof stands on the log's own signature")
				}
				if out == "" || out == "-" {
					if c.json {
						return c.printJSON(p)
					}
					_, err := io.WriteString(c.stdout, p.File)
					return err
				}
				if err := os.WriteFile(out, []byte(p.File), 0o600); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "the proof of record %d is in %s\n", seq, out)
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`FILE` to write, by convention .tlog-proof (default: standard output)")
	return cmd
}

func (c *cli) auditCheckpoint() *cobra.Command {
	var cosigned bool
	cmd := &cobra.Command{
		Use: "checkpoint", Short: "Sign and print the present size and root of the log", Args: cobra.NoArgs,
		Long: `Prints a C2SP tlog-checkpoint, with the signatures of the witnesses that have seen it. Kept elsewhere, it shows later that nothing
before it was altered or cut off: audit verify --checkpoint FILE.`,
		Example: "  sallyport audit checkpoint >> /mnt/elsewhere/checkpoints\n  sallyport audit checkpoint --cosigned",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var cp, signed admin.Checkpoint
				if err := caller.Call(cmd.Context(), "audit.checkpoint", admin.Empty{}, &cp); err != nil {
					return err
				}
				if err := caller.Call(cmd.Context(), "audit.cosigned", admin.Empty{}, &signed); err != nil {
					return err
				}
				if cosigned && signed.Note == "" {
					return hintf("audit.witnesses in the configuration names witnesses, and `sallyport status` tells how it stands with them", "no witness has signed a checkpoint yet")
				}
				// The same text: the same tree.
				if text, _, _ := strings.Cut(cp.Note, "\n\n"); cosigned || strings.HasPrefix(signed.Note, text+"\n\n") {
					cp.Note = signed.Note
				}
				if c.json {
					return c.printJSON(cp)
				}
				_, err := io.WriteString(c.stdout, cp.Note)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&cosigned, "cosigned", false, "the newest that a witness has signed, which may be a little older")
	return cmd
}
