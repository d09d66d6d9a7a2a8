package sshgw

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshgw/relay"
)

// copy moves bytes both ways until both sides have closed or ctx ends. It returns when the client has confirmed the
// channel's end, or has been cut off for not doing so.
func (s *session) copy(ctx context.Context, ch ssh.Channel, requests <-chan *ssh.Request, to net.Conn) {
	gone := make(chan struct{}) // closed when the channel is closed on both sides
	s.c.run(func() {
		defer close(gone)
		ssh.DiscardRequests(requests)
	})
	// The window is shared by data and extended data, and is credited only for what is read.
	s.c.run(func() { s.c.srv.buffers.Discard(ch.Stderr()) })
	cutDone := make(chan struct{})
	stopCut := context.AfterFunc(ctx, func() {
		defer close(cutDone)
		to.Close()
		// A write to a client that gives no window is woken by the client's closing only.
		s.c.closeChannel(ch, gone)
	})
	s.watchLimits()

	inDone := make(chan struct{})
	s.c.run(func() {
		defer close(inDone)
		s.fromClient(ch, to)
	})
	s.toClient(ch, to)
	linger := time.NewTimer(lingerAfterTarget)
	select {
	case <-inDone:
	case <-ctx.Done():
	case <-linger.C:
	}
	linger.Stop()
	s.limits()
	if !stopCut() {
		<-cutDone
	}
	to.Close()
	s.c.closeChannel(ch, gone)
	<-inDone
}

// fromClient copies from the client to the target until one of them closes, and passes the end on.
func (s *session) fromClient(ch ssh.Channel, to net.Conn) {
	err := s.c.srv.buffers.Copy(ch, func(p []byte) error {
		s.in.Add(int64(len(p)))
		s.touch()
		_, err := to.Write(p)
		return err
	})
	if err != nil {
		s.closed(endTargetClosed)
		to.Close()
		return
	}
	s.closed(s.c.lostReason())
	closeWrite(to)
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
				buf, n := (*[relay.Packet]byte)(nil), 0
				rerr := raw.Read(func(fd uintptr) bool {
					buf = pool.Get()
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
	own := make([]byte, relay.Packet)
	return func(write func([]byte) error) (int, error) {
		n, _ := from.Read(own) // an error that comes with bytes comes again, alone, with the next read
		if n == 0 {
			return 0, nil
		}
		return n, write(own[:n])
	}
}
