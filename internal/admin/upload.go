package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Uploader carries out verbs that take a file. It may be called concurrently.
type Uploader interface {
	// Upload writes the verb's answer to w as it comes, once the file is read to its end.
	Upload(ctx context.Context, verb string, in any, file io.Reader, w io.Writer) error
}

// MaxUpload bounds a verb's file, in bytes. What a verb makes of it is bounded by the verb.
const MaxUpload = 512 << 20

// maxUnread is how much of a file is read, in bytes, that nobody will look at.
const maxUnread = 16 << 20

// uploadPath takes, by POST, a line with the verb's arguments as JSON, and then the file. It answers as streamPath does.
const uploadPath = "/v1/upload/"

type upload func(ctx context.Context, in json.RawMessage, file io.Reader, w io.Writer) error

// HandleUpload adds a verb that takes a file. It is read as a stream, and w is written to when that has ended.
func HandleUpload[In any](s *Service, name string, fn func(ctx context.Context, in In, file io.Reader, w io.Writer) error) {
	s.uploads[name] = func(ctx context.Context, raw json.RawMessage, file io.Reader, w io.Writer) error {
		in, err := decode[In](name, raw)
		if err != nil {
			return err
		}
		return fn(ctx, in, file, w)
	}
}

// Upload implements Uploader.
func (s *Service) Upload(ctx context.Context, name string, in any, file io.Reader, w io.Writer) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return s.upload(ctx, name, raw, file, w)
}

func (s *Service) upload(ctx context.Context, name string, raw json.RawMessage, file io.Reader, w io.Writer) error {
	fn, ok := s.uploads[name]
	if !ok {
		return refuse("the command and the daemon may be of different versions", "there is no verb %q here that takes a file", name)
	}
	ctx, err := s.admit(ctx, name, raw)
	if err != nil {
		return err
	}
	return fn(ctx, raw, io.LimitReader(file, s.maxUpload+1), w)
}

func (s *Service) serveUpload(w http.ResponseWriter, r *http.Request) {
	body := bufio.NewReader(http.MaxBytesReader(w, r.Body, maxRequest+MaxUpload))
	raw, err := readArguments(body)
	w.Header().Set("Trailer", errorKey)
	out := flushing{w, http.NewResponseController(w)}
	if err == nil {
		err = s.upload(r.Context(), r.PathValue("verb"), raw, body, out)
	}
	if err != nil {
		// HTTP/1.1 has no answer before the question's end: what is left of it would be cut off, and the answer with it. That of a
		// stranger is not read for long.
		w.Header().Set("Connection", "close")
		_, _ = io.CopyN(io.Discard, body, maxUnread)
		e, _ := json.Marshal(asError(err))
		w.Header().Set(errorKey, string(e))
	}
}

// readArguments reads the line before the file.
func readArguments(body *bufio.Reader) (json.RawMessage, error) {
	var line bytes.Buffer
	for {
		part, err := body.ReadSlice('\n')
		line.Write(part)
		switch {
		case line.Len() > maxRequest:
			return nil, refuse("", "the arguments have more than %d bytes", maxRequest)
		case err == nil:
			return line.Bytes(), nil
		case err != bufio.ErrBufferFull:
			return nil, refuse("", "the arguments could not be read: %v", err)
		}
	}
}

// Upload implements Uploader.
func (c *Client) Upload(ctx context.Context, verb string, in any, file io.Reader, w io.Writer) error {
	args, err := json.Marshal(in)
	if err != nil {
		return err
	}
	// Of one type, so that the client doesn't look for a length, and with nothing to close.
	body := struct{ io.Reader }{io.MultiReader(bytes.NewReader(append(args, '\n')), file)}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sallyport"+uploadPath+verb, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("the daemon at %s: %w", c.path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return decodeAnswer(resp, nil)
	}
	return streamed(resp, verb, w)
}
