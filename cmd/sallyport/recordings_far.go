package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/config"
	"sallyport/internal/recording"
)

// An auditor who is no root of this machine has a socket, and neither the configuration nor the folder of recordings: the gateway
// hands him the sealed file, which only his key opens.

// fetchVerb hands out sealed recordings.
func (g *gateway) fetchVerb() {
	admin.HandleStream(g.admin, "recording.fetch", func(ctx context.Context, in admin.SessionIn, w io.Writer) error {
		var found admin.Recording
		if err := g.admin.Call(ctx, "recording.find", in, &found); err != nil { // which is on record
			return err
		}
		path, err := recording.File(g.config().Recording.Dir, found.Recording)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
}

// near gives a path of a recording that can be read here: where it lies, or of a copy that done removes.
func (c *cli) near(cmd *cobra.Command, cfg *config.Config, found *admin.Recording) (path string, done func(), err error) {
	if cfg != nil {
		if path, err = recording.File(cfg.Recording.Dir, found.Recording); err != nil {
			return "", nil, err
		}
		f, err := os.Open(path)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, fs.ErrPermission) {
			return path, func() {}, nil
		}
	}
	f, err := os.CreateTemp("", "sallyport-recording-")
	if err != nil {
		return "", nil, err
	}
	done = func() { os.Remove(f.Name()) }
	err = c.with(cmd, func(caller admin.Caller) error {
		return caller.Stream(cmd.Context(), "recording.fetch", admin.SessionIn{ID: found.ID}, f)
	})
	if err = errors.Join(err, f.Close()); err != nil {
		done()
		return "", nil, err
	}
	return f.Name(), done, nil
}
