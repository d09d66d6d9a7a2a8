package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport/internal/audit"
	"sallyport/internal/report"
)

// Lines is a log in memory: canonical records in order.
type Lines [][]byte

// Next implements count.Log.
func (l Lines) Next() uint64 { return uint64(len(l)) }

// ScanJSON implements count.Log.
func (l Lines) ScanJSON(from, to uint64, fn func(seq uint64, json []byte) error) error {
	for i := from; i < min(to, l.Next()); i++ {
		if err := fn(i, l[i]); err != nil {
			return err
		}
	}
	return nil
}

// Fill writes about n records into memory, and makes them the trust's log.
func (t *Trust) Fill(n int) (Lines, error) {
	var lines Lines
	err := t.Records(n, func(rec *audit.Record) error {
		rec.Seq, rec.Node = uint64(len(lines)), node
		lines = append(lines, rec.AppendJSON(nil))
		return nil
	})
	t.Log = lines
	return lines, err
}

// publicSeed is the text of which the example's signing key is made. EVERYBODY HAS THIS KEY: what it signs proves nothing.
const publicSeed = "Sallyport example report: this key is public, and what it signs proves nothing"

// origin is the name of the key, which says the same.
const origin = "example.invalid/PUBLIC-KEY-PROVES-NOTHING"

// Sealed is the log with salts, a tree and a checkpoint, in the form of an export. Salts and key come from the public seed.
type Sealed struct {
	Lines
	Root       tlog.Hash
	Checkpoint string
	PublicKey  string
	salts      [][]byte
}

// Seal makes the export of a log.
func Seal(lines Lines) (*Sealed, error) {
	seed := sha256.Sum256([]byte(publicSeed))
	public := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", origin, verifier.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...))))
	if err != nil {
		return nil, err
	}
	s := &Sealed{Lines: lines, PublicKey: vkey}
	hashes := make([]tlog.Hash, len(lines))
	for i, line := range lines {
		m := hmac.New(sha256.New, seed[:])
		fmt.Fprintf(m, "salt %d", i)
		s.salts = append(s.salts, m.Sum(nil)[:16])
		leaf := leafOf(s.salts[i], line)
		hashes[i] = tlog.RecordHash(leaf[:])
	}
	s.Root = root(hashes)
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, len(lines), s.Root)
	msg, err := note.Sign(&note.Note{Text: text}, signer)
	s.Checkpoint = string(msg)
	return s, err
}

func leafOf(salt, line []byte) [sha256.Size]byte {
	return sha256.Sum256(append(bytes.Clone(salt), line...))
}

// root is RFC 6962's, section 2.1.
func root(hashes []tlog.Hash) tlog.Hash {
	switch len(hashes) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return hashes[0]
	}
	k := 1
	for k*2 < len(hashes) {
		k *= 2
	}
	return tlog.NodeHash(root(hashes[:k]), root(hashes[k:]))
}

// Export writes what `sallyport audit verify` takes.
func (s *Sealed) Export(w io.Writer) error {
	for i, line := range s.Lines {
		leaf := leafOf(s.salts[i], line)
		_, err := fmt.Fprintf(w, "{\"leaf\":\"%s\",\"salt\":\"%s\",\"record\":%s}\n", hex.EncodeToString(leaf[:]), hex.EncodeToString(s.salts[i]), line)
		if err != nil {
			return err
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Checkpoint string `json:"checkpoint"`
	}{s.Checkpoint})
}

// Verify verifies the export as an auditor would.
func (s *Sealed) Verify() report.Integrity {
	v, err := note.NewVerifier(s.PublicKey)
	if err != nil {
		return report.Integrity{Done: true, Text: err.Error()}
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(s.Export(w)) }()
	got, err := audit.VerifyExport(r, v, nil)
	if err != nil {
		return report.Integrity{Done: true, Text: "The records could not be verified: " + err.Error()}
	}
	return report.Integrity{
		Done: true, Sound: true, Size: got.Size, Root: got.Root.String(),
		Text: fmt.Sprintf("Verified: the checkpoint signs records 0 to %d, root %s. Not one was altered, removed, added or moved. (An example: its key is public, and its signature proves nothing.)", max(got.Size, 1)-1, got.Root),
	}
}
