package sshgw

import (
	"errors"
	"io"
	"net"
	"sync/atomic"

	"sallyport/sshgw/joined"
)

// maxStartBytes bounds what a client may send before it has logged in. x/crypto/ssh takes packets of up to 256 KiB and
// queues 16 of them, so without it a stranger could hold 4 MiB. A login with 48 key offers takes about 60 KiB.
const maxStartBytes = 256 << 10

var errStartBytes = errors.New("too many bytes before the login")

// wire is a client's connection: it bounds what is read before the login, counts what is read, and remembers how
// reading ended, which x/crypto/ssh hides from channels.
type wire struct {
	*joined.Conn
	greeted  bool // of the handshake's goroutine, and constant when others read: reads have no deadline for a hello any more
	read     atomic.Int64
	loggedIn atomic.Bool
	broken   atomic.Bool // reading ended otherwise than by the client's closing
	flooded  atomic.Bool // maxStartBytes was passed
}

func newWire(raw net.Conn) *wire { return &wire{Conn: joined.New(raw)} }

func (w *wire) Read(p []byte) (int, error) {
	if !w.loggedIn.Load() {
		left := maxStartBytes - w.read.Load()
		if left <= 0 {
			w.flooded.Store(true)
			w.broken.Store(true)
			return 0, errStartBytes
		}
		p = p[:min(int64(len(p)), left)]
	}
	n, err := w.Conn.Read(p)
	w.read.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && (w.greeted || !isLate(err)) {
		w.broken.Store(true)
	}
	return n, err
}
