package main

import (
	"cmp"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/admin"
	"sallyport/internal/config"
	"sallyport/internal/login"
)

// operator fills in who an actor is at the gateway. Who can open the data folder owns all that is in it, so root and the user whom
// the gateway runs as are admins; everybody else is what the configuration says, by what the kernel says of the socket's other end.
func (a *app) operator(actor admin.Actor) admin.Actor {
	actor.Role = ""
	if actor.User == "" { // else a verb has called another
		actor.User = actor.Name
	}
	switch actor.Road {
	case "cli", "daemon":
		actor.Role = admin.RoleAdmin
	case "socket":
		if actor.UID == 0 || actor.UID == os.Getuid() {
			actor.Role = admin.RoleAdmin
		}
	}
	if actor.UID < 0 && actor.Road == "socket" {
		return actor
	}
	people := a.config().Operators.People
	at := slices.IndexFunc(people, func(o config.Operator) bool { return o.User != "" && o.User == actor.User })
	if at < 0 { // his own line goes before those of his groups, wherever it stands
		groups := groupsOf(actor.UID)
		at = slices.IndexFunc(people, func(o config.Operator) bool { return groups[o.Group] })
	}
	if at < 0 {
		return actor
	}
	actor.Name = cmp.Or(people[at].Person, actor.Name)
	if actor.Role == "" {
		actor.Role = admin.Role(people[at].Role)
	}
	return actor
}

// groupsOf are the groups of an operating-system user, as far as they are known here.
func groupsOf(uid int) map[string]bool {
	names := make(map[string]bool)
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return names
	}
	ids, err := u.GroupIds()
	if err != nil {
		return names
	}
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil {
			names[g.Name] = true
		}
	}
	return names
}

// isAdmin tells whether a person is an admin: by a line that says so, or since an operating-system user who is he has an admin's rights,
// as root has whatever his line says, and by a group.
func (a *app) isAdmin(person string) bool {
	users := []string{person}
	for _, o := range a.config().Operators.People {
		switch {
		case !login.SameName(cmp.Or(o.Person, o.User), person):
		case admin.Role(o.Role) == admin.RoleAdmin:
			return true
		case o.User != "":
			users = append(users, o.User)
		}
	}
	return slices.ContainsFunc(users, func(name string) bool { return a.actsAsAdmin(name, person) })
}

// actsAsAdmin tells whether an operating-system user is a person with an admin's rights. Where that cannot be read, he is taken for one.
func (a *app) actsAsAdmin(name, person string) bool {
	u, err := user.Lookup(name)
	if err != nil {
		var unknown user.UnknownUserError
		return !errors.As(err, &unknown)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return true
	}
	as := a.operator(admin.Actor{Name: u.Username, Road: "socket", UID: uid})
	return as.Role == admin.RoleAdmin && login.SameName(as.Name, person)
}

func (a *app) fourEyes() bool { return a.config().Operators.FourEyes }

// operatorsSocket is where operators reach a gateway whose configuration they may not read.
const operatorsSocket = "/run/sallyport/operators.sock"

// socketEnv names another one.
const socketEnv = "SALLYPORT_SOCKET"

// openOperators makes the socket for operators. Everybody may connect: who it is, the kernel says, and what he may do, the
// configuration. A leftover of a crash is removed; another program's file is not.
func (s *sockets) openOperators(path string) error {
	if path == "" {
		return nil
	}
	hint := "operators.socket: its folder has to be there, and writable for the gateway: RuntimeDirectory=sallyport in systemd's unit"
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return hintf(hint, "%s is there, and no socket", path)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return hintf("another gateway runs, or operators.socket is the same for two", "somebody serves %s already", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return hintf(hint, "socket for operators: %w", err)
	}
	l.SetUnlinkOnClose(true)
	s.operators = admin.LimitUsers(l)
	return os.Chmod(path, 0o666)
}

// dialOperators reaches the gateway by the socket for operators: the one that the environment names, else the configuration's, else
// the usual one.
func (c *cli) dialOperators(cfg *config.Config) (admin.Caller, func() error, bool) {
	path, named := c.env(socketEnv)
	if !named && cfg != nil {
		path = cfg.Operators.Socket
	}
	if path == "" {
		path = operatorsSocket
	}
	conn, err := net.DialTimeout("unix", path, 2*time.Second)
	if err != nil {
		return nil, nil, false
	}
	conn.Close()
	client := admin.NewClient(path)
	return client, func() error { client.Close(); return nil }, true
}

// noAccess says what to do where somebody may not read what a command needs.
func noAccess(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return hintf("run it as root, or as the gateway's user; or have an admin list you in the configuration (operators), and set "+socketEnv, "%w", err)
	}
	return err
}
