package recording_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport/internal/recording"
)

// A session is recorded by somebody who has only the public key, and read by the auditor, who finds the text as it stood on
// the screen.
func Example() {
	dir, err := os.MkdirTemp("", "recordings-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	identity, recipient, err := recording.NewIdentity(time.Now())
	if err != nil {
		panic(err)
	}

	known := recording.Known{Session: "0192f5d0"} // what the audit log would have
	w, err := recording.Create(recording.Options{
		Dir: dir, Recipients: []string{recipient},
		Chunk: func(c recording.Chunk) error { known.Chunks = append(known.Chunks, c); return nil },
	}, recording.Header{Session: "0192f5d0", Person: "alice", Account: "root", Target: "srv1", Width: 80, Height: 24, Started: time.Now()})
	if err != nil {
		panic(err)
	}
	_ = w.Output([]byte("$ echo helk\b\x1b[Klo\r\nhello\r\n"))
	sum, err := w.Close("0")
	if err != nil {
		panic(err)
	}
	known.Ended, known.Count, known.SHA256, known.State = true, sum.Chunks, sum.SHA256, sum.State

	path := filepath.Join(dir, sum.Path)
	report, err := recording.Verify(path, known)
	fmt.Println("chunks:", report.Chunks, "wrong:", err)
	r, err := recording.Open(path, identity)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	err = r.Search(context.Background(), "hello", func(l recording.Line) error {
		fmt.Println(l.Text)
		return nil
	})
	fmt.Println("searched:", err)

	raw, _ := os.ReadFile(path)
	_ = os.WriteFile(path, raw[:len(raw)/2], 0o600)
	_, err = recording.Verify(path, known)
	fmt.Println(errors.Is(err, recording.ErrTailMissing), err)
	// Output:
	// chunks: 1 wrong: <nil>
	// $ echo hello
	// hello
	// searched: <nil>
	// true chunk 0 is cut off within, and the audit log has it whole: the tail is missing
}
