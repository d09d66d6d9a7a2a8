package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// The protocol of the socket: HTTP/1.1, POST /v1/call/VERB and /v1/stream/VERB with a JSON body. A call answers
// {"result": ...} with 200 or {"error": {...}} with 422; a stream answers its bytes, and its error in a trailer.
// Who may connect to a socket is the file system's matter: one lies in the data folder, which is 0700. Who may do what, the kernel's word
// for who is at the other end decides, and the operators of the configuration.
const (
	callPath   = "/v1/call/"
	streamPath = "/v1/stream/"
	errorKey   = "Sallyport-Error"

	maxRequest = 1 << 20 // bytes of a verb's arguments
)

type answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// Handler serves a Service's verbs.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+callPath+"{verb}", func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			reply(w, nil, refuse("", "the arguments could not be read: %v", err))
			return
		}
		result, err := s.call(r.Context(), r.PathValue("verb"), raw)
		reply(w, result, err)
	})
	mux.HandleFunc("POST "+streamPath+"{verb}", func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			reply(w, nil, refuse("", "the arguments could not be read: %v", err))
			return
		}
		w.Header().Set("Trailer", errorKey)
		err = s.stream(r.Context(), r.PathValue("verb"), raw, flushing{w, http.NewResponseController(w)})
		if err != nil {
			e, _ := json.Marshal(asError(err))
			w.Header().Set(errorKey, string(e))
		}
	})
	mux.HandleFunc("POST "+uploadPath+"{verb}", s.serveUpload)
	return mux
}

// flushing hands each write on at once: audit.tail is watched by somebody.
type flushing struct {
	io.Writer
	c *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.c.Flush()
	}
	return n, err
}

func reply(w http.ResponseWriter, result any, err error) {
	var a answer
	if err == nil {
		a.Result, err = json.Marshal(result)
	}
	status := http.StatusOK
	if err != nil {
		a, status = answer{Error: asError(err)}, http.StatusUnprocessableEntity
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The caller may have gone; the verb is carried out and recorded all the same.
	_ = json.NewEncoder(w).Encode(a)
}

// Serve answers on the socket until ctx ends, then lets calls under way finish for at most grace.
func (s *Service) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	srv := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return streams },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return WithActor(ctx, peer(c)) },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	endStreams()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(ctx)
	if e := <-done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// peer is who is at the other end.
func peer(c net.Conn) Actor {
	a := Actor{Name: "unknown", Road: "socket", UID: uidOf(c)}
	if a.UID >= 0 {
		a.Name = UserName(a.UID)
		a.User = a.Name
	}
	return a
}

// UserName is the name of an operating-system user for the records.
func UserName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}

// Client sends verbs to a daemon's socket.
type Client struct {
	http http.Client
	path string
}

// NewClient makes a Client for the socket at path. It does not connect yet.
func NewClient(path string) *Client {
	var d net.Dialer
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
	}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) post(ctx context.Context, path string, in any) (*http.Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sallyport"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the daemon at %s: %w", c.path, err)
	}
	return resp, nil
}

// Call implements Caller.
func (c *Client) Call(ctx context.Context, verb string, in, out any) error {
	resp, err := c.post(ctx, callPath+verb, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decodeAnswer(resp, out)
}

func decodeAnswer(resp *http.Response, out any) error {
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return fmt.Errorf("the daemon's answer (%s): %w", resp.Status, err)
	}
	if a.Error != nil {
		return a.Error
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the daemon answered %s", resp.Status)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(a.Result, out)
}

// Stream implements Caller.
func (c *Client) Stream(ctx context.Context, verb string, in any, w io.Writer) error {
	resp, err := c.post(ctx, streamPath+verb, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return decodeAnswer(resp, nil)
	}
	return streamed(resp, verb, w)
}

// streamed takes an answer that comes over time, and its error behind it.
func streamed(resp *http.Response, verb string, w io.Writer) error {
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the daemon's answer to %s: %w", verb, err)
	}
	if text := resp.Trailer.Get(errorKey); text != "" {
		var e Error
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return errors.New(text)
		}
		return &e
	}
	return nil
}
