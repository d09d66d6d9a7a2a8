package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"
)

// large is a file of 8 MiB and a bit.
func large() []byte {
	b := make([]byte, 8<<20+12345)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes (%v), want %d", path, len(got), err, len(want))
	}
}

func wantEvent(t testing.TB, got, want Event) {
	t.Helper()
	if got != want {
		t.Errorf("event\n got %+v\nwant %+v", got, want)
	}
}

// tool finds a program that a test cannot do without.
func tool(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed (Debian package %s)", name, debianPackage)
	}
	return path
}

// peers starts a client of pkg/sftp that talks through a watcher to a server: its own, or OpenSSH's. stop ends them, and
// with them the watcher.
func peers(t *testing.T, rights Rights, openSSH bool, options ...sftp.ClientOption) (client *sftp.Client, seen *events, stop func()) {
	t.Helper()
	seen = &events{}
	clientSide, gateway := net.Pipe()
	var toTarget io.WriteCloser
	var fromTarget io.Reader
	wait := func() {}
	if openSSH {
		server := exec.Command(tool(t, sftpServer, "openssh-sftp-server"))
		server.Stderr = os.Stderr
		var err error
		if toTarget, err = server.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if fromTarget, err = server.StdoutPipe(); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		wait = func() { _ = server.Wait() }
	} else {
		a, b := net.Pipe()
		server, err := sftp.NewServer(b)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve()
			b.Close()
		}()
		toTarget, fromTarget = a, a
		wait = func() { <-done }
	}
	ended := make(chan error, 1)
	go func() { ended <- relay(NewSFTP(rights, seen.emit), gateway, fromTarget, toTarget, 40000) }()
	client, err := sftp.NewClientPipe(clientSide, clientSide, options...)
	if err != nil {
		t.Fatal(err)
	}
	return client, seen, func() {
		t.Helper()
		client.Close()
		clientSide.Close()
		if err := <-ended; err != nil {
			t.Errorf("relay: %v", err)
		}
		wait()
	}
}

func eachServer(t *testing.T, run func(t *testing.T, openSSH bool)) {
	for name, openSSH := range map[string]bool{"pkg/sftp": false, "openssh": true} {
		t.Run(name, func(t *testing.T) { run(t, openSSH) })
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryOperation(t *testing.T) {
	eachServer(t, func(t *testing.T, openSSH bool) {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		data := large()
		c, seen, stop := peers(t, both, openSSH)

		f, err := c.OpenFile(at("up"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		must(t, err)
		_, err = f.ReadFrom(bytes.NewReader(data))
		must(t, err)
		must(t, f.Close())

		f, err = c.Open(at("up"))
		must(t, err)
		var got bytes.Buffer
		_, err = f.WriteTo(&got)
		must(t, err)
		must(t, f.Close())

		must(t, c.Mkdir(at("folder")))
		must(t, c.Chmod(at("folder"), 0o750))
		must(t, c.Rename(at("up"), at("renamed")))
		must(t, c.PosixRename(at("renamed"), at("again")))
		must(t, c.Symlink("again", at("symlink")))
		must(t, c.Link(at("again"), at("link")))
		entries, err := c.ReadDir(dir)
		must(t, err)
		must(t, c.Truncate(at("link"), 5))
		must(t, c.Remove(at("link")))
		must(t, c.RemoveDirectory(at("folder")))
		if err := c.Mkdir(at("none/such")); err == nil {
			t.Error("a folder was made in no folder")
		}
		if _, err := c.Open(at("absent")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("opening nothing: %v", err)
		}
		stop()

		if !bytes.Equal(got.Bytes(), data) {
			t.Error("what was downloaded is not what was uploaded")
		}
		sum := hexSum(data)
		wantEvent(t, seen.find(t, OpUpload, at("up")), Event{Op: OpUpload, Path: at("up"), Bytes: int64(len(data)), SHA256: sum, Result: "ok"})
		wantEvent(t, seen.find(t, OpDownload, at("up")), Event{Op: OpDownload, Path: at("up"), Bytes: int64(len(data)), SHA256: sum, Result: "ok"})
		wantEvent(t, seen.find(t, OpMkdir, at("folder")), Event{Op: OpMkdir, Path: at("folder"), Result: "ok"})
		wantEvent(t, seen.find(t, OpSetstat, at("folder")), Event{Op: OpSetstat, Path: at("folder"), Result: "ok", Detail: "mode=750"})
		wantEvent(t, seen.find(t, OpRename, at("up")), Event{Op: OpRename, Path: at("up"), To: at("renamed"), Result: "ok"})
		wantEvent(t, seen.find(t, OpRename, at("renamed")), Event{Op: OpRename, Path: at("renamed"), To: at("again"), Result: "ok"})
		wantEvent(t, seen.find(t, OpLink, at("again")), Event{Op: OpLink, Path: at("again"), To: at("link"), Result: "ok"})
		wantEvent(t, seen.find(t, OpSymlink, "again"), Event{Op: OpSymlink, Path: "again", To: at("symlink"), Result: "ok"})
		wantEvent(t, seen.find(t, OpSetstat, at("link")), Event{Op: OpSetstat, Path: at("link"), Result: "ok", Detail: "size=5"})
		wantEvent(t, seen.find(t, OpRemove, at("link")), Event{Op: OpRemove, Path: at("link"), Result: "ok"})
		wantEvent(t, seen.find(t, OpRmdir, at("folder")), Event{Op: OpRmdir, Path: at("folder"), Result: "ok"})
		wantEvent(t, seen.find(t, OpMkdir, at("none/such")), Event{Op: OpMkdir, Path: at("none/such"), Result: "no_such_file"})
		wantEvent(t, seen.find(t, OpDownload, at("absent")), Event{Op: OpDownload, Path: at("absent"), Result: "no_such_file"})
		list := seen.find(t, OpList, dir)
		counted := len(entries) // OpenSSH's lists . and .. as well
		if openSSH {
			counted += 2
		}
		wantEvent(t, list, Event{Op: OpList, Path: dir, Result: "ok", Detail: fmt.Sprintf("entries=%d", counted)})
	})
}

func TestPartialAndUnordered(t *testing.T) {
	eachServer(t, func(t *testing.T, openSSH bool) {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		writeFile(t, at("have"), make([]byte, 100000))
		c, seen, stop := peers(t, both, openSSH)
		buf := make([]byte, 1000)

		f, err := c.Open(at("have"))
		must(t, err)
		_, err = io.ReadFull(f, buf)
		must(t, err)
		must(t, f.Close())

		f, err = c.OpenFile(at("have"), os.O_WRONLY|os.O_APPEND)
		must(t, err)
		_, err = f.WriteAt(buf, 0) // which the target appends
		must(t, err)
		must(t, f.Close())

		f, err = c.OpenFile(at("twice"), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
		must(t, err)
		for _, offset := range []int64{0, 1000, 0, 5000} {
			_, err = f.WriteAt(buf, offset)
			must(t, err)
		}
		_, err = f.ReadAt(buf, 500)
		must(t, err)
		must(t, f.Close())

		f, err = c.OpenFile(at("shrunk"), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		must(t, err)
		_, err = f.Write(buf)
		must(t, err)
		must(t, f.Truncate(3))
		must(t, f.Close())

		f, err = c.OpenFile(at("over"), os.O_WRONLY|os.O_CREATE)
		must(t, err)
		_, err = f.Write(buf)
		must(t, err)
		must(t, f.Close())

		f, err = c.OpenFile(at("open"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		must(t, err)
		_, err = f.Write(buf)
		must(t, err)
		stop()

		zeros := hexSum(buf)
		e := seen.find(t, OpDownload, at("have"))
		if !e.Partial || e.SHA256 == "" {
			t.Errorf("a download that stopped: %+v", e)
		}
		wantEvent(t, seen.find(t, OpUpload, at("have")), Event{Op: OpUpload, Path: at("have"), Bytes: 1000, Result: "ok", Partial: true, Detail: "append"})
		wantEvent(t, seen.find(t, OpUpload, at("twice")), Event{Op: OpUpload, Path: at("twice"), Bytes: 4000, Result: "ok", Partial: true, Detail: "out_of_order gaps"})
		wantEvent(t, seen.find(t, OpDownload, at("twice")), Event{Op: OpDownload, Path: at("twice"), Bytes: 1000, Result: "ok", Partial: true, Detail: "not_from_start"})
		wantEvent(t, seen.find(t, OpUpload, at("shrunk")), Event{Op: OpUpload, Path: at("shrunk"), Bytes: 1000, Result: "ok", Detail: "resized"})
		wantEvent(t, seen.find(t, OpUpload, at("over")), Event{Op: OpUpload, Path: at("over"), Bytes: 1000, SHA256: zeros, Result: "ok", Detail: "not_truncated"})
		wantEvent(t, seen.find(t, OpUpload, at("open")), Event{Op: OpUpload, Path: at("open"), Bytes: 1000, SHA256: zeros, Result: "not_closed", Partial: true})
	})
}

func TestUploadOnly(t *testing.T) {
	eachServer(t, func(t *testing.T, openSSH bool) {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		writeFile(t, at("secret"), []byte("secret"))
		c, seen, stop := peers(t, upload, openSSH)
		for range 50 {
			if _, err := c.Open(at("secret")); !errors.Is(err, os.ErrPermission) {
				t.Fatalf("opening to read: %v", err)
			}
			if _, err := c.Stat(at("secret")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.OpenFile(at("secret"), os.O_RDWR); !errors.Is(err, os.ErrPermission) {
			t.Errorf("opening to read and write: %v", err)
		}
		f, err := c.OpenFile(at("new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		must(t, err)
		data := large()
		_, err = f.ReadFrom(bytes.NewReader(data))
		must(t, err)
		must(t, f.Close())
		must(t, c.Rename(at("new"), at("renamed")))
		_, err = c.ReadDir(dir)
		must(t, err)
		stop()
		wantFile(t, at("renamed"), data)
		e := seen.find(t, OpUpload, at("new"))
		if e.SHA256 != hexSum(data) {
			t.Errorf("%+v", e)
		}
		if e := seen.list[0]; e != (Event{Op: OpDownload, Path: at("secret"), Result: "permission_denied", Detail: "refused"}) {
			t.Errorf("the refusal: %+v", e)
		}
	})
}

func TestDownloadOnly(t *testing.T) {
	eachServer(t, func(t *testing.T, openSSH bool) {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		data := large()
		writeFile(t, at("have"), data)
		must(t, os.Mkdir(at("folder"), 0o700))
		c, seen, stop := peers(t, download, openSSH)
		var got bytes.Buffer
		f, err := c.Open(at("have"))
		must(t, err)
		_, err = f.WriteTo(&got)
		must(t, err)
		if err := f.Chmod(0o777); !errors.Is(err, os.ErrPermission) {
			t.Errorf("fsetstat: %v", err)
		}
		must(t, f.Close())
		for what, err := range map[string]error{
			"remove":       c.Remove(at("have")),
			"rmdir":        c.RemoveDirectory(at("folder")),
			"mkdir":        c.Mkdir(at("made")),
			"rename":       c.Rename(at("have"), at("gone")),
			"posix-rename": c.PosixRename(at("have"), at("gone")),
			"symlink":      c.Symlink("have", at("symlink")),
			"link":         c.Link(at("have"), at("link")),
			"chmod":        c.Chmod(at("have"), 0o777),
			"truncate":     c.Truncate(at("have"), 0),
		} {
			if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "") {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, flags := range []int{os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREATE, os.O_RDONLY | os.O_TRUNC, os.O_RDONLY | os.O_EXCL, os.O_APPEND} {
			if _, err := c.OpenFile(at("have"), flags); !errors.Is(err, os.ErrPermission) {
				t.Errorf("open %#x: %v", flags, err)
			}
		}
		stop()
		wantFile(t, at("have"), data)
		if !bytes.Equal(got.Bytes(), data) {
			t.Error("the download differs")
		}
		if left, _ := os.ReadDir(dir); len(left) != 2 {
			t.Errorf("the folder holds %v", left)
		}
		for _, e := range seen.list {
			if e.Result == "ok" && e.Op != OpDownload {
				t.Errorf("%+v", e)
			}
		}
	})
}

// openSSH runs a client of OpenSSH with the test binary as its ssh.
func openSSH(t *testing.T, rights, stdin string, args ...string) (out string, seen *events, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events")
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(tool(t, args[0], "openssh-client"), append([]string{"-S", self}, args[1:]...)...)
	cmd.Env = append(os.Environ(), envEvents+"="+path, envRights+"="+rights)
	cmd.Stdin = strings.NewReader(stdin)
	text, err := cmd.CombinedOutput()
	seen = &events{}
	if lines, rerr := os.ReadFile(path); rerr == nil {
		for d := json.NewDecoder(bytes.NewReader(lines)); ; {
			var e Event
			if d.Decode(&e) != nil {
				break
			}
			seen.list = append(seen.list, e)
		}
	}
	return string(text), seen, err
}

func TestOpenSSHClient(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	data := large()
	writeFile(t, filepath.Join(here, "a"), data)
	batch := strings.NewReplacer("HERE", here, "THERE", there).Replace(`
put HERE/a THERE/a
get THERE/a HERE/b
mkdir THERE/folder
rename THERE/a THERE/c
chmod 644 THERE/c
ls -l THERE
symlink THERE/c THERE/s
ln THERE/c THERE/l
rm THERE/s
rmdir THERE/folder
df THERE
`)
	// TH-ERE must not be read as HERE: the longer name goes first.
	batch = strings.NewReplacer("T"+here, there).Replace(batch)
	out, seen, err := openSSH(t, "ud", batch, "sftp", "-b", "-", "host")
	if err != nil {
		t.Fatalf("sftp: %v\n%s", err, out)
	}
	wantFile(t, filepath.Join(here, "b"), data)
	wantFile(t, filepath.Join(there, "c"), data)
	at := func(name string) string { return filepath.Join(there, name) }
	for _, op := range []Op{OpUpload, OpDownload} {
		wantEvent(t, seen.find(t, op, at("a")), Event{Op: op, Path: at("a"), Bytes: int64(len(data)), SHA256: hexSum(data), Result: "ok"})
	}
	seen.find(t, OpMkdir, at("folder"))
	seen.find(t, OpRename, at("a"))
	seen.find(t, OpLink, at("c"))
	seen.find(t, OpRemove, at("s"))
	seen.find(t, OpRmdir, at("folder"))

	t.Run("reget and reput", func(t *testing.T) {
		must(t, os.Truncate(filepath.Join(here, "b"), 1<<20))
		must(t, os.Truncate(at("c"), 2<<20))
		writeFile(t, at("whole"), data)
		out, seen, err := openSSH(t, "ud", fmt.Sprintf("reget %s %s\nreput %s %s\n", at("whole"), filepath.Join(here, "b"), filepath.Join(here, "a"), at("c")), "sftp", "-b", "-", "host")
		if err != nil {
			t.Fatalf("sftp: %v\n%s", err, out)
		}
		wantFile(t, filepath.Join(here, "b"), data)
		wantFile(t, at("c"), data)
		wantEvent(t, seen.find(t, OpDownload, at("whole")), Event{Op: OpDownload, Path: at("whole"), Bytes: int64(len(data)) - 1<<20, Result: "ok", Partial: true, Detail: "not_from_start"})
		e := seen.find(t, OpUpload, at("c"))
		if e.Bytes != int64(len(data))-2<<20 || e.SHA256 != "" || !e.Partial {
			t.Errorf("%+v", e)
		}
	})
	t.Run("upload only", func(t *testing.T) {
		out, seen, err := openSSH(t, "u", fmt.Sprintf("-get %s %s/x\nput %s/a %s\n", at("c"), here, here, at("d")), "sftp", "-b", "-", "host")
		if err != nil || !strings.Contains(out, "ermission denied") {
			t.Errorf("sftp: %v\n%s", err, out)
		}
		wantFile(t, at("d"), data)
		seen.find(t, OpUpload, at("d"))
	})
	t.Run("download only", func(t *testing.T) {
		out, seen, err := openSSH(t, "d", fmt.Sprintf("-put %s/a %s\n-rm %s\n-rename %s %s\nget %s %s/y\n", here, at("e"), at("c"), at("c"), at("f"), at("c"), here), "sftp", "-b", "-", "host")
		if err != nil || strings.Count(out, "ermission denied") < 3 {
			t.Errorf("sftp: %v\n%s", err, out)
		}
		wantFile(t, filepath.Join(here, "y"), data)
		wantFile(t, at("c"), data)
		seen.find(t, OpDownload, at("c"))
		if _, err := os.Stat(at("e")); err == nil {
			t.Error("a file was made")
		}
	})
	t.Run("scp over sftp", func(t *testing.T) {
		out, seen, err := openSSH(t, "ud", "", "scp", filepath.Join(here, "a"), "host:"+at("g"))
		if err != nil {
			t.Fatalf("scp: %v\n%s", err, out)
		}
		wantEvent(t, seen.find(t, OpUpload, at("g")), Event{Op: OpUpload, Path: at("g"), Bytes: int64(len(data)), SHA256: hexSum(data), Result: "ok"})
	})
}
