package transfer

import (
	"encoding/binary"
	"slices"
)

// The packets of draft-ietf-secsh-filexfer-02 (version 3, section 3) and -13 (to version 6).
const (
	typeInit          = 1
	typeVersion       = 2
	typeOpen          = 3
	typeClose         = 4
	typeRead          = 5
	typeWrite         = 6
	typeLstat         = 7
	typeFstat         = 8
	typeSetstat       = 9
	typeFsetstat      = 10
	typeOpendir       = 11
	typeReaddir       = 12
	typeRemove        = 13
	typeMkdir         = 14
	typeRmdir         = 15
	typeRealpath      = 16
	typeStat          = 17
	typeRename        = 18
	typeReadlink      = 19
	typeSymlink       = 20
	typeLink          = 21 // version 6
	typeStatus        = 101
	typeHandle        = 102
	typeData          = 103
	typeName          = 104
	typeAttrs         = 105
	typeExtended      = 200
	typeExtendedReply = 201
)

const (
	statusOK               = 0
	statusEOF              = 1
	statusPermissionDenied = 3
	statusFailure          = 4
)

const (
	// maxPacket is OpenSSH's bound (sftp-common.h), and room for the header around 256 KiB of content.
	maxPacket = 256<<10 + 1024
	// maxMeta bounds what is held of a request until it can be judged: two paths of PATH_MAX, and attributes.
	maxMeta = 32 << 10
	// maxHandle is the longest handle (filexfer-02 section 6.3).
	maxHandle = 256
	// keepMeta is how large a buffer for metadata stays between packets.
	keepMeta = 1 << 10
)

// half is how far one direction of the stream has been read. Its owner is the goroutine that reads that direction.
type half struct {
	meta    []byte // of the packet whose metadata has not all come
	left    int    // bytes of the packet after its metadata
	data    int    // of which this many are a file's content
	into    *content
	stray   *int64 // where content is counted that belongs to no file
	drop    bool   // the packet isn't forwarded
	started bool   // its first packet has come
}

// collect takes the metadata of a packet from p, together with what earlier calls have kept. It returns nil if p ends
// before the metadata does, and how much of p it took. need says how long the metadata is, as far as what there is of
// it tells. The result is valid until the next call.
func (h *half) collect(p []byte, need func([]byte) (int, error)) (meta []byte, n int, err error) {
	if len(h.meta) == 0 {
		want, err := need(p)
		if err != nil {
			return nil, 0, err
		}
		if len(p) >= want {
			return p[:want], want, nil // without a copy
		}
		if cap(h.meta) > keepMeta {
			h.meta = nil
		}
		h.meta = append(h.meta, p...)
		return nil, len(p), nil
	}
	for {
		want, err := need(h.meta)
		if err != nil {
			return nil, n, err
		}
		if len(h.meta) >= want {
			meta, h.meta = h.meta, h.meta[:0]
			return meta, n, nil
		}
		if n == len(p) {
			return nil, n, nil
		}
		k := min(want-len(h.meta), len(p)-n)
		h.meta = append(h.meta, p[n:n+k]...)
		n += k
	}
}

// body says what follows the metadata.
func (h *half) body(meta []byte) { h.left = 4 + int(binary.BigEndian.Uint32(meta)) - len(meta) }

// content says that the first n bytes of the body are content of a file at offset.
func (h *half) content(c *content, offset uint64, n uint32) {
	h.data = int(n)
	h.into = c
	if c != nil {
		c.begin(offset, n)
	}
}

// pass takes bytes of the body from the front of p, and returns how many.
func (h *half) pass(p []byte) int {
	n := min(h.left, len(p))
	if h.data > 0 {
		k := min(h.data, n)
		if h.into != nil {
			h.into.add(p[:k])
		} else if h.stray != nil {
			*h.stray += int64(k)
		}
		h.data -= k
	}
	h.left -= n
	if h.left == 0 {
		h.data, h.into, h.stray = 0, nil, nil
	}
	return n
}

// frame reads length and type, and refuses what can't be SFTP.
func frame(b []byte, from string) (total int, typ byte, err error) {
	length := binary.BigEndian.Uint32(b)
	switch {
	case length > maxPacket:
		return 0, 0, protocolError("a packet of %d bytes from the %s, which is no SFTP: it starts with %q", length, from, b[:5])
	case length < 5: // type, and id or version
		return 0, 0, protocolError("an SFTP packet of %d bytes from the %s", length, from)
	}
	return 4 + int(length), b[4], nil
}

// requestMeta is how much of a request has to be there to judge it: all of it up to maxMeta, but not what is written.
func requestMeta(b []byte) (int, error) {
	if len(b) < 5 {
		return 5, nil
	}
	total, typ, err := frame(b, "client")
	if err != nil {
		return 0, err
	}
	if typ != typeWrite {
		return min(total, maxMeta), nil
	}
	if total < 13 {
		return 0, protocolError("a truncated SFTP packet (type %d) from the client", typ)
	}
	if len(b) < 13 {
		return 13, nil
	}
	handle := binary.BigEndian.Uint32(b[9:])
	want := 13 + int(handle) + 12 // offset, length
	if handle > maxHandle || want > total {
		return 0, protocolError("a malformed SFTP packet (type %d) from the client", typ)
	}
	return want, nil
}

// answerMeta is how much of an answer says what it means.
func answerMeta(b []byte) (int, error) {
	if len(b) < 5 {
		return 5, nil
	}
	total, typ, err := frame(b, "target")
	if err != nil {
		return 0, err
	}
	switch typ {
	case typeStatus, typeData, typeName, typeHandle:
		if total < 13 {
			return 0, protocolError("a truncated SFTP packet (type %d) from the target", typ)
		}
		if typ != typeHandle || len(b) < 13 {
			return 13, nil
		}
		handle := binary.BigEndian.Uint32(b[9:])
		want := 13 + int(handle)
		if handle > maxHandle || want > total {
			return 0, protocolError("a malformed SFTP packet (type %d) from the target", typ)
		}
		return want, nil
	case typeAttrs:
		return min(total, 22), nil // flags, type, size
	}
	return 9, nil
}

// fields reads a packet's fields in turn. After one that isn't there all are empty, and bad is set.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) u8() byte {
	if len(f.b) < 1 {
		f.bad, f.b = true, nil
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

func (f *fields) u32() uint32 {
	if len(f.b) < 4 {
		f.bad, f.b = true, nil
		return 0
	}
	v := binary.BigEndian.Uint32(f.b)
	f.b = f.b[4:]
	return v
}

func (f *fields) u64() uint64 {
	high := f.u32()
	return uint64(high)<<32 | uint64(f.u32())
}

func (f *fields) bytes() []byte {
	n := f.u32()
	if uint64(n) > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

// path reads a path, cut to what an event holds.
func (f *fields) path() string {
	b := f.bytes()
	return string(b[:min(len(b), maxPath)])
}

// statusPacket makes an SSH_FXP_STATUS of our own (filexfer-02 section 7). Before version 3 it has no sentence.
func statusPacket(version, id, code uint32, sentence string) []byte {
	b := make([]byte, 4, 32+len(sentence))
	b = append(b, typeStatus)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, code)
	if version >= 3 {
		b = appendString(appendString(b, sentence), "en")
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return slices.Clip(b)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
