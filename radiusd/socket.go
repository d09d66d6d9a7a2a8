package radiusd

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// DefaultReceiveBuffer is what a socket's receive buffer is raised to, in bytes. The kernel counts some 0.8 to 2.3 KiB
// for a small datagram, so Linux's default of 208 KiB loses requests in a burst of 512.
const DefaultReceiveBuffer = 4 << 20

// burstBuffer is the least buffer that holds a burst of 512 requests, as the kernel counts them.
const burstBuffer = 512 * 2304

// maxControl holds one packet information message of either family.
const maxControl = 64

// listener is one socket that is being served.
type listener struct {
	conn *net.UDPConn
	id   uint32
	// anyAddr tells that the socket is bound to no address. Replies must then name the address that was asked, or a
	// host with several sends them from another, and the NAS drops them.
	anyAddr bool
	out     *outbox
	// finisher answers what the reader has asked; set by Serve, before it reads.
	finisher *finisher
	ctx      context.Context // of the decisions: lives on while the socket is drained
	pending  sync.WaitGroup  // requests that were accepted and not answered yet
}

func openListener(conn *net.UDPConn, failed func(*client, netip.Addr, error)) (*listener, error) {
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("socket %v is not UDP", conn.LocalAddr())
	}
	ln := &listener{conn: conn, anyAddr: local.IP == nil || local.IP.IsUnspecified()}
	domain := 0
	err := control(conn, func(fd int) (err error) {
		if domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || !ln.anyAddr {
			return err
		}
		if domain == unix.AF_INET6 {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
	if err != nil {
		return nil, fmt.Errorf("socket %v: destination addresses: %w", local, err)
	}
	ln.out = newOutbox(conn, domain, failed)
	return ln, nil
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
func raiseReceiveBuffer(conn *net.UDPConn, size int) (got int, err error) {
	err = control(conn, func(fd int) error {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size); err != nil {
				return err
			}
		}
		got, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		return err
	})
	return got, err
}

// read waits for a datagram.
func (ln *listener) read(r *request) error {
	if !ln.anyAddr {
		n, src, err := ln.conn.ReadFromUDPAddrPort(r.buf[:])
		r.n, r.src, r.controlLen = n, src, 0
		return err
	}
	n, cn, _, src, err := ln.conn.ReadMsgUDPAddrPort(r.buf[:], r.control[:])
	r.n, r.src = n, src
	if err == nil {
		r.controlLen = answerFrom(r.control[:cn])
	}
	return err
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

// send answers r at once, on the reader.
func (ln *listener) send(r *request, reply []byte) error {
	if r.controlLen > 0 {
		_, _, err := ln.conn.WriteMsgUDPAddrPort(reply, r.control[:r.controlLen], r.src)
		return err
	}
	_, err := ln.conn.WriteToUDPAddrPort(reply, r.src)
	return err
}
