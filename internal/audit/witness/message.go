package witness

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxProof is how many hashes a request may hold (c2sp.org/tlog-witness).
	maxProof = 63
	// maxNote bounds a checkpoint with its signatures, in bytes.
	maxNote = 16 << 10
	// MaxRequest bounds the body of a request, in bytes: old, proof, blank line, checkpoint.
	MaxRequest = 32 + maxProof*45 + maxNote
	// maxAnswer bounds the body of an answer, in bytes.
	maxAnswer = 16 << 10

	sizeType = "text/x.tlog.size"
	addPath  = "/add-checkpoint"
)

// request is the body of an add-checkpoint.
type request struct {
	old        uint64
	proof      tlog.TreeProof
	checkpoint string
}

var errRequest = errors.New("not an add-checkpoint request")

func (r request) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", r.old)
	for _, h := range r.proof {
		b.WriteString(h.String() + "\n")
	}
	b.WriteString("\n" + r.checkpoint)
	return b.String()
}

// parseRequest is strict: what it takes, String writes as it was. It says nothing of the checkpoint but that it is
// there.
func parseRequest(body []byte) (request, error) {
	if len(body) > MaxRequest {
		return request{}, fmt.Errorf("%d bytes, at most %d can be: %w", len(body), MaxRequest, errRequest)
	}
	head, checkpoint, ok := strings.Cut(string(body), "\n\n")
	if !ok || checkpoint == "" {
		return request{}, fmt.Errorf("no blank line before a checkpoint: %w", errRequest)
	}
	if len(checkpoint) > maxNote {
		return request{}, fmt.Errorf("a checkpoint of %d bytes, at most %d can be: %w", len(checkpoint), maxNote, errRequest)
	}
	lines := strings.Split(head, "\n")
	number, ok := strings.CutPrefix(lines[0], "old ")
	if !ok {
		return request{}, fmt.Errorf("its first line is not \"old\" and a size: %w", errRequest)
	}
	r := request{checkpoint: checkpoint}
	var err error
	if r.old, err = parseSize(number); err != nil {
		return request{}, fmt.Errorf("%w: %w", err, errRequest)
	}
	if len(lines)-1 > maxProof {
		return request{}, fmt.Errorf("a proof of %d hashes, at most %d can be: %w", len(lines)-1, maxProof, errRequest)
	}
	for _, line := range lines[1:] {
		h, err := parseHash(line)
		if err != nil {
			return request{}, fmt.Errorf("%w: %w", err, errRequest)
		}
		r.proof = append(r.proof, h)
	}
	return r, nil
}

// originOf is the first line of a note, believed or not.
func originOf(msg string) string {
	origin, _, _ := strings.Cut(msg, "\n")
	return origin
}

// textOf is a note's text without its signatures.
func textOf(msg string) string {
	if at := strings.LastIndex(msg, "\n\n"); at >= 0 {
		return msg[:at+1]
	}
	return msg
}

// parseCosignature takes v's signature from an answer, and passes over others' (c2sp.org/tlog-witness).
func parseCosignature(checkpoint string, answer []byte, v note.Verifier) (note.Signature, error) {
	if len(answer) == 0 || answer[len(answer)-1] != '\n' {
		return note.Signature{}, errors.New("the answer is not lines of signatures")
	}
	n, err := note.Open([]byte(textOf(checkpoint)+"\n"+string(answer)), note.VerifierList(v))
	if unknown := (*note.UnverifiedNoteError)(nil); errors.As(err, &unknown) {
		return note.Signature{}, fmt.Errorf("the answer is signed by another key than %s+%08x", v.Name(), v.KeyHash())
	}
	if err != nil {
		return note.Signature{}, fmt.Errorf("the answer: %w", err)
	}
	return n.Sigs[0], nil
}
