package radiusd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// DefaultReceiveBuffer is what a socket's receive buffer is raised to, in bytes. The kernel counts some 0.8 to 2.3 KiB
// for a small datagram, so Linux's default of 208 KiB loses requests in a burst of 512.
const DefaultReceiveBuffer = 4 << 20

// burstBuffer is the least buffer that holds a burst of 512 requests, as the kernel counts them.
const burstBuffer = 512 * 2304

// maxControl holds one packet information message of either family.
const maxControl = 64

// lookUp is how often a reader that waits for a datagram looks whether it shall end.
const lookUp = 250 * time.Millisecond

// listener is one socket that is being served. It is out of the hands of Go's network poller, in blocking mode: the
// poller would be told of every datagram that comes and of every reply that leaves, also while the reader is busy, and
// each time wakes a thread for it. (Measured with 64 outstanding: 20 such wakings for each batch of 44 decisions.)
type listener struct {
	carried traffic
	addr    net.Addr
	fd      int
	// anyAddr tells that the socket is bound to no address. Replies must then name the address that was asked, or a
	// host with several sends them from another, and the NAS drops them.
	anyAddr bool
	batch   batchConn
	out     *outbox
}

func (ln *listener) put(r *request, packet []byte)  { ln.out.put(r, packet) }
func (ln *listener) post(r *request, packet []byte) { ln.out.post(r, packet) }
func (ln *listener) flush()                         { ln.out.flush() }
func (ln *listener) traffic() *traffic              { return &ln.carried }

// batchConn reads and writes many datagrams with one system call. Those of ipv4 and ipv6 are alike.
type batchConn interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

// openListener takes conn over, and closes it: the listener has a descriptor of its own of the same socket. The caller
// closes the listener.
func openListener(conn *net.UDPConn, failed func(*client, netip.Addr, error)) (*listener, error) {
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("socket %v is not UDP", conn.LocalAddr())
	}
	ln := &listener{addr: local, fd: -1, anyAddr: local.IP == nil || local.IP.IsUnspecified()}
	domain := 0
	err := control(conn, func(fd int) (err error) {
		if ln.fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
		domain, err = ln.setUp()
		return err
	})
	if err != nil {
		if ln.fd >= 0 {
			ln.close()
		}
		return nil, fmt.Errorf("socket %v: %w", local, err)
	}
	ln.batch = ipv4.NewPacketConn(blockingConn{conn, blocking(ln.fd)})
	if domain == unix.AF_INET6 {
		ln.batch = ipv6.NewPacketConn(blockingConn{conn, blocking(ln.fd)})
	}
	ln.out = &outbox{write: ln.batch.WriteBatch, failed: failed}
	return ln, nil
}

func (ln *listener) setUp() (domain int, err error) {
	if err := unix.SetNonblock(ln.fd, false); err != nil {
		return 0, err
	}
	wait := unix.NsecToTimeval(lookUp.Nanoseconds())
	if err := unix.SetsockoptTimeval(ln.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return 0, err
	}
	if domain, err = unix.GetsockoptInt(ln.fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || !ln.anyAddr {
		return domain, err
	}
	if domain == unix.AF_INET6 {
		return domain, unix.SetsockoptInt(ln.fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return domain, unix.SetsockoptInt(ln.fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

func (ln *listener) close() {
	_ = unix.Close(ln.fd) // nothing that was sent can be lost by it
}

// wait returns how many datagrams have come, at least one. Without any it returns os.ErrDeadlineExceeded after lookUp.
func (ln *listener) wait(ms []ipv4.Message) (int, error) {
	n, err := ln.batch.ReadBatch(ms, unix.MSG_WAITFORONE)
	if errors.Is(err, unix.EINTR) { // a signal of Go's scheduler; not restarted, since there is a time-out (signal(7))
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// more is wait for those that are there already.
func (ln *listener) more(ms []ipv4.Message) int {
	n, err := ln.batch.ReadBatch(ms, unix.MSG_DONTWAIT)
	if err != nil {
		return 0 // nothing is there, or wait will tell
	}
	return n
}

// blockingConn is what golang.org/x/net needs of a connection, with system calls that block.
type blockingConn struct {
	*net.UDPConn // closed; it knows its address and that it is UDP
	raw          blocking
}

func (c blockingConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// blocking is a descriptor in blocking mode. It is in use only between openListener and close.
type blocking int

func (fd blocking) Control(f func(uintptr)) error {
	f(uintptr(fd))
	return nil
}

func (fd blocking) Read(f func(uintptr) bool) error  { return fd.call(f) }
func (fd blocking) Write(f func(uintptr) bool) error { return fd.call(f) }

// call makes a system call. F returns false when it ended by its time-out.
func (fd blocking) call(f func(uintptr) bool) error {
	if !f(uintptr(fd)) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func control(conn *net.UDPConn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// raiseReceiveBuffer asks for size bytes, beyond net.core.rmem_max where the process may, and returns what it got.
func (ln *listener) raiseReceiveBuffer(size int) (got int, err error) {
	if unix.SetsockoptInt(ln.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		if err := unix.SetsockoptInt(ln.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size); err != nil {
			return 0, err
		}
	}
	return unix.GetsockoptInt(ln.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
}

// answerFrom turns the packet information that came with a datagram, in place, into what a reply from the same address
// needs, and returns its length; 0 when there is none. The interface is left to routing, except for link-local
// addresses, which mean nothing without it.
func answerFrom(control []byte) int {
	if len(control) < unix.SizeofCmsghdr {
		return 0
	}
	hdr, data, rest, err := unix.ParseOneSocketControlMessage(control)
	if err != nil {
		return 0
	}
	switch {
	case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		// struct in_pktinfo: interface, local address (the source when sending), destination in the header
		binary.NativeEndian.PutUint32(data, 0)
	case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		// struct in6_pktinfo: address, interface
		if a := netip.AddrFrom16([16]byte(data)); !a.IsLinkLocalUnicast() {
			binary.NativeEndian.PutUint32(data[16:], 0)
		}
	default:
		return 0
	}
	return len(control) - len(rest)
}
