package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// visit is a client's way to the target, opened by golang.org/x/crypto/ssh.
type visit struct {
	outer, inner *ssh.Client // inner: the one that sessions are opened on; the same where there is no jump
}

func (v *visit) close() {
	if v.inner != v.outer {
		v.inner.Close()
	}
	v.outer.Close()
}

// callTime bounds a login.
const callTime = time.Minute

func (r *sshRig) clientConfig(name string, auth ...ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{
		Config: ssh.Config{Ciphers: []string{oneCipher}}, User: name, Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: callTime,
	}
}

// answers gives password and code.
func (p *sshPerson) answers() ssh.AuthMethod {
	return ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		var all []string
		for _, q := range questions {
			switch {
			case strings.Contains(q, "assword"):
				all = append(all, p.password)
			case strings.Contains(q, "code"):
				all = append(all, p.code())
			default:
				return nil, fmt.Errorf("an unexpected question %q", q)
			}
		}
		return all, nil
	})
}

// enter logs in at whoever is the first on a way.
func (r *sshRig) enter(w sshWay, p *sshPerson) (*ssh.Client, error) {
	key := ssh.PublicKeys(r.key)
	switch w.party {
	case partyGateway:
		name := p.name
		if to, named := strings.CutPrefix(w.host, "gw-"); named {
			name += "@" + to
		}
		return ssh.Dial("tcp", r.address("gw"), r.clientConfig(name, p.answers()))
	case partySSHD:
		return ssh.Dial("tcp", r.address("sshd"), r.clientConfig(r.lodger, key))
	case partyJump:
		return ssh.Dial("tcp", r.address("xjump"), r.clientConfig(r.account, key))
	case partyBoth:
		return ssh.Dial("tcp", r.address("xboth"), r.clientConfig(r.account, key))
	case partyProxy:
		return ssh.Dial("tcp", r.address("xproxy"), r.clientConfig(r.account, key))
	default:
		return ssh.Dial("tcp", r.address("direct"), r.clientConfig(r.account, key))
	}
}

// visit goes all the way, up to where a session can be opened.
func (r *sshRig) visit(w sshWay, p *sshPerson) (*visit, error) {
	outer, err := r.enter(w, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.name, err)
	}
	v := &visit{outer, outer}
	if !w.inner {
		return v, nil
	}
	to := r.address("direct")
	if w.party == partyGateway {
		to = net.JoinHostPort(w.host, "22")
	}
	conn, err := outer.Dial("tcp", to)
	if err != nil {
		outer.Close()
		return nil, fmt.Errorf("%s, to %s: %w", w.name, to, err)
	}
	sc, chans, requests, err := ssh.NewClientConn(conn, to, r.clientConfig(r.account, ssh.PublicKeys(r.key)))
	if err != nil {
		outer.Close()
		return nil, fmt.Errorf("%s, within: %w", w.name, err)
	}
	v.inner = ssh.NewClient(sc, chans, requests)
	return v, nil
}

// run runs a command that says nothing.
func (v *visit) run(command string) error {
	s, err := v.inner.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Run(command)
}

// echo is a terminal at the target in which cat gives back every byte at once.
type echo struct {
	*visit
	session *ssh.Session
	in      io.Writer
	out     io.Reader
}

// openEcho opens one, and waits until it answers.
func (r *sshRig) openEcho(w sshWay, p *sshPerson) (_ *echo, err error) {
	v, err := r.visit(w, p)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			v.close()
			err = fmt.Errorf("%s: %w", w.name, err)
		}
	}()
	e := &echo{visit: v}
	if e.session, err = v.inner.NewSession(); err != nil {
		return nil, err
	}
	var err1, err2 error
	e.in, err1 = e.session.StdinPipe()
	e.out, err2 = e.session.StdoutPipe()
	if err := errors.Join(err1, err2, e.session.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0})); err != nil {
		return nil, err
	}
	if err := e.session.Start("stty raw -echo; echo ready; exec cat"); err != nil {
		return nil, err
	}
	var said []byte
	for buf := make([]byte, 64); !strings.Contains(string(said), "ready\n"); {
		n, err := e.out.Read(buf)
		said = append(said, buf[:n]...)
		if err != nil {
			return nil, fmt.Errorf("it said %q: %w", said, err)
		}
	}
	return e, nil
}

// key types one and waits for it.
func (e *echo) key() (time.Duration, error) {
	var b [1]byte
	begin := time.Now()
	if _, err := e.in.Write([]byte{'x'}); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(e.out, b[:]); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}
