package recording

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// ExportV3 writes the rest of a recording as an asciicast of version 3, without what only our reader knows. What was
// readable is written also where the error says that the rest is not.
func (r *Reader) ExportV3(w io.Writer) error {
	line, err := r.Header.line()
	if err != nil {
		return err
	}
	var enc encoder
	return r.export(w, line, func(dst []byte, e Event, data []byte) []byte {
		return enc.line(dst, byte(e.Kind), e.At.Microseconds(), data)
	})
}

// ExportV2 writes an asciicast of version 2, which more players know. It has no exit status.
func (r *Reader) ExportV2(w io.Writer) error {
	h := r.Header
	line, err := json.Marshal(map[string]any{
		"version": 2, "width": h.Width, "height": h.Height, "timestamp": h.Started.Unix(), "title": h.Person + ": " + h.Account + "@" + h.Target,
		"command": h.Command, "env": map[string]string{"TERM": h.Term},
	})
	if err != nil {
		return err
	}
	return r.export(w, append(line, '\n'), func(dst []byte, e Event, data []byte) []byte {
		if e.Kind == Exit {
			return dst
		}
		dst = appendSeconds(append(dst, '['), e.At.Microseconds())
		dst = append(dst, ',', ' ', '"', byte(e.Kind), '"', ',', ' ', '"')
		return append(appendText(dst, data), "\"]\n"...)
	})
}

func (r *Reader) export(w io.Writer, header []byte, line func(dst []byte, e Event, data []byte) []byte) error {
	b := bufio.NewWriter(w)
	b.Write(header)
	var out []byte
	type stream struct {
		kind   Kind
		stderr bool
	}
	joins := map[stream][]byte{} // the beginning of a character that a write has cut
	for {
		e, err := r.Next()
		if err != nil {
			for _, s := range []stream{{Output, false}, {Output, true}, {Input, false}} {
				if rest := joins[s]; len(rest) > 0 {
					b.Write(line(nil, Event{Kind: s.kind, At: time.Duration(r.micros) * time.Microsecond}, rest))
				}
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, b.Flush())
		}
		data := e.Data
		if e.Kind == Output || e.Kind == Input {
			s := stream{e.Kind, e.Stderr}
			if held := joins[s]; len(held) > 0 {
				data = append(held, data...)
			}
			n := hold(data)
			joins[s] = append([]byte(nil), data[len(data)-n:]...)
			if data = data[:len(data)-n]; len(data) == 0 {
				continue
			}
		}
		out = line(out[:0], e, data)
		if _, err := b.Write(out); err != nil {
			return err
		}
	}
}
