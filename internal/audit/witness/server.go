package witness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Whoever finds no place is told to come again. A place is held as long as its holder likes, within the HTTP server's times, only
// where that keeps out nobody but his like: a slow page the readers of pages, a slow body, of which one address has few, other bodies.
const (
	maxAtOnce    = 32  // checkpoints, whole ones, that are judged
	maxPages     = 32  // pages that are written
	maxReading   = 256 // bodies that are read, each with some MaxRequest of memory
	maxReadingOf = 16  // of these, those of one address
)

// Options are what a Server is made of.
type Options struct {
	Signer *Signer
	State  string // folder with a file for each log; the caller has it for itself
	Logs   []Log
	Now    func() time.Time
	Log    *slog.Logger

	PerMinute int // requests of one address; 0: as many as it likes
}

// Server is a witness. It is an http.Handler, and safe for concurrent use.
type Server struct {
	o      Options
	mux    *http.ServeMux
	places chan struct{} // one taken by each checkpoint
	pages  chan struct{} // one taken by each page
	bodies *crowd
	rates  *rates

	mu   sync.RWMutex
	logs map[string]*known // guarded by mu: by origin
	list []*known          // guarded by mu: the same, sorted
	ever map[string]*known // guarded by mu: also those that were taken from the list. A log's lock must be one and the same
}

// known is a log with the newest tree that was signed.
type known struct {
	origin string
	keys   note.Verifiers
	name   string // of its file

	mu    sync.Mutex // held from the comparison until the new state is on the disk
	last  text       // guarded by mu
	note  string     // guarded by mu: the file
	since time.Time  // guarded by mu: when it was signed
}

// NewServer loads the state of each log. A state that is missing or wrong is an error: to begin anew could sign a second history.
func NewServer(o Options) (*Server, error) {
	readingOf := maxReadingOf
	if o.PerMinute <= 0 { // behind a proxy all are one
		readingOf = maxReading
	}
	s := &Server{
		o: o, mux: http.NewServeMux(), places: make(chan struct{}, maxAtOnce), pages: make(chan struct{}, maxPages),
		bodies: newCrowd(maxReading, readingOf), rates: newRates(o.PerMinute, o.Now), ever: make(map[string]*known),
	}
	if err := s.SetLogs(o.Logs); err != nil {
		return nil, err
	}
	s.mux.HandleFunc("POST "+addPath, s.add)
	s.mux.HandleFunc("GET /{$}", s.page(s.index))
	s.mux.HandleFunc("GET /checkpoint/{log}", s.page(s.checkpoint))
	return s, nil
}

// SetLogs replaces the list of known logs. Requests under way end with the old one. On an error the old one stays.
func (s *Server) SetLogs(logs []Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]*known, len(logs))
	var list []*known
	for _, l := range logs {
		k := s.ever[l.Origin]
		if k == nil {
			k = &known{origin: l.Origin, name: FileName(l.Origin)}
			if err := k.load(s.o.State, s.o.Signer.Verifier()); err != nil {
				return err
			}
		}
		if _, twice := next[l.Origin]; twice {
			return fmt.Errorf("log %.100q is listed twice", l.Origin)
		}
		next[l.Origin] = k
		list = append(list, k)
	}
	for _, l := range logs { // only now: nothing can fail any more
		k := next[l.Origin]
		s.ever[l.Origin] = k
		k.mu.Lock()
		k.keys = note.VerifierList(l.Keys...)
		k.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b *known) int { return strings.Compare(a.origin, b.origin) })
	s.logs, s.list = next, list
	return nil
}

func (s *Server) log(origin string) *known {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.logs[origin]
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.rates.allow(r.RemoteAddr) {
		comeAgain(w, "60", "too many requests from this address", http.StatusTooManyRequests)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// within calls f in one of the places.
func within(places chan struct{}, w http.ResponseWriter, f func()) {
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
		f()
	default:
		tooMuch(w)
	}
}

func tooMuch(w http.ResponseWriter) {
	comeAgain(w, "5", "too much at once", http.StatusServiceUnavailable)
}

// comeAgain also ends the connection of somebody whose body has not come: net/http would wait for it before it answers.
func comeAgain(w http.ResponseWriter, seconds, why string, status int) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // a test's writer has none
	w.Header().Set("Retry-After", seconds)
	http.Error(w, why, status)
}

func (s *Server) page(write http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { within(s.pages, w, func() { write(w, r) }) }
}

// answer is a refusal with its status.
type answer struct {
	status   int
	signed   uint64 // of a 409
	evidence string // a checkpoint that the log has signed, and that contradicts what the witness signed, or seems to
	error
}

// report writes a refusal to the log. What anybody can bring about without a log's key is not shown by default (P7).
func (s *Server) report(r *http.Request, refused *answer) {
	level := slog.LevelDebug
	switch {
	case refused.status == http.StatusInternalServerError:
		level = slog.LevelError
	case refused.evidence != "":
		level = slog.LevelWarn
	case refused.status == http.StatusConflict: // as every gateway gets it that has forgotten where it was
		level = slog.LevelInfo
	}
	with := []any{"source", r.RemoteAddr, "status", refused.status, "why", refused.Error()}
	if refused.evidence != "" {
		with = append(with, "checkpoint", refused.evidence)
	}
	s.o.Log.Log(r.Context(), level, "a checkpoint was not signed", with...)
}

func refuse(status int, format string, args ...any) *answer {
	return &answer{status: status, error: fmt.Errorf(format, args...)}
}

func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	leave, ok := s.bodies.enter(r.RemoteAddr)
	if !ok {
		tooMuch(w)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
	leave()
	if err != nil {
		status := http.StatusBadRequest
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the request cannot be read", status)
		return
	}
	within(s.places, w, func() { s.judge(w, r, body) })
}

func (s *Server) judge(w http.ResponseWriter, r *http.Request, body []byte) {
	line, refused := s.addCheckpoint(body)
	if refused != nil {
		s.report(r, refused)
		if refused.status == http.StatusConflict {
			w.Header().Set("Content-Type", sizeType)
			w.WriteHeader(refused.status)
			fmt.Fprintf(w, "%d\n", refused.signed)
			return
		}
		said := refused.Error()
		if refused.status == http.StatusInternalServerError {
			said = "the witness has trouble of its own" // which is nobody else's business
		}
		http.Error(w, said, refused.status)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, line)
}

// addCheckpoint is the whole decision, in the order of c2sp.org/tlog-witness.
func (s *Server) addCheckpoint(body []byte) (line string, refused *answer) {
	r, err := parseRequest(body)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "%w", err)
	}
	k := s.log(originOf(r.checkpoint))
	if k == nil {
		return "", refuse(http.StatusNotFound, "log %.100q is not known here", originOf(r.checkpoint))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	n, err := note.Open([]byte(r.checkpoint), k.keys)
	var unsigned *note.UnverifiedNoteError
	var wrong *note.InvalidSignatureError
	switch {
	case errors.As(err, &unsigned) || errors.As(err, &wrong):
		return "", refuse(http.StatusForbidden, "the checkpoint of %.100q is not signed by its key", k.origin)
	case err != nil:
		return "", refuse(http.StatusBadRequest, "checkpoint: %w", err)
	}
	t, err := parseText(n.Text)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "%w", err)
	}
	if r.old > t.size {
		return "", refuse(http.StatusBadRequest, "old is %d, and the checkpoint signs %d records", r.old, t.size)
	}
	if r.old != k.last.size {
		return "", &answer{status: http.StatusConflict, signed: k.last.size, error: fmt.Errorf("%s: old is %d, and %d records were signed", k.origin, r.old, k.last.size)}
	}
	if refused := k.consistent(r, t); refused != nil {
		refused.evidence = r.checkpoint
		return "", refused
	}
	if line, err = cosign(s.o.Signer, n.Text); err != nil {
		return "", refuse(http.StatusInternalServerError, "%w", err)
	}
	msg := n.Text + "\n"
	for _, sig := range n.Sigs {
		msg += lineOf(sig)
	}
	if err := k.store(s.o.State, msg+line); err != nil {
		return "", refuse(http.StatusInternalServerError, "%w", err)
	}
	k.last, k.note, k.since = t, msg+line, s.o.Now()
	return line, nil
}

// consistent tells whether t has the last tree as its beginning. It is called with mu held, and r.old being the last size.
func (k *known) consistent(r request, t text) *answer {
	switch {
	case t.size == k.last.size && t.root != k.last.root:
		return &answer{status: http.StatusConflict, signed: k.last.size, error: fmt.Errorf("%s: FORK: %d records have the root %s, and the root %s was signed", k.origin, t.size, t.root, k.last.root)}
	case r.old == 0 || t.size == k.last.size:
		if len(r.proof) > 0 {
			return refuse(http.StatusUnprocessableEntity, "%s: a proof from %d to %d records is empty", k.origin, r.old, t.size)
		}
	default:
		if err := tlog.CheckTree(r.proof, int64(t.size), t.root, int64(k.last.size), k.last.root); err != nil {
			return refuse(http.StatusUnprocessableEntity, "%s: the proof does not show that the %d records begin with the %d that were signed", k.origin, t.size, k.last.size)
		}
	}
	return nil
}

// FileName names a log's file and page: the hash of its origin, which may hold anything.
func FileName(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}

// index says who the witness is and what it has signed. All of it is public.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprintf(w, "A witness of transparency logs (c2sp.org/tlog-witness): POST %s\nkey: %s\n", addPath, s.o.Signer.Verifier())
	s.mu.RLock()
	list := s.list
	s.mu.RUnlock()
	for _, k := range list {
		k.mu.Lock()
		last, since := k.last, k.since
		k.mu.Unlock()
		when := "never"
		if !since.IsZero() {
			when = since.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "\nlog: %s\nsize: %d\nroot: %s\nsigned: %s\ncheckpoint: /checkpoint/%s\n", k.origin, last.size, last.root, when, k.name)
	}
}

// checkpoint gives out the last one that was signed, as evidence.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) {
	s.mu.RLock()
	at := slices.IndexFunc(s.list, func(k *known) bool { return k.name == r.PathValue("log") })
	var k *known
	if at >= 0 {
		k = s.list[at]
	}
	s.mu.RUnlock()
	if k == nil {
		http.Error(w, "that log is not known here", http.StatusNotFound)
		return
	}
	k.mu.Lock()
	msg := k.note
	k.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	io.WriteString(w, msg)
}
