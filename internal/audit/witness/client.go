package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Prover makes consistency proofs of a log. What it makes is right: it has checked it against root.
type Prover interface {
	ProveConsistency(old, size uint64, root tlog.Hash) (tlog.TreeProof, error)
}

// Client asks one witness.
type Client struct {
	URL      string        // submission prefix, without a slash at its end
	Verifier note.Verifier // of the witness
	HTTP     *http.Client  // with a timeout, and without redirects
}

// Conflict: the witness has signed what our log does not hold. It is evidence against our log, or it is not our log's
// witness; either way nothing is to be sent again before somebody has looked.
type Conflict struct {
	Signed uint64 // records that the witness has signed
	Ours   uint64 // that our log has
	Forked bool   // the log has that many, and they are others
}

func (e *Conflict) Error() string {
	if e.Forked {
		return fmt.Sprintf("the witness has signed %d records, and the log's first %d are others: the log was made anew, or another gateway has its key", e.Signed, e.Signed)
	}
	return fmt.Sprintf("the witness has signed %d records, and the log has %d: the log was cut back", e.Signed, e.Ours)
}

// Refused is any other answer than the wanted.
type Refused struct {
	Status int
	Said   string // the first line of its body, cut to a sentence
}

func (e *Refused) Error() string {
	why := map[int]string{
		http.StatusBadRequest:          "it does not understand the request",
		http.StatusForbidden:           "it knows another key of this log",
		http.StatusNotFound:            "it does not know this log, or its URL is another",
		http.StatusConflict:            "it has signed another size, again and again",
		http.StatusTooManyRequests:     "it is asked too often",
		http.StatusUnprocessableEntity: "the proof does not convince it",
	}[e.Status]
	if why == "" {
		why = http.StatusText(e.Status)
	}
	return fmt.Sprintf("the witness says %d, %s (%q)", e.Status, why, e.Said)
}

// maxTurns is how often one submission follows a witness that names another size: it may be asked by two at once.
const maxTurns = 3

// errBehind: the witness has signed more than this checkpoint, and no more than the log has. The next one will do.
var errBehind = errors.New("the witness has signed a newer checkpoint")

// add submits a checkpoint of our log, old being the size that the witness is thought to have signed. It returns the
// witness's signature, verified. Next tells how many records the log has by now.
func (c *Client) add(ctx context.Context, p Prover, checkpoint string, old uint64, next func() uint64) (note.Signature, error) {
	t, err := parseText(textOf(checkpoint))
	if err != nil {
		return note.Signature{}, err
	}
	old = min(old, t.size)
	for range maxTurns {
		proof, err := p.ProveConsistency(old, t.size, t.root)
		if err != nil {
			return note.Signature{}, err
		}
		status, answer, signed, err := c.post(ctx, request{old, proof, checkpoint})
		if err != nil {
			return note.Signature{}, err
		}
		switch {
		case status == http.StatusOK:
			return parseCosignature(checkpoint, answer, c.Verifier)
		case status == http.StatusUnprocessableEntity && old > 0:
			return note.Signature{}, &Conflict{Signed: old, Ours: next(), Forked: true}
		case signed == nil:
			return note.Signature{}, &Refused{status, firstLine(answer)}
		case *signed == old: // the size is right, so it is the root
			return note.Signature{}, &Conflict{Signed: old, Ours: next(), Forked: true}
		case *signed > t.size && *signed > next():
			return note.Signature{}, &Conflict{Signed: *signed, Ours: next()}
		case *signed > t.size:
			return note.Signature{}, errBehind
		}
		old = *signed
	}
	return note.Signature{}, &Refused{http.StatusConflict, ""}
}

// post sends one request. Signed is what a 409 names.
func (c *Client) post(ctx context.Context, r request) (status int, answer []byte, signed *uint64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+addPath, strings.NewReader(r.String()))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, nil, fmt.Errorf("reading the witness's answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return 0, nil, nil, fmt.Errorf("the witness's answer has more than %d bytes", maxAnswer)
	}
	if resp.StatusCode == http.StatusConflict {
		if signed, err = parseSigned(resp.Header.Get("Content-Type"), answer); err != nil {
			return 0, nil, nil, err
		}
	}
	return resp.StatusCode, answer, signed, nil
}

// parseSigned reads the body of a 409.
func parseSigned(contentType string, body []byte) (*uint64, error) {
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != sizeType {
		return nil, fmt.Errorf("the witness says 409 with a body of %.60q, want %s", contentType, sizeType)
	}
	line, ok := strings.CutSuffix(string(body), "\n")
	n, err := parseSize(line)
	if err != nil || !ok {
		return nil, fmt.Errorf("the witness says 409 with %.40q in place of a size", body)
	}
	return &n, nil
}

// firstLine is what can be shown of a stranger's answer.
func firstLine(b []byte) string {
	line, _, _ := strings.Cut(string(b), "\n")
	if len(line) > 120 {
		line = line[:120] + "..."
	}
	return line
}
