package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"

	"sallyport/internal/config"
)

// sockets are all that a gateway listens on.
type sockets struct {
	radius  []*net.UDPConn
	ssh     []net.Listener
	metrics net.Listener
	admin   net.Listener
	undo    []func() error
}

// firstFD is the first inherited descriptor (sd_listen_fds(3)).
const firstFD = 3

// inheritedSockets takes what systemd passes, or count descriptors from any other parent. A datagram socket is for
// RADIUS; a stream socket is for SSH, unless systemd names it "metrics".
func (c *cli) inheritedSockets(count int) (*sockets, error) {
	var files []*os.File
	if count > 0 {
		for fd := firstFD; fd < firstFD+count; fd++ {
			files = append(files, os.NewFile(uintptr(fd), "fd "+strconv.Itoa(fd)))
		}
	} else {
		files = activation.Files(true)
	}
	if len(files) == 0 {
		return nil, nil
	}
	s := new(sockets)
	for _, f := range files {
		err := s.inherit(f)
		f.Close()
		if err != nil {
			s.close()
			return nil, hintf("ListenDatagram= for RADIUS, ListenStream= for SSH", "inherited socket %s: %w", f.Name(), err)
		}
	}
	return s, nil
}

func (s *sockets) inherit(f *os.File) error {
	if conn, err := net.FilePacketConn(f); err == nil {
		udp, ok := conn.(*net.UDPConn)
		if !ok {
			conn.Close()
			return fmt.Errorf("a %s socket is not UDP", conn.LocalAddr().Network())
		}
		s.radius = append(s.radius, udp)
		return nil
	}
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	if _, ok := l.(*net.TCPListener); !ok {
		l.Close()
		return fmt.Errorf("a %s socket is not TCP", l.Addr().Network())
	}
	if f.Name() == "metrics" {
		s.metrics = l
	} else {
		s.ssh = append(s.ssh, l)
	}
	return nil
}

// openSockets opens what the configuration names and nobody passed.
func openSockets(cfg *config.Config, p paths, inherited *sockets) (_ *sockets, err error) {
	s := inherited
	if s == nil {
		s = new(sockets)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if len(s.radius) == 0 {
		for _, address := range cfg.RADIUS.Listen {
			addr, err := net.ResolveUDPAddr("udp", address)
			if err != nil {
				return nil, fmt.Errorf("radius.listen: %w", err)
			}
			conn, err := net.ListenUDP("udp", addr)
			if err != nil {
				return nil, hintf("does another RADIUS server run? ss -ulpn shows it", "radius.listen: %w", err)
			}
			s.radius = append(s.radius, conn)
		}
	}
	if len(s.ssh) == 0 {
		for _, address := range cfg.SSH.Listen {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return nil, hintf("does something else listen there? ss -tlpn shows it", "ssh.listen: %w", err)
			}
			s.ssh = append(s.ssh, l)
		}
	}
	if s.metrics == nil && cfg.Metrics.Listen != "" {
		if s.metrics, err = net.Listen("tcp", cfg.Metrics.Listen); err != nil {
			return nil, hintf("does something else listen there? ss -tlpn shows it", "metrics.listen: %w", err)
		}
	}
	return s, s.openAdmin(p)
}

// openAdmin makes the CLI's socket. A leftover of a crash is removed: the data folder's lock is held, so nobody uses it.
func (s *sockets) openAdmin(p paths) error {
	if err := os.Remove(p.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	path, cleanup, err := shortPath(p.socket)
	if err != nil {
		return err
	}
	s.undo = append(s.undo, cleanup)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("socket for the commands: %w", err)
	}
	l.SetUnlinkOnClose(true)
	s.admin = l
	return os.Chmod(p.socket, 0o600)
}

// close closes what is still open.
func (s *sockets) close() {
	for _, conn := range s.radius {
		conn.Close()
	}
	for _, l := range s.ssh {
		l.Close()
	}
	for _, l := range []net.Listener{s.metrics, s.admin} {
		if l != nil {
			l.Close()
		}
	}
	for _, undo := range s.undo {
		_ = undo()
	}
}

func (s *sockets) radiusNames() []string {
	list := make([]string, 0, len(s.radius))
	for _, conn := range s.radius {
		list = append(list, conn.LocalAddr().String())
	}
	return list
}

func (s *sockets) sshNames() []string {
	list := make([]string, 0, len(s.ssh))
	for _, l := range s.ssh {
		list = append(list, l.Addr().String())
	}
	return list
}

func (s *sockets) metricsName() string {
	if s.metrics == nil {
		return ""
	}
	return s.metrics.Addr().String()
}
