package recording

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Lines renders the rest of a recording and calls fn for each line of text, in the order in which they left the screen; lines
// of a full-screen program come once for each time that they stood changed. Marks are lines too. Memory is bounded, and ctx
// bounds the time. An error of fn ends it and is returned. What was readable was told also where the error says that the rest
// is not.
func (r *Reader) Lines(ctx context.Context, fn func(Line) error) error {
	v := newRenderer(r.Header.Width, r.Header.Height, fn)
	if r.Header.Command != "" {
		if err := fn(Line{Text: r.Header.Command}); err != nil {
			return err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(v.finish(), err)
		}
		if err := v.event(e); err != nil {
			return err
		}
	}
}

// Text writes the text of a session, a line each.
func (r *Reader) Text(ctx context.Context, w io.Writer) error {
	b := bufio.NewWriter(w)
	err := r.Lines(ctx, func(l Line) error {
		_, err := fmt.Fprintln(b, l.Text)
		return err
	})
	return errors.Join(err, b.Flush())
}

// Search calls fn for each line that holds a text. A text in lower case is found in any case.
func (r *Reader) Search(ctx context.Context, text string, fn func(Line) error) error {
	if text == "" {
		return errors.New("an empty text is everywhere")
	}
	anyCase := text == strings.ToLower(text)
	return r.Lines(ctx, func(l Line) error {
		in := l.Text
		if anyCase {
			in = strings.ToLower(in)
		}
		if !strings.Contains(in, text) {
			return nil
		}
		return fn(l)
	})
}
