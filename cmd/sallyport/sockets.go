package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"

	"sallyport/internal/config"
)

// sockets are all that a gateway listens on.
type sockets struct {
	radius     []*net.UDPConn
	accounting []*net.UDPConn
	radsec     []net.Listener // RADIUS over TLS
	ssh        []net.Listener
	metrics    net.Listener
	admin      net.Listener
	operators  net.Listener // nil: operators have none of their own
	undo       []func() error
	spares     spares
}

// spares are second descriptors of all sockets but the commands' own, taken before anybody serves on them, for a gateway that comes after
// this one.
type spares struct {
	files []*os.File
	names []string
}

func (s *spares) add(name string, socket interface{ File() (*os.File, error) }) error {
	f, err := socket.File()
	if err == nil {
		s.files, s.names = append(s.files, f), append(s.names, name)
	}
	return err
}

// close lets them go: a socket is closed when its last descriptor is.
func (s *spares) close() {
	for _, f := range s.files {
		f.Close()
	}
	s.files, s.names = nil, nil
}

// spare takes them.
func (s *sockets) spare() error {
	var errs []error
	udp := func(name string, list []*net.UDPConn) {
		for _, one := range list {
			errs = append(errs, s.spares.add(name, one))
		}
	}
	tcp := func(name string, list ...net.Listener) {
		for _, one := range list {
			if t, ok := one.(*net.TCPListener); ok {
				errs = append(errs, s.spares.add(name, t))
			}
		}
	}
	udp("radius", s.radius)
	udp("accounting", s.accounting)
	tcp("radsec", s.radsec...)
	tcp("ssh", s.ssh...)
	tcp("metrics", s.metrics)
	return errors.Join(errs...)
}

// firstFD is the first inherited descriptor (sd_listen_fds(3)).
const firstFD = 3

// inheritedSockets takes what systemd passes, or count descriptors from any other parent. A datagram socket is for
// RADIUS, unless systemd names it "accounting"; a stream socket is for SSH, unless it is named "metrics" or "radsec"
// (FileDescriptorName=).
func (c *cli) inheritedSockets(count int, names []string) (*sockets, error) {
	var files []*os.File
	if count > 0 {
		for fd := firstFD; fd < firstFD+count; fd++ {
			name := "fd " + strconv.Itoa(fd)
			if i := fd - firstFD; i < len(names) {
				name = names[i]
			}
			files = append(files, os.NewFile(uintptr(fd), name))
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
		if f.Name() == "accounting" {
			s.accounting = append(s.accounting, udp)
		} else {
			s.radius = append(s.radius, udp)
		}
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
	switch f.Name() {
	case "metrics":
		s.metrics = l
	case "radsec":
		s.radsec = append(s.radsec, l)
	default:
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
		if s.radius, err = listenUDP("radius.listen", cfg.RADIUS.Listen); err != nil {
			return nil, err
		}
	}
	if len(s.accounting) == 0 {
		if s.accounting, err = listenUDP("radius.accounting", cfg.RADIUS.Accounting); err != nil {
			return nil, err
		}
	}
	if len(s.radsec) == 0 && cfg.RADIUS.TLS != nil {
		if s.radsec, err = listenTCP("radius.tls.listen", cfg.RADIUS.TLS.Listen); err != nil {
			return nil, err
		}
	}
	if len(s.ssh) == 0 {
		if s.ssh, err = listenTCP("ssh.listen", cfg.SSH.Listen); err != nil {
			return nil, err
		}
	}
	if s.metrics == nil && cfg.Metrics.Listen != "" {
		if s.metrics, err = net.Listen("tcp", cfg.Metrics.Listen); err != nil {
			return nil, hintf("does something else listen there? ss -tlpn shows it", "metrics.listen: %w", err)
		}
	}
	return s, errors.Join(s.spare(), s.openAdmin(p), s.openOperators(cfg.Operators.Socket))
}

// listenUDP returns what it has opened also with an error.
func listenUDP(field string, addresses []string) (conns []*net.UDPConn, err error) {
	for _, address := range addresses {
		addr, err := net.ResolveUDPAddr("udp", address)
		if err != nil {
			return conns, fmt.Errorf("%s: %w", field, err)
		}
		conn, err := net.ListenUDP("udp", addr)
		if err != nil {
			return conns, hintf("does another RADIUS server run? ss -ulpn shows it", "%s: %w", field, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// listenTCP returns what it has opened also with an error.
func listenTCP(field string, addresses []string) (listeners []net.Listener, err error) {
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return listeners, hintf("does something else listen there? ss -tlpn shows it", "%s: %w", field, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
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
	s.spares.close()
	for _, conn := range slices.Concat(s.radius, s.accounting) {
		conn.Close()
	}
	for _, l := range append(slices.Concat(s.ssh, s.radsec), s.metrics, s.admin, s.operators) {
		if l != nil {
			l.Close()
		}
	}
	for _, undo := range s.undo {
		_ = undo()
	}
}

func (s *sockets) radiusNames() []string     { return namesOf(s.radius, (*net.UDPConn).LocalAddr) }
func (s *sockets) accountingNames() []string { return namesOf(s.accounting, (*net.UDPConn).LocalAddr) }
func (s *sockets) radsecNames() []string     { return namesOf(s.radsec, net.Listener.Addr) }
func (s *sockets) sshNames() []string        { return namesOf(s.ssh, net.Listener.Addr) }

func namesOf[T any](list []T, addr func(T) net.Addr) []string {
	names := make([]string, 0, len(list))
	for _, one := range list {
		names = append(names, addr(one).String())
	}
	return names
}

func (s *sockets) metricsName() string {
	if s.metrics == nil {
		return ""
	}
	return s.metrics.Addr().String()
}
