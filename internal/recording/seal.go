package recording

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

const (
	magic     = "sallyport-recording"
	version   = "1"
	frameHead = 4

	maxPlain  = 1 << 20   // bytes of text in a chunk
	maxFrame  = 2 << 20   // bytes of an age file: text that does not compress, and MaxRecipients
	writeFrom = 512 << 10 // bytes of frames that are collected before they are written
)

// workspace is what sealing needs. Sessions share them: one that is quiet has none.
type workspace struct {
	zstd   *zstd.Encoder
	snappy *s2.Writer // nil until it is needed
	framed bytes.Buffer
	unit   []byte
	plain  []byte
	packed []byte
	out    bytes.Buffer
}

// workspaces holds nothing that one session could see of another: each buffer is overwritten from its start.
var workspaces = sync.Pool{New: func() any {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(maxPlain), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("recording: zstd: " + err.Error()) // the options are constants
	}
	return &workspace{zstd: z, plain: make([]byte, 0, maxPlain)}
}}

// snappyHead is what a stream in Snappy's framing format begins with.
const snappyHead = "\xff\x06\x00\x00sNaPpY"

// pack compresses a chunk's text. In a hurry it takes a third of the time, and half as much room again.
func (ws *workspace) pack(hurry bool) ([]byte, error) {
	if !hurry {
		ws.packed = ws.zstd.EncodeAll(ws.plain, ws.packed[:0])
		return ws.packed, nil
	}
	ws.framed.Reset()
	if ws.snappy == nil {
		ws.snappy = s2.NewWriter(nil, s2.WriterSnappyCompat(), s2.WriterConcurrency(1))
	}
	ws.snappy.Reset(&ws.framed)
	if err := errors.Join(ws.snappy.EncodeBuffer(ws.plain), ws.snappy.Close()); err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	return ws.framed.Bytes(), nil
}

// text is the text of one chunk as it grows.
type text struct {
	*workspace
	hurry       bool
	first, last int64 // microseconds of its events
	events      int
}

// seal seals, writes and syncs all events of raw, and tells of the chunks. With release, nothing of them waits for the
// rest of a character; with hurry, they are packed in less time.
func (w *Writer) seal(raw []byte, release, hurry bool) error {
	if err := w.checkSpace(w.opt.LowWater / 2); err != nil {
		return err
	}
	w.batch = w.batch[:0]
	err := w.sealAll(raw, release, hurry)
	if err != nil && !errors.Is(err, ErrLimit) || len(w.batch) == 0 {
		return err
	}
	if e := w.opt.sync(w.file); e != nil {
		return e
	}
	for _, c := range w.batch {
		if w.opt.Chunk != nil {
			if e := w.opt.Chunk(c); e != nil {
				return fmt.Errorf("chunk %d is not on record: %w", c.Number, e)
			}
		}
		w.summary.Chunks++
		w.addTotal(c)
	}
	return err
}

func (w *Writer) addTotal(c Chunk) {
	sum, _ := hex.DecodeString(c.SHA256) // ours
	w.total.Write(sum)
}

func newTotal() hash.Hash { return sha256.New() }

// sealAll writes the chunks, and collects what is to be told of them. On ErrLimit those before it are written.
func (w *Writer) sealAll(raw []byte, release, hurry bool) error {
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	ws.out.Reset()
	t := &text{workspace: ws, hurry: hurry}
	w.begin(t)
	var micros int64
	for len(raw) > 0 {
		var kind byte
		var data []byte
		kind, micros, data, raw = cutRaw(raw)
		ws.unit = w.encoder.event(ws.unit[:0], kind, micros, data)
		if err := w.addUnit(t, micros); err != nil {
			return err
		}
	}
	if release {
		ws.unit = w.encoder.release(ws.unit[:0], max(micros, w.encoder.last))
		if err := w.addUnit(t, max(micros, w.encoder.last)); err != nil {
			return err
		}
	}
	if t.events > 0 || w.number == 0 {
		if err := w.finish(t); err != nil {
			return err
		}
	}
	return w.flush(ws)
}

// begin writes the lines that a chunk begins with.
func (w *Writer) begin(t *text) {
	t.plain = t.plain[:0]
	if w.number == 0 {
		t.plain = append(t.plain, w.header...)
	}
	t.plain = fmt.Appendf(t.plain, "# sallyport %s %s %d %s\n", version, w.session, w.number, w.previous)
	t.events = 0
}

func (w *Writer) addUnit(t *text, micros int64) error {
	if len(t.unit) == 0 {
		return nil
	}
	if len(t.plain)+len(t.unit) > maxPlain {
		if err := w.finish(t); err != nil {
			return err
		}
		w.begin(t)
	}
	if t.events == 0 {
		t.first = micros
	}
	t.events++
	t.last = micros
	t.plain = append(t.plain, t.unit...)
	return nil
}

// finish seals a chunk's text.
func (w *Writer) finish(t *text) error {
	ws := t.workspace
	packed, err := ws.pack(t.hurry)
	if err != nil {
		return err
	}
	at := ws.out.Len()
	ws.out.Write(make([]byte, frameHead))
	if err := sealTo(&ws.out, packed, w.recipients); err != nil {
		return err
	}
	frame := ws.out.Bytes()[at:]
	sealed := frame[frameHead:]
	if w.opt.MaxBytes > 0 && w.offset+int64(ws.out.Len())+frameHead > w.opt.MaxBytes {
		ws.out.Truncate(at)
		if err := w.flush(ws); err != nil {
			return err
		}
		return ErrLimit
	}
	binary.BigEndian.PutUint32(frame, uint32(len(sealed)))
	sum := sha256.Sum256(sealed)
	when := func(micros int64) time.Time { return w.started.Add(time.Duration(micros) * time.Microsecond) }
	c := Chunk{
		Number: w.number, Offset: w.offset + int64(at) + frameHead, Length: int64(len(sealed)), SHA256: hex.EncodeToString(sum[:]),
		First: when(t.first), Last: when(t.last),
	}
	w.batch = append(w.batch, c)
	w.number++
	w.previous = c.SHA256
	w.header = nil
	if ws.out.Len() >= writeFrom {
		return w.flush(ws)
	}
	return nil
}

// flush writes what is collected. A frame that does not go in whole is taken back.
func (w *Writer) flush(ws *workspace) error {
	if ws.out.Len() == 0 {
		return nil
	}
	n, err := w.file.Write(ws.out.Bytes())
	if err != nil {
		_ = w.file.Truncate(w.offset) // err says enough
		return err
	}
	w.offset += int64(n)
	ws.out.Reset()
	return nil
}

func sealTo(out *bytes.Buffer, plain []byte, recipients []age.Recipient) error {
	in, err := age.Encrypt(out, recipients...)
	if err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	if _, err := in.Write(plain); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	if err := in.Close(); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	return nil
}
