package main

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
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
		{Group: "nogroup", Role: "auditor"}, // which nobody is in, and has a line of his own
		{Group: "daemon", Role: "auditor"},
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
		{admin.Actor{Name: "daemon", Road: "socket", UID: 1}, "daemon", admin.RoleAuditor},
		{admin.Actor{Name: "bin", Road: "socket", UID: 2}, "bin", ""},
		{admin.Actor{Name: "unknown", Road: "socket", UID: -1}, "unknown", ""},
		{admin.Actor{Name: "nobody", Road: "elsewhere", UID: uid}, "noah", admin.RoleHelpDesk},
	} {
		got := a.operator(c.actor)
		if got.Name != c.name || got.Role != c.role || got.User != c.actor.Name {
			t.Errorf("%+v: %s with the role %q, want %s with %q", c.actor, got.Name, got.Role, c.name, c.role)
		}
	}
}

// Whoever may act as an admin is one, whichever line says so, so that the help desk gives no factor to him.
func TestWhoIsAdmin(t *testing.T) {
	a := &app{cfg: &config.Config{Operators: config.Operators{People: []config.Operator{
		{User: "nobody", Person: "Noah", Role: "admin"},
		{User: "games", Role: "admin"},
		{User: "not-here", Role: "admin"},
		{Group: "daemon", Role: "admin"},
		{Group: "bin", Role: "admin"},
		{User: "bin", Role: "help-desk"}, // his own line goes before that of his group
		{Group: "sys", Person: "sybil", Role: "admin"},
		{User: "lp", Person: "lea", Role: "help-desk"},
		{User: "root", Person: "rita", Role: "help-desk"}, // the data folder is hers all the same
	}}}}
	for person, want := range map[string]bool{
		"noah": true, "games": true, "not-here": true, "daemon": true, "sybil": true, "rita": true,
		"nobody": false, "bin": false, "lea": false, "lp": false, "sys": false, "mail": false, "mallory": false,
	} {
		if got := a.isAdmin(person); got != want {
			t.Errorf("%q: %v, want %v", person, got, want)
		}
	}
}

// operators is a running rig's socket for operators, and a program that others may run.
type operators struct {
	*rig
	socket, dir, exe string
}

// withOperators starts the rig with operators, of whom nobody is an auditor.
func withOperators(t *testing.T, r *rig) *operators {
	t.Helper()
	dir, err := os.MkdirTemp("", "ops-") // where others may come
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o := &operators{rig: r, dir: dir, socket: filepath.Join(dir, "ops.sock"), exe: filepath.Join(dir, "sallyport")}
	r.write("sallyport.yaml", string(mustRead(t, r.config))+"operators:\n  socket: "+o.socket+"\n  people:\n    - {user: nobody, person: noah, role: auditor}\n")
	if err := os.WriteFile(o.exe, mustRead(t, program(t)), 0o755); err != nil {
		t.Fatal(err)
	}
	return o
}

const nobody, stranger = 65534, 1 // user ids

// as runs a command as another user. Only root can; elsewhere it is the gateway's own.
func (o *operators) as(uid uint32, args ...string) (string, error) {
	o.Helper()
	cmd := exec.Command(o.exe, args...)
	cmd.Dir, cmd.Env = "/", []string{socketEnv + "=" + o.socket, "SALLYPORT_CONFIG=" + o.config, "PATH=/usr/bin:/bin", "HOME=/"}
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// An operator who is not root does by the socket what his role permits, and is refused, on record, what it does not; somebody who is
// no operator is refused everything. Only root can act as others: elsewhere, the test sees the gateway's own user come through.
func TestOperatorsSocket(t *testing.T) {
	t.Parallel()
	o := withOperators(t, newRig(t, rigOptions{}))
	o.start()
	o.ok("user", "add", "alice", "--group", "network")
	if out, err := o.as(nobody, "user", "list"); err != nil || !strings.Contains(out, "alice") {
		t.Errorf("an auditor lists people: %v\n%s", err, out)
	}
	o.check()
	if os.Getuid() != 0 {
		return
	}
	if out, err := o.as(nobody, "user", "disable", "alice"); err == nil || !strings.Contains(out, "noah has the role auditor here, and user.disable takes admin") {
		t.Errorf("an auditor disables people: %v\n%s", err, out)
	}
	if out, err := o.as(stranger, "user", "list"); err == nil || !strings.Contains(out, "is no operator") {
		t.Errorf("a stranger lists people: %v\n%s", err, out)
	}
	refusals := o.records("--event", "admin.refused")
	if len(refusals) != 2 || detail(refusals[0], "actor") != "noah" || detail(refusals[0], "actor_user") != "nobody" || detail(refusals[0], "verb") != "user.disable" {
		t.Errorf("records of refusals: %+v", refusals)
	}
	o.stop()
	o.check()
}

// An auditor with a key of his own, and neither the configuration nor the folder, plays a recording: the gateway hands him the sealed
// file. A stranger gets nothing.
func TestAuditorPlaysFromAfar(t *testing.T) {
	t.Parallel()
	o := withOperators(t, newRecordingRig(t))
	text := strings.NewReplacer("127.0.0.1:1812", "127.0.0.1:0", "127.0.0.1:1813", "127.0.0.1:0", "127.0.0.1:2222", "127.0.0.1:0", "127.0.0.1:9464", "127.0.0.1:0").Replace(string(mustRead(t, o.config)))
	o.write("sallyport.yaml", regexp.MustCompile(`(?m)^log:\n( .*\n)*`).ReplaceAllString(text, "log: {format: json, level: debug}\n"))
	tape := o.tape("alice", "srv1", "hello\r\n")
	key := filepath.Join(o.dir, "auditor.key")
	if err := os.WriteFile(key, mustRead(t, filepath.Join(o.rig.dir, auditorFile)), 0o644); err != nil {
		t.Fatal(err)
	}
	o.start()
	out, err := o.as(nobody, "session", "play", tape.id, "--identity", key, "--export", "text", "-")
	if err != nil || !containsAll(out, "verified: ", "hello\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := o.as(stranger, "session", "play", tape.id, "--identity", key, "--export", "text", "-"); os.Getuid() == 0 && (err == nil || strings.Contains(out, "hello")) {
		t.Errorf("a stranger: %v\n%s", err, out)
	}
	if n := o.events(tape.id); n["recording.export"] == 0 || os.Getuid() == 0 && n["recording.find"] == 0 {
		t.Errorf("on record: %v", n)
	}
	o.stop()
	o.check()
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
