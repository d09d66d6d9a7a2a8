package main

import (
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"layeh.com/radius"
	_ "modernc.org/sqlite"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// healthz asks the daemon whether logins can be decided.
func (r *rig) healthz() (status int, text string) {
	r.Helper()
	resp, err := http.Get("http://" + r.daemon.metrics + "/healthz")
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// silent sends a request that must get no answer.
func (r *rig) silent(n *nas, user, typed string) {
	r.Helper()
	request, err := n.request(user, typed, nil)
	if err != nil {
		r.Fatal(err)
	}
	answer, err := n.exchange(request, 500*time.Millisecond)
	if err == nil {
		r.Errorf("%s got the answer %v, want silence", user, radius.Code(answer[0]))
	} else if !errors.Is(err, errSilence) {
		r.Error(err)
	}
}

// smallDisk mounts a file system of a few MiB, which only root can do.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=3m,mode=0700"); err != nil {
		t.Fatalf("mounting a tmpfs: %v (hint: run as root)", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// TestFullDisk fills the disk under a serving gateway (P3, P4): nobody is accepted any more, RADIUS is silent, healthz
// says 503 and why. When there is room again and the gateway was restarted, all is well and nothing is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	limited := func(*exec.Cmd) {}
	fill, complaint := fillDisk, "space"
	o := rigOptions{}
	if os.Getuid() == 0 {
		o.dir = smallDisk(t)
	} else {
		// Who may not mount gets a limit of the process instead: no file may grow beyond 128 KiB.
		limited = func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"sh", "-c", `ulimit -f 256; exec "$@"`, "sh"}, cmd.Args...)
			cmd.Path = tool(t, "sh", "dash")
		}
		fill, complaint = func(*rig) func() { return func() {} }, "file too large"
	}
	r := newRig(t, o)
	p := r.enrol("bob", byCount())
	r.start(limited)
	n := newNAS(t, fromCode, r.daemon.radius)
	used := p.code()
	if got := n.ask(t, "bob", used, nil); got.Code != radius.CodeAccessAccept {
		t.Fatalf("with room on the disk: %v", got.Code)
	}

	empty := fill(r)
	seen := map[int64]bool{0: true}
	full := false
	for range 500 { // until the block is full that the journal ends in
		code := p.code()
		request, err := n.request("bob", code, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := n.exchange(request, 2*time.Second)
		if full = errors.Is(err, errSilence); full {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if radius.Code(answer[0]) != radius.CodeAccessAccept {
			t.Fatalf("answered with %v: a disk that fills gives acceptances or silence", radius.Code(answer[0]))
		}
		seen[p.last] = true
	}
	if !full {
		t.Fatal("the disk is full, and logins are accepted all the same")
	}
	if status, text := r.healthz(); status != http.StatusServiceUnavailable || !containsAll(text, "closed", complaint) {
		t.Errorf("healthz answers %d %q", status, text)
	}
	if stdout, _, status := r.command("", "status"); status != exitFailed || !strings.Contains(stdout, "closed") {
		t.Errorf("status prints %q and exits with %d", stdout, status)
	}
	for range 3 {
		r.silent(n, "bob", p.code())
	}
	if said := r.refusedIn("", "user", "add", "late"); !containsAll(said, "nothing was changed", complaint, "hint:") {
		t.Errorf("user add on a full disk: %s", said)
	}
	r.check() // as it lies

	empty()
	r.silent(n, "bob", p.code()) // room alone does not open it: what the kernel has dropped is not known
	if err := r.daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	<-r.daemon.ended
	r.start()
	n = newNAS(t, fromCode, r.daemon.radius)
	if got := n.ask(t, "bob", used, nil); got.Code != radius.CodeAccessReject {
		t.Errorf("after a restart a used code is answered with %v", got.Code)
	}
	if got := n.ask(t, "bob", p.code(), nil); got.Code != radius.CodeAccessAccept {
		t.Errorf("after a restart a fresh code is answered with %v", got.Code)
	}
	for _, rec := range r.records("--event", "login", "--result", "accept") {
		for _, x := range rec.Effects {
			if x.Set == "token.step" {
				delete(seen, x.Value)
			}
		}
	}
	if len(seen) > 0 {
		t.Errorf("acceptances that a client saw, and no record has: %v", seen)
	}
	for _, u := range r.records("--event", "user.add") {
		if u.Person == "late" {
			t.Error("a verb that was refused is in the records")
		}
	}
	r.stop()
	r.check()
}

// fillDisk takes all that is left, and returns what gives it back.
func fillDisk(r *rig) (empty func()) {
	r.Helper()
	filler := filepath.Join(r.dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		r.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		r.Fatalf("filling the disk: %v", err)
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			r.Fatal(err)
		}
	}
}

// TestReadOnlyFolder starts on a data folder that cannot be written to: the gateway and every verb refuse, and what is
// there can still be verified.
func TestReadOnlyFolder(t *testing.T) {
	t.Parallel()
	var dir string
	if os.Getuid() == 0 {
		dir = smallDisk(t)
	} else {
		dir = t.TempDir()
	}
	r := newRig(t, rigOptions{dir: dir})
	r.enrol("bob", byCount())
	if os.Getuid() == 0 {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	} else {
		readOnly(t, r.data)
	}
	if d, err := r.launch(); err == nil {
		d.end()
		t.Error("the gateway serves from a data folder that it cannot write to")
	} else if !strings.Contains(err.Error(), r.data) {
		t.Errorf("the refusal does not name the folder: %v", err)
	}
	if complaint := r.refusedIn("a good password", "user", "add", "late", "--password-stdin"); !strings.Contains(complaint, r.data) {
		t.Errorf("user add: %s", complaint)
	}
	if out := r.ok("audit", "verify"); !strings.HasPrefix(out, "verified") {
		t.Errorf("audit verify prints %q", out)
	}
}

// readOnly takes the right to write from a folder and all that is in it, until the test ends.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	change := func(drop bool) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			mode := info.Mode().Perm() | 0o200
			if drop {
				mode &^= 0o222
			}
			return os.Chmod(path, mode)
		})
		if err != nil {
			t.Error(err)
		}
	}
	change(true)
	t.Cleanup(func() { change(false) })
}

// holdDatabase locks the database as another process would that does not let go of it.
func (r *rig) holdDatabase() (release func()) {
	r.Helper()
	db, err := sql.Open("sqlite", layout(r.data).database)
	if err != nil {
		r.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
		r.Fatal(err)
	}
	return func() {
		if _, err := db.Exec("ROLLBACK"); err != nil {
			r.Error(err)
		}
		if err := db.Close(); err != nil {
			r.Error(err)
		}
	}
}

// TestLockedDatabase adds a person while another process holds the database: a clear error, and nothing by half, whether
// the daemon does it or the command itself.
func TestLockedDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	before := r.check().Size

	release := r.holdDatabase()
	if complaint := r.refusedIn("a good password", "user", "add", "first", "--password-stdin"); !strings.Contains(complaint, "locked by another process") {
		t.Errorf("user add by the command itself: %s", complaint)
	}
	release()
	if after := r.check().Size; after != before {
		t.Errorf("a refused verb made %d records", after-before)
	}
	r.refusedIn("", "user", "show", "first")

	r.start()
	n := newNAS(t, fromCode, r.daemon.radius)
	release = r.holdDatabase()
	if got := n.ask(t, "bob", p.code(), nil); got.Code != radius.CodeAccessAccept {
		t.Errorf("a login, which needs no database, is answered with %v", got.Code)
	}
	complaint := r.refusedIn("a good password", "user", "add", "second", "--password-stdin")
	if !containsAll(complaint, "locked by another process", "hint:") {
		t.Errorf("user add by the daemon: %s", complaint)
	}
	// P4: memory and database say different things now, so nobody gets in before a restart has put it right.
	if got := n.ask(t, "bob", p.code(), nil); got.Code != radius.CodeAccessReject {
		t.Errorf("a login after that is answered with %v", got.Code)
	}
	if status, text := r.healthz(); status != http.StatusServiceUnavailable {
		t.Errorf("healthz answers %d %q", status, text)
	}
	release()
	r.kill()
	r.check()
	r.start()
	// The record came first, so the change is finished at the start: all of it.
	if out := r.ok("user", "show", "second"); !strings.Contains(out, "set") {
		t.Errorf("user show after the restart:\n%s", out)
	}
	if rec := r.last("--event", "user.add"); rec.Person != "second" {
		t.Errorf("the last user.add is of %s", rec.Person)
	}
	n = newNAS(t, fromCode, r.daemon.radius)
	if got := n.ask(t, "bob", p.code(), nil); got.Code != radius.CodeAccessAccept {
		t.Errorf("a login after the restart is answered with %v", got.Code)
	}
	r.stop()
	r.check()
}

// TestReload takes a new client in at SIGHUP and by reload, keeps the running configuration when the file is bad, and
// records both.
func TestReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	d := r.start()
	stranger := newNAS(t, fromStranger, d.radius)
	r.silent(stranger, "bob", p.code())

	r.configure(rigOptions{clients: "    - {name: late, address: " + fromStranger + ", secret_file: radius.secret, mode: code, class: remote, tags: [vpn]}"})
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.await(t, `"msg":"reloaded"`)
	if got := stranger.ask(t, "bob", p.code(), nil); got.Code != radius.CodeAccessAccept {
		t.Errorf("the new client gets %v", got.Code)
	}
	if rec := r.last("--event", "config.reload"); rec.Result != audit.Info || !strings.Contains(detail(rec, "changes"), "late") {
		t.Errorf("the record of the reload: %s", rec.AppendJSON(nil))
	}

	good := mustRead(t, r.config)
	r.write("sallyport.yaml", string(good)+"\nradius: twice\nwhatever: true\n")
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.await(t, "the running one stays")
	if complaint := r.refusedIn("", "reload"); !containsAll(complaint, "sallyport.yaml:", "whatever", "is given twice") {
		t.Errorf("reload says %s", complaint)
	}
	r.ok("status") // the commands reach the gateway all the same
	if rec := r.last("--event", "config.reload"); rec.Result != audit.Error || rec.Reason != "bad_configuration" || !strings.Contains(detail(rec, "error"), "sallyport.yaml:") {
		t.Errorf("the record of the failed reload: %s", rec.AppendJSON(nil))
	}
	r.write("sallyport.yaml", string(good))
	n := newNAS(t, fromCode, d.radius)
	for _, n := range []*nas{stranger, n} {
		if got := n.ask(t, "bob", p.code(), nil); got.Code != radius.CodeAccessAccept {
			t.Errorf("after a bad file %s gets %v", n.conn.LocalAddr(), got.Code)
		}
	}

	r.configure(rigOptions{})
	if out := r.ok("reload"); !containsAll(out, "changed:", "late") {
		t.Errorf("reload prints %s", out)
	}
	r.silent(stranger, "bob", p.code())
	if out := r.ok("reload"); !strings.Contains(out, "nothing has changed") {
		t.Errorf("reload of the same prints %s", out)
	}
	r.stop()
	r.check()
	if complaint := r.refusedIn("", "reload"); !containsAll(complaint, "not running", "hint:") {
		t.Errorf("reload without a daemon: %s", complaint)
	}
}

// TestRulesHoldAfterReload takes the right to log in from a group, and finds the next login refused (P11).
func TestRulesHoldAfterReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	r.start()
	n := newNAS(t, fromCode, r.daemon.radius)
	r.wantCode(n.ask(t, "bob", p.code(), nil), radius.CodeAccessAccept, login.ReasonOK)
	r.write("sallyport.yaml", strings.Replace(string(mustRead(t, r.config)), "may: [login, ", "may: [", 1))
	r.ok("reload")
	r.wantCode(n.ask(t, "bob", p.code(), nil), radius.CodeAccessReject, login.ReasonCapability)
	r.ok("user", "disable", "bob")
	r.wantCode(n.ask(t, "bob", p.code(), nil), radius.CodeAccessReject, login.ReasonPersonDisabled)
	r.stop()
	r.check()
}

// A reload is whole or nothing: when only the last of the parts would refuse a configuration, the first keeps its own.
func TestReloadIsWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	r.start()
	n := newNAS(t, fromCode, r.daemon.radius)
	bad := strings.Replace(string(mustRead(t, r.config)), "may: [login, ", "may: [", 1)
	bad = strings.Replace(bad, "name: nowhere", "name: 10.0.0.5", 1) // an address can be no target's name
	r.write("sallyport.yaml", bad)
	for _, verb := range [][]string{{"config", "check"}, {"reload"}} {
		if complaint := r.refusedIn("", verb...); !strings.Contains(complaint, "10.0.0.5") {
			t.Errorf("%v says %s", verb, complaint)
		}
	}
	if rec := r.last("--event", "config.reload"); rec.Result != audit.Error {
		t.Errorf("the record of the reload: %s", rec.AppendJSON(nil))
	}
	r.wantCode(n.ask(t, "bob", p.code(), nil), radius.CodeAccessAccept, login.ReasonOK)
	r.stop()
	r.check()
}
