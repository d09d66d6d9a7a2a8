package recording

import (
	"context"
	"errors"
	"io"
	"time"
)

// PlayOptions say how fast a recording is played.
type PlayOptions struct {
	Speed float64       // 1: as it was, 2: twice as fast. 0: at once
	Idle  time.Duration // the longest pause that is kept, before Speed; 0: all are
	Wait  func(ctx context.Context, d time.Duration) error
}

// Play writes the output of the rest of a recording to a terminal, made harmless by a Cleaner, at the pace of the session. At the
// end the terminal is as it was. What was readable is played also where the error says that the rest is not.
func (r *Reader) Play(ctx context.Context, w io.Writer, o PlayOptions) (err error) {
	if o.Wait == nil {
		o.Wait = sleep
	}
	var clean Cleaner
	var out []byte
	defer func() {
		_, e := w.Write(clean.Reset(nil))
		err = errors.Join(err, e)
	}()
	at := time.Duration(r.micros) * time.Microsecond
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		pause := e.At - at
		at = e.At
		if o.Idle > 0 {
			pause = min(pause, o.Idle)
		}
		if o.Speed > 0 && pause > 0 {
			if err := o.Wait(ctx, time.Duration(float64(pause)/o.Speed)); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Kind != Output {
			continue
		}
		out = clean.Clean(out[:0], e.Data)
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
