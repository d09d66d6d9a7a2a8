package main

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/internal/admin"
	"sallyport/internal/config"
)

// Who is at the other end of a socket, the kernel says; what he may do, the configuration.
func TestOperatorRoles(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	a := &app{cfg: &config.Config{Operators: config.Operators{People: []config.Operator{
		{User: me.Username, Person: "jane.smith", Role: "auditor"},
		{User: "nobody", Person: "noah", Role: "help-desk"},
	}}}}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid := 65534
	if nobody.Uid != "65534" {
		t.Fatalf("nobody has the id %s", nobody.Uid)
	}
	for _, c := range []struct {
		actor admin.Actor
		name  string
		role  admin.Role
	}{
		{admin.Actor{Name: me.Username, Road: "socket", UID: os.Getuid()}, "jane.smith", admin.RoleAdmin}, // the data folder is his
		{admin.Actor{Name: "nobody", Road: "socket", UID: uid}, "noah", admin.RoleHelpDesk},
		{admin.Actor{Name: "daemon", Road: "socket", UID: 1}, "daemon", ""},
		{admin.Actor{Name: "unknown", Road: "socket", UID: -1}, "unknown", ""},
		{admin.Actor{Name: "nobody", Road: "elsewhere", UID: uid}, "noah", admin.RoleHelpDesk},
	} {
		got := a.operator(c.actor)
		if got.Name != c.name || got.Role != c.role || got.User != c.actor.Name {
			t.Errorf("%+v: %s with the role %q, want %s with %q", c.actor, got.Name, got.Role, c.name, c.role)
		}
	}
}

// An operator who is not root does by the socket what his role permits, and is refused, on record, what it does not; somebody who is
// no operator is refused everything. Only root can act as others: elsewhere, the test sees the gateway's own user come through.
func TestOperatorsSocket(t *testing.T) {
	r := newRig(t, rigOptions{})
	dir, err := os.MkdirTemp("", "ops-") // where others may come
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "ops.sock")
	config := mustRead(t, r.config)
	r.write("sallyport.yaml", string(config)+"operators:\n  socket: "+socket+"\n  people:\n    - {user: nobody, person: noah, role: auditor}\n")
	r.start()
	r.ok("user", "add", "alice", "--group", "network")
	exe := filepath.Join(dir, "sallyport")
	if err := os.WriteFile(exe, mustRead(t, program(t)), 0o755); err != nil {
		t.Fatal(err)
	}
	as := func(uid uint32, args ...string) (string, error) {
		cmd := exec.Command(exe, args...)
		cmd.Dir, cmd.Env = "/", []string{socketEnv + "=" + socket, "PATH=/usr/bin:/bin", "HOME=/"}
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const nobody, stranger = 65534, 1
	if out, err := as(nobody, "user", "list"); err != nil || !strings.Contains(out, "alice") {
		t.Errorf("an auditor lists people: %v\n%s", err, out)
	}
	r.check()
	if os.Getuid() != 0 {
		return
	}
	if out, err := as(nobody, "user", "disable", "alice"); err == nil || !strings.Contains(out, "noah has the role auditor here, and user.disable takes admin") {
		t.Errorf("an auditor disables people: %v\n%s", err, out)
	}
	if out, err := as(stranger, "user", "list"); err == nil || !strings.Contains(out, "is no operator") {
		t.Errorf("a stranger lists people: %v\n%s", err, out)
	}
	refusals := r.records("--event", "admin.refused")
	if len(refusals) != 2 || detail(refusals[0], "actor") != "noah" || detail(refusals[0], "actor_user") != "nobody" || detail(refusals[0], "verb") != "user.disable" {
		t.Errorf("records of refusals: %+v", refusals)
	}
	r.check()
}

// osUser is the name of the operating system's user who runs the tests.
func osUser(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}
