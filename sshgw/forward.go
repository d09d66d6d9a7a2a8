package sshgw

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

// forward answers a client that forwards a port to a target (ssh -L, -D, -W), from its own connection: the gateway connects
// to the target's address.
func (c *conn) forward(nc ssh.NewChannel, t *Target, dst directTCPIP) {
	s, sentence := c.permitForward(c.grant, t, unknownAccount, dst)
	if s == nil {
		if sentence != "" {
			_ = nc.Reject(ssh.Prohibited, sentence)
		}
		return
	}
	host, _, _ := net.SplitHostPort(t.Address) // the table has checked it
	address := net.JoinHostPort(host, strconv.FormatUint(uint64(dst.Port), 10))
	s.splice(nc, func(ctx context.Context) (net.Conn, error) { return c.dialThrough(ctx, t, address) },
		login.Detail{Key: "recorded", Value: "no, end to end"}, login.Detail{Key: "forwarded_to", Value: address})
}

// permitForward asks the Gate whether a port may be forwarded. When it returns no session, the sentence is for the client;
// empty: the connection is ending.
func (c *conn) permitForward(by login.Grant, t *Target, account string, dst directTCPIP) (*session, string) {
	destination := spell(dst.Host, dst.Port)
	a := c.attemptAt(t, account, login.MayForward)
	a.Detail = []login.Detail{{Key: "request", Value: "forward"}, {Key: "destination", Value: destination}}
	grant, v, _ := c.access("forward", by, a)
	switch v {
	case over:
		return nil, ""
	case stopped:
		return nil, "The gateway is stopping."
	case refused:
		return nil, sayRefused(destination)
	}
	if grant.Record {
		if !c.refuseGranted("forward", grant, a, login.ReasonRecording) {
			return nil, ""
		}
		return nil, t.Name + " is reached only with a recording, and a forwarded port cannot be recorded."
	}
	return &session{c: c, target: t, grant: grant, attempt: a, started: time.Now(), kind: "forward"}, ""
}

// forward answers what a client opens on a connection to one target besides sessions: ports at the target, seen from there.
func (l *link) forward(nc ssh.NewChannel) {
	c := l.c
	var dst directTCPIP
	if err := ssh.Unmarshal(nc.ExtraData(), &dst); err != nil {
		c.reject(nc, "direct-tcpip", login.ReasonNoTarget, ssh.ConnectionFailed, "A malformed channel opening.")
		return
	}
	t, known := l.target()
	host, isHere := hereAt(t, dst.Host)
	if routes := c.srv.settings.Load().routes; !known || !isHere || !t.Serves(dst.Port) || routes.IsSSH(t, dst.Port) {
		a := c.attemptAt(t, l.accountAt(t), login.MayForward)
		a.Detail = []login.Detail{{Key: "destination", Value: spell(dst.Host, dst.Port)}}
		if c.recordRefusal("forward", login.ReasonNoTarget, a) {
			_ = nc.Reject(ssh.Prohibited, sayRefused(spell(dst.Host, dst.Port)))
		}
		return
	}
	s, sentence := c.permitForward(l.by(), t, l.accountAt(t), dst)
	if s == nil {
		if sentence != "" {
			_ = nc.Reject(ssh.Prohibited, sentence)
		}
		return
	}
	dst.Host = host
	s.splice(nc, func(ctx context.Context) (net.Conn, error) { return l.dialAt(ctx, s, dst) },
		login.Detail{Key: "recorded", Value: "no, end to end"}, login.Detail{Key: "forwarded_to", Value: spell(dst.Host, dst.Port) + " at the target"})
}

// hereAt tells whether a client means the target itself, and what that is called there.
func hereAt(t *Target, host string) (string, bool) {
	own, _, _ := net.SplitHostPort(t.Address)
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost") {
		return host, true
	}
	if strings.EqualFold(host, t.Name) || strings.EqualFold(host, own) {
		return own, own != ""
	}
	return "", false
}

// dialAt connects to a port as seen from the target.
func (l *link) dialAt(ctx context.Context, s *session, dst directTCPIP) (net.Conn, error) {
	up, err := l.up.get(ctx, l, s, nil)
	if err != nil {
		return nil, err
	}
	ch, requests, err := openChannel(ctx, up, "direct-tcpip", ssh.Marshal(&dst))
	if err != nil {
		l.up.release(up)
		return nil, errors.New("the target did not connect to the port")
	}
	l.c.run(func() { ssh.DiscardRequests(requests) })
	l.c.run(func() { l.c.srv.buffers.Discard(ch.Stderr()) })
	return hopConn{
		Conn:      channelConn{Channel: ch, local: l.ssh.LocalAddr(), remote: l.ssh.RemoteAddr()},
		closeHops: sync.OnceFunc(func() { l.up.release(up) }),
	}, nil
}

// dialTarget connects to a target's SSH port.
func (c *conn) dialTarget(ctx context.Context, t *Target) (net.Conn, error) {
	return c.dialThrough(ctx, t, t.Address)
}

// dialThrough connects to an address by the way that leads to a target.
func (c *conn) dialThrough(ctx context.Context, t *Target, address string) (net.Conn, error) {
	var hops []io.Closer
	closeHops := func() {
		for _, h := range slices.Backward(hops) {
			h.Close()
		}
	}
	dial, err := c.hop(ctx, t, &hops, 0)
	if err != nil {
		closeHops()
		return nil, err
	}
	to, err := dial(ctx, "tcp", address)
	if err != nil {
		closeHops()
		return nil, err
	}
	if len(hops) == 0 {
		return to, nil
	}
	return hopConn{Conn: to, closeHops: closeHops}, nil
}

// hopConn is a connection that leads through other targets, which are left with it.
type hopConn struct {
	net.Conn
	closeHops func()
}

func (h hopConn) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return h.Conn.Close()
}

func (h hopConn) Close() error {
	err := h.Conn.Close()
	h.closeHops()
	return err
}
