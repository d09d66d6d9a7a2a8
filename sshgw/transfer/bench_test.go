package transfer

import (
	"encoding/binary"
	"testing"
)

// The packets of a transfer in steady state: OpenSSH's 32 KiB each.
const benchBlock = 32 << 10

func packet(typ byte, fields ...any) []byte {
	b := []byte{0, 0, 0, 0, typ}
	for _, f := range fields {
		switch f := f.(type) {
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, f)
		case string:
			b = appendString(b, f)
		case byte:
			b = append(b, f)
		case []byte:
			b = append(b, f...)
		default:
			panic("packet: no such field")
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// started is a watcher after INIT and VERSION.
func started(t testing.TB, rights Rights, version uint32, emit func(Event)) *SFTP {
	t.Helper()
	s := NewSFTP(rights, emit)
	must(t, s.FromClient(packet(typeInit, version), discard, discard))
	must(t, s.FromTarget(packet(typeVersion, version), discard))
	return s
}

func discard([]byte) error { return nil }

func opened(t testing.TB, flags uint32) *SFTP {
	s := started(t, both, 3, func(Event) {})
	must(t, s.FromClient(packet(typeOpen, uint32(1), "/f", flags, uint32(0)), discard, discard))
	must(t, s.FromTarget(packet(typeHandle, uint32(1), "\x00\x00\x00\x00"), discard))
	return s
}

func BenchmarkWrite(b *testing.B) {
	s := opened(b, flagWrite|flagCreate|flagTrunc)
	p := packet(typeWrite, uint32(0), "\x00\x00\x00\x00", uint64(0), string(make([]byte, benchBlock)))
	ok := packet(typeStatus, uint32(0), uint32(0), "", "")
	b.SetBytes(benchBlock)
	b.ReportAllocs()
	id, offset := uint32(1), uint64(0)
	for b.Loop() {
		id++
		binary.BigEndian.PutUint32(p[5:], id)
		binary.BigEndian.PutUint64(p[17:], offset)
		offset += benchBlock
		// A channel's packets hold 32 KiB, so that each of SFTP's is cut.
		must(b, s.FromClient(p[:100], discard, discard))
		must(b, s.FromClient(p[100:], discard, discard))
		binary.BigEndian.PutUint32(ok[5:], id)
		must(b, s.FromTarget(ok, discard))
	}
}

func BenchmarkRead(b *testing.B) {
	s := opened(b, flagRead)
	ask := packet(typeRead, uint32(0), "\x00\x00\x00\x00", uint64(0), uint32(benchBlock))
	p := packet(typeData, uint32(0), string(make([]byte, benchBlock)))
	b.SetBytes(benchBlock)
	b.ReportAllocs()
	id, offset := uint32(1), uint64(0)
	for b.Loop() {
		id++
		binary.BigEndian.PutUint32(ask[5:], id)
		binary.BigEndian.PutUint64(ask[17:], offset)
		offset += benchBlock
		must(b, s.FromClient(ask[:15], discard, discard))
		must(b, s.FromClient(ask[15:], discard, discard))
		binary.BigEndian.PutUint32(p[5:], id)
		must(b, s.FromTarget(p[:7], discard))
		must(b, s.FromTarget(p[7:], discard))
	}
}

// BenchmarkSHA256 is what the others can't be faster than.
func BenchmarkSHA256(b *testing.B) {
	var c content
	p := make([]byte, benchBlock)
	b.SetBytes(benchBlock)
	b.ReportAllocs()
	for b.Loop() {
		c.add(p)
	}
}
