package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"
)

// way is how a client says where it wants to go.
type way struct {
	name string
	// at is what OpenSSH's programs are told: options, and the host to name.
	at func(c *sshTry, target string) (options []string, host string)
	// jump tells that the client has an SSH connection within one to the gateway.
	jump bool
}

// The ways in.
var (
	byAt = way{name: "PERSON@TARGET", at: func(c *sshTry, target string) ([]string, string) {
		return []string{"-o", "User=" + c.p.name + "@" + target}, "gw"
	}}
	byPercent = way{name: "PERSON%TARGET", at: func(c *sshTry, target string) ([]string, string) {
		return []string{"-o", "User=" + c.p.name + "%" + target}, "gw"
	}}
	byThree = way{name: "PERSON@ACCOUNT@TARGET", at: func(c *sshTry, target string) ([]string, string) {
		return []string{"-o", "User=" + c.p.name + "@" + c.accountAt(target) + "@" + target}, "gw"
	}}
	byJump = way{name: "recorded jump", jump: true, at: func(c *sshTry, target string) ([]string, string) {
		return []string{"-J", c.p.name + "@gw"}, target
	}}
	byOpaque = way{name: "opaque jump", jump: true, at: func(c *sshTry, target string) ([]string, string) {
		return []string{"-J", c.p.name + "@gw"}, target
	}}
	byMenu = way{name: "menu", at: func(c *sshTry, _ string) ([]string, string) {
		return []string{"-o", "User=" + c.p.name}, "gw"
	}}
)

func (c *sshTry) accountAt(target string) string {
	switch {
	case strings.HasPrefix(target, "box"):
		return boxAccount
	case strings.HasPrefix(target, "sw"):
		return switchAccount
	}
	return c.w.account
}

// answers is the environment by which OpenSSH's programs, and what they start, answer what they are asked.
func (c *sshTry) answers(password, code string) []string {
	return []string{
		"SSH_ASKPASS=" + c.w.askpass, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none", "PASSWORD=" + password, "CODE=" + code,
		"TARGET_PASSWORD=" + switchPassword, "SSH_AUTH_SOCK=", "TERM=xterm", "LC_ALL=C",
	}
}

// openSSH runs ssh, sftp or scp, or rsync over ssh, with password and a fresh code.
func (c *sshTry) openSSH(stdin, program string, args ...string) (stdout, stderr string, status int) {
	c.Helper()
	return c.openSSHWith(c.answers(c.p.password, c.p.code()), stdin, program, args...)
}

func (c *sshTry) openSSHWith(env []string, stdin, program string, args ...string) (stdout, stderr string, status int) {
	c.Helper()
	return runTool(c, stdin, env, tool(c, program, "openssh-client"), append([]string{"-F", c.w.conf}, args...)...)
}

// must checks an exit status.
func (c *sshTry) must(what, stdout, stderr string, status, want int) {
	c.Helper()
	if status != want {
		c.Fatalf("%s: exit status %d, want %d\n%.2000s%s", what, status, want, stdout, stderr)
	}
}

// cells gives OpenSSH's arguments for a way: options first, then the host.
func (c *sshTry) cmdline(wy way, target string, options ...string) []string {
	o, host := wy.at(c, target)
	return append(append(o, options...), host)
}

// tty is a program at a terminal of its own.
type tty struct {
	testing.TB
	master *os.File
	cmd    *exec.Cmd
	out    lockedBuffer
	ended  chan struct{}
}

// atTerminal starts a program at a new terminal of that size.
func (c *sshTry) atTerminal(cols, rows uint16, env []string, name string, args ...string) *tty {
	c.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		c.Fatal(err)
	}
	x := &tty{TB: c, master: master, ended: make(chan struct{})}
	x.resize(cols, rows)
	var n int
	x.control(func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		c.Fatal(err)
	}
	x.cmd = exec.Command(name, args...)
	x.cmd.Env = append(os.Environ(), env...)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		c.Fatal(err)
	}
	slave.Close()
	go func() {
		defer close(x.ended)
		_, _ = io.Copy(&x.out, master) // EIO when the last slave is closed
		_ = x.cmd.Wait()               // its status is looked at
	}()
	c.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		<-x.ended
		master.Close()
	})
	return x
}

func (x *tty) control(do func(fd int) error) {
	x.Helper()
	raw, err := x.master.SyscallConn()
	if err != nil {
		x.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil || failed != nil {
		x.Fatalf("the terminal: %v", errors.Join(err, failed))
	}
}

func (x *tty) resize(cols, rows uint16) {
	x.Helper()
	x.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows})
	})
}

func (x *tty) await(text string) {
	x.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(x.out.String(), text) {
		select {
		case <-tick.C:
		case <-x.ended:
			if strings.Contains(x.out.String(), text) {
				return
			}
			x.Fatalf("the program ended, and never showed %q:\n%s", text, tailOf(x.out.String()))
		case <-deadline.C:
			x.Fatalf("the terminal does not show %q:\n%s", text, tailOf(x.out.String()))
		}
	}
}

func (x *tty) typ(text string) {
	x.Helper()
	if _, err := io.WriteString(x.master, text); err != nil {
		x.Fatalf("typing %q: %v\n%s", text, err, tailOf(x.out.String()))
	}
}

// status waits for the program's end.
func (x *tty) status() int {
	x.Helper()
	select {
	case <-x.ended:
	case <-time.After(patience):
		x.Fatalf("the program does not end:\n%s", tailOf(x.out.String()))
	}
	return x.cmd.ProcessState.ExitCode()
}

// prompted runs a program that asks at its standard streams, types each answer when it is asked for, and then stdin.
func (c *sshTry) prompted(env []string, questions [][2]string, stdin, name string, args ...string) (stdout, stderr string, status int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + c.tmp, "LC_ALL=C"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	seen := 0
	for _, q := range questions {
		until(c, filepath.Base(name)+"'s "+q[0], func() bool {
			if ctx.Err() != nil {
				c.Fatalf("%s does not ask for %q:\n%s%s", name, q[0], out.String(), errs.String())
			}
			text := errs.String()
			i := strings.Index(text[min(seen, len(text)):], q[0])
			if i >= 0 {
				seen += i + len(q[0])
			}
			return i >= 0
		})
		if _, err := io.WriteString(in, q[1]+"\n"); err != nil {
			c.Errorf("%s: %v", name, err)
		}
	}
	if stdin != "" { // what comes before they are through with asking, they throw away
		until(c, filepath.Base(name)+"'s session", func() bool {
			if ctx.Err() != nil {
				c.Fatalf("%s has no session:\n%s%s", name, out.String(), errs.String())
			}
			return len(c.newRecords("session.start")) > 0
		})
	}
	_, _ = io.WriteString(in, stdin) // a program that has ended takes no more
	in.Close()
	_ = cmd.Wait() // its status is the result
	if ctx.Err() != nil {
		c.Fatalf("%s %v did not end within %v:\n%.2000s%s", name, args, patience, out.String(), errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// login is what programs that ask at their standard streams are told.
func (c *sshTry) login() [][2]string {
	return [][2]string{{"Password: ", c.p.password}, {"code: ", c.p.code()}}
}

// putty runs one of PuTTY's programs as somebody of that user name.
func (c *sshTry) putty(user, stdin, program string, args ...string) (stdout, stderr string, status int) {
	c.Helper()
	host, port := c.w.hostPort()
	all := []string{"-noagent", "-P", port, "-l", user, "-hostkey", ssh.FingerprintSHA256(c.w.hostKey)}
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "GATEWAY", host)
	}
	return c.prompted(nil, c.login(), stdin, tool(c, program, "putty-tools"), append(all, args...)...)
}

// typist answers what the gateway asks, and what a target asks within a jump.
func (c *sshTry) typist(target string) ssh.AuthMethod {
	code := c.p.code()
	return ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		var answers []string
		for _, q := range questions {
			switch {
			case target != "":
				answers = append(answers, target)
			case strings.Contains(q, "Password"):
				answers = append(answers, c.p.password)
			default:
				answers = append(answers, code)
			}
		}
		return answers, nil
	})
}

// dial connects by x/crypto, by a way.
func (c *sshTry) dial(wy way, target string, auth ...ssh.AuthMethod) *ssh.Client {
	c.Helper()
	check, err := knownhosts.New(filepath.Join(c.w.dir, "known_hosts"))
	if err != nil {
		c.Fatal(err)
	}
	user := c.p.name + "@" + target
	switch wy.name {
	case byThree.name:
		user = c.p.name + "@" + c.accountAt(target) + "@" + target
	case byPercent.name:
		user = c.p.name + "%" + target
	}
	if wy.jump {
		user = c.p.name
	}
	if len(auth) == 0 {
		auth = []ssh.AuthMethod{c.typist("")}
	}
	client, err := ssh.Dial("tcp", c.w.daemon.ssh, &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: check, HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: patience})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { client.Close() })
	if !wy.jump {
		return client
	}
	conn, err := client.Dial("tcp", net.JoinHostPort(target, "22"))
	if err != nil {
		c.Fatal(err)
	}
	inner, channels, requests, err := ssh.NewClientConn(conn, net.JoinHostPort(target, "22"), &ssh.ClientConfig{
		User: c.accountAt(target), HostKeyCallback: check, Auth: []ssh.AuthMethod{c.typist(switchPassword)},
	})
	if err != nil {
		c.Fatal(err)
	}
	within := ssh.NewClient(inner, channels, requests)
	c.Cleanup(func() { within.Close() })
	return within
}
