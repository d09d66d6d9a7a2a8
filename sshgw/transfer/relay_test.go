package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// watcher is what SFTP, SCP and Rsync have in common.
type watcher interface {
	FromClient(p []byte, forward, reply func([]byte) error) error
	FromTarget(p []byte, forward func([]byte) error) error
	End()
}

var _ watcher = (*SFTP)(nil)

// relay is what the gateway does: it copies both ways through a watcher, with cuts of its own.
func relay(w watcher, client io.ReadWriter, target io.Reader, toTarget io.WriteCloser, largest int) error {
	var once sync.Once
	var failed error
	var sides sync.WaitGroup
	closeAll := func(err error) {
		once.Do(func() { failed = err })
		toTarget.Close()
		if c, ok := client.(io.Closer); ok {
			c.Close()
		}
	}
	write := func(w io.Writer) func([]byte) error {
		return func(p []byte) error {
			_, err := w.Write(p)
			return err
		}
	}
	copyFrom := func(r io.Reader, pass func([]byte) error) error {
		buf := make([]byte, largest)
		for {
			n, err := r.Read(buf[:1+rand.IntN(largest)])
			if n > 0 {
				if perr := pass(buf[:n]); perr != nil {
					return perr
				}
			}
			if err != nil {
				return nil
			}
		}
	}
	sides.Go(func() {
		err := copyFrom(client, func(p []byte) error { return w.FromClient(p, write(toTarget), write(client)) })
		if err != nil {
			closeAll(err)
		}
		toTarget.Close()
	})
	err := copyFrom(target, func(p []byte) error { return w.FromTarget(p, write(client)) })
	closeAll(err)
	sides.Wait()
	w.End()
	if errors.Is(failed, io.ErrClosedPipe) {
		return nil
	}
	return failed
}

// events collects, and asserts what NewSFTP promises of emit.
type events struct {
	busy sync.Mutex
	list []Event
}

func (e *events) emit(x Event) {
	if !e.busy.TryLock() {
		panic("emit is called twice at once")
	}
	defer e.busy.Unlock()
	if len(x.Path) > maxPath || len(x.To) > maxPath || len(x.Detail) > 1024 {
		panic("an event is too long")
	}
	e.list = append(e.list, x)
}

// find returns the one event of a kind for a path.
func (e *events) find(t testing.TB, op Op, path string) Event {
	t.Helper()
	var found []Event
	for _, x := range e.list {
		if x.Op == op && x.Path == path {
			found = append(found, x)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d events %s of %q, want 1; all: %s", len(found), op, path, e)
	}
	return found[0]
}

func (e *events) String() string {
	var b strings.Builder
	for _, x := range e.list {
		fmt.Fprintf(&b, "\n  %+v", x)
	}
	return b.String()
}

// The test binary is also the ssh that sftp and scp start (option -S): it runs what they ask for behind a watcher.
const (
	envEvents = "TRANSFER_TEST_EVENTS" // the file that events go to; set: be an ssh
	envRights = "TRANSFER_TEST_RIGHTS" // letters u and d
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envEvents); path != "" {
		if err := beSSH(path); err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type stdio struct {
	io.Reader
	io.Writer
	io.Closer
}

func beSSH(path string) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	enc := json.NewEncoder(out)
	emit := func(e Event) {
		if err := enc.Encode(e); err != nil {
			panic(err)
		}
	}
	rights := Rights{Upload: strings.Contains(os.Getenv(envRights), "u"), Download: strings.Contains(os.Getenv(envRights), "d")}
	command := os.Args[len(os.Args)-1]
	var w watcher
	var target *exec.Cmd
	if command == "sftp" {
		w, target = NewSFTP(rights, emit), exec.Command(sftpServer)
	} else if w, target, err = watchCommand(command, rights, emit); err != nil {
		return err
	}
	target.Stderr = os.Stderr
	in, err := target.StdinPipe()
	if err != nil {
		return err
	}
	from, err := target.StdoutPipe()
	if err != nil {
		return err
	}
	if err := target.Start(); err != nil {
		return err
	}
	// So that closing it wakes who reads it. Both may be the same socket.
	for fd := range 2 {
		if err := syscall.SetNonblock(fd, true); err != nil {
			return err
		}
	}
	stdin, stdout := os.NewFile(0, "stdin"), os.NewFile(1, "stdout")
	if err = relay(w, stdio{stdin, stdout, stdin}, from, in, 50000); err != nil {
		_ = target.Process.Kill()
	}
	if werr := target.Wait(); err == nil {
		err = werr
	}
	return err
}

func watchCommand(command string, rights Rights, emit func(Event)) (watcher, *exec.Cmd, error) {
	target := exec.Command("/bin/sh", "-c", command)
	c, ok := ParseCommand(command)
	switch {
	case !ok:
		return nil, nil, fmt.Errorf("not recognised: %s", command)
	case !rights.allows(c.Direction.Needs()):
		return nil, nil, fmt.Errorf("not allowed: %s", command)
	case c.Kind == KindSCP:
		return NewSCP(c, rights, emit), target, nil
	}
	return NewRsync(c, emit), target, nil
}

const sftpServer = "/usr/lib/openssh/sftp-server"
