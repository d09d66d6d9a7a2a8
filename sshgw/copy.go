package sshgw

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/crypto/ssh"
)

const (
	// copyBuffer is what one read takes at most. A channel's packets are no longer (RFC 4254 section 5.2 with
	// x/crypto/ssh's sizes), and what is written at once must not be either: the peer may claim to take packets of 2 GiB.
	copyBuffer = 32 << 10
	// keyBuffer holds what people type. A direction keeps only this while nothing moves.
	keyBuffer = 512
)

// fromClient copies from the client to the target until one of them closes, and passes the end on.
func (s *session) fromClient(ch ssh.Channel, to net.Conn) {
	// A channel cannot say that it has something to read, so the large buffer is borrowed after a read that filled the
	// small one, and given back after a read that would have fitted it.
	small := make([]byte, keyBuffer)
	var large *[copyBuffer]byte
	defer func() {
		if large != nil {
			s.c.srv.buffers.Put(large)
		}
	}()
	for {
		buf := small
		if large != nil {
			buf = large[:]
		}
		n, err := ch.Read(buf)
		if n > 0 {
			s.in.Add(int64(n))
			s.touch()
			if _, werr := to.Write(buf[:n]); werr != nil {
				s.closed(endTargetClosed)
				to.Close()
				return
			}
		}
		if err != nil {
			s.closed(s.c.lostReason())
			closeWrite(to)
			return
		}
		switch {
		case large == nil && n == keyBuffer:
			large = s.c.srv.buffers.Get().(*[copyBuffer]byte)
		case large != nil && n <= keyBuffer:
			s.c.srv.buffers.Put(large)
			large = nil
		}
	}
}

// closeWrite passes an end of data on, where the connection has two directions to close.
func closeWrite(to net.Conn) {
	half, ok := to.(interface{ CloseWrite() error })
	if !ok {
		to.Close()
		return
	}
	// An error means that it is closed already.
	_ = half.CloseWrite()
}

// toClient copies from the target to the client until one of them closes, and passes the end on.
func (s *session) toClient(ch ssh.Channel, from net.Conn) {
	read := s.reader(from)
	for {
		n, err := read(func(p []byte) error {
			s.out.Add(int64(len(p)))
			s.touch()
			_, err := ch.Write(p)
			return err
		})
		if err != nil {
			s.closed(s.c.lostReason())
			return
		}
		if n == 0 {
			s.closed(endTargetClosed)
			// An error means that the channel is closed already.
			_ = ch.CloseWrite()
			return
		}
	}
}

// reader returns a function that reads once and hands what it read on. It returns 0 at the end of the target's data,
// however that came, and write's error. From a TCP connection it reads with a buffer that it borrows only once there is
// something to read: an idle session holds none.
func (s *session) reader(from net.Conn) func(write func([]byte) error) (int, error) {
	pool := &s.c.srv.buffers
	if sc, ok := from.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return func(write func([]byte) error) (int, error) {
				buf, n := (*[copyBuffer]byte)(nil), 0
				rerr := raw.Read(func(fd uintptr) bool {
					buf = pool.Get().(*[copyBuffer]byte)
					var err error
					for {
						n, err = syscall.Read(int(fd), buf[:])
						if err != syscall.EINTR {
							break
						}
					}
					if err == syscall.EAGAIN {
						pool.Put(buf)
						buf, n = nil, 0
						return false
					}
					n = max(n, 0)
					return true
				})
				if buf == nil || rerr != nil {
					return 0, nil
				}
				defer pool.Put(buf)
				if n == 0 {
					return 0, nil
				}
				return n, write(buf[:n])
			}
		}
	}
	own := make([]byte, copyBuffer)
	return func(write func([]byte) error) (int, error) {
		n, _ := from.Read(own) // an error that comes with bytes comes again, alone, with the next read
		if n == 0 {
			return 0, nil
		}
		return n, write(own[:n])
	}
}

// discard reads to the end with a small buffer, where io.Discard would hold 8 KiB.
func discard(r io.Reader) {
	var buf [256]byte
	for {
		if _, err := r.Read(buf[:]); err != nil {
			return
		}
	}
}
