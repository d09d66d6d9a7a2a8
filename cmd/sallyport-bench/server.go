package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is a running RADIUS server that the bench started, and ends by its process id.
type server struct {
	name   string // as in the tables
	addr   string
	secret string
	conf   string // the gateway's configuration file
	strict bool   // replies must begin with a Message-Authenticator
	crowd  *crowd
	doors  map[string]string // addresses for shapes that are not asked at addr

	cmd    *exec.Cmd
	log    string // file with all that it printed
	exited chan struct{}
	status error // why it ended; read after exited is closed
}

func (s *server) generator() generator {
	return generator{addr: s.addr, secret: s.secret, strict: s.strict, patience: patience}
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// startTimeout is how long a server may take until it answers, and endTimeout until it has ended.
const (
	startTimeout = 2 * time.Minute
	endTimeout   = 20 * time.Second
)

// launch starts the server's command. What it prints goes to the log file.
func (s *server) launch(cmd *exec.Cmd, dir string) error {
	s.log = filepath.Join(dir, "server.log")
	f, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal reaches the bench, which ends it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	go func() {
		s.status = cmd.Wait()
		close(s.exited)
	}()
	return nil
}

// await waits until the log has a line for which ready is true.
func (s *server) await(ctx context.Context, ready func(line string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		f, err := os.Open(s.log)
		if err != nil {
			return err
		}
		found := false
		for in := bufio.NewScanner(f); !found && in.Scan(); {
			found = ready(in.Text())
		}
		f.Close()
		if found {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", s.name, s.status, s.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready: %w\n%s", s.name, ctx.Err(), s.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of the server's log, for error messages.
func (s *server) tail() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// end asks the server to end, and kills it when it does not.
func (s *server) end() error {
	select {
	case <-s.exited:
		return fmt.Errorf("%s ended under way: %w\n%s", s.name, s.status, s.tail())
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		var status *exec.ExitError
		if errors.As(s.status, &status) {
			return fmt.Errorf("%s ended with %w\n%s", s.name, s.status, s.tail())
		}
		return nil
	case <-time.After(endTimeout):
		s.cmd.Process.Kill()
		<-s.exited
		return fmt.Errorf("%s did not end within %s of SIGTERM and was killed", s.name, endTimeout)
	}
}

// freePort finds a UDP port on loopback that nobody uses now.
func freePort() (int, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port, nil
}

// abandon kills a server that never became ready.
func (s *server) abandon() {
	s.cmd.Process.Kill()
	<-s.exited
}
