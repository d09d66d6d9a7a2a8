// Package capture reads RADIUS requests that somebody has kept: a pcap or pcapng file as tcpdump and Wireshark write them, the
// bytes of one datagram, or these as hexadecimal text.
//
// It takes no packet for more than bytes: whether they are a good request, a server says.
package capture

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"sallyport/radiusd/wire"
)

const (
	// maxFile bounds what is read of a file, and maxRequests what is kept of it: a capture of a busy day is to be cut by whoever
	// made it.
	maxFile     = 64 << 20
	maxRequests = 100_000
	// maxSnap is the most that one frame may have, as with libpcap.
	maxSnap = 256 << 10
)

// Request is one that was kept.
type Request struct {
	Datagram []byte
	From, To netip.AddrPort // zero: the file does not say
	Time     time.Time      // zero: the file does not say
}

// File is what was found.
type File struct {
	Format   string    // "pcap", "pcapng", "hex" or "raw"
	Requests []Request // Access-Requests, in their order
	Others   int       // packets that are none
	Pieces   int       // of datagrams that were cut up on their way, which are not put together
}

// Read reads a file of any of the kinds.
func Read(r io.Reader) (*File, error) {
	in := bufio.NewReader(io.LimitReader(r, maxFile))
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case len(head) == 0:
		return nil, errors.New("it is empty")
	case bytes.Equal(head, []byte{0x0a, 0x0d, 0x0d, 0x0a}):
		return readPcapng(in)
	case isPcap(head):
		return readPcap(in)
	}
	raw, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	if isText(raw) {
		return readHex(string(raw))
	}
	f := &File{Format: "raw"}
	f.take(Request{Datagram: raw})
	return f, nil
}

// isPcap knows both byte orders, with times in micro- and nanoseconds.
func isPcap(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	magic := [4]byte(head)
	return slices.Contains([][4]byte{{0xd4, 0xc3, 0xb2, 0xa1}, {0xa1, 0xb2, 0xc3, 0xd4}, {0x4d, 0x3c, 0xb2, 0xa1}, {0xa1, 0xb2, 0x3c, 0x4d}}, magic)
}

// isText reports whether there is nothing but printable ASCII: a packet has its code, 1, first.
func isText(raw []byte) bool {
	for _, c := range raw {
		if (c < ' ' || c > '~') && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}

// take keeps a request, and counts what is none. The first octet is the code.
func (f *File) take(r Request) {
	if len(r.Datagram) == 0 || r.Datagram[0] != wire.CodeAccessRequest || len(f.Requests) >= maxRequests {
		f.Others++
		return
	}
	f.Requests = append(f.Requests, r)
}

// readHex reads hexadecimal digits in any grouping, with ":" or "," between them or "0x" before. Lines that begin with "#"
// are remarks, and an empty line parts two packets.
func readHex(text string) (*File, error) {
	f := &File{Format: "hex"}
	var digits strings.Builder
	flush := func() error {
		if digits.Len() == 0 {
			return nil
		}
		b, err := hex.DecodeString(digits.String())
		digits.Reset()
		if err != nil {
			return errors.New("it is text, and not of pairs of hexadecimal digits")
		}
		f.take(Request{Datagram: b})
		return nil
	}
	unwanted := strings.NewReplacer("0x", "", "0X", "", ":", "", ",", "", " ", "", "\t", "", "\r", "", "\n", "")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "":
			if err := flush(); err != nil {
				return nil, err
			}
		default:
			digits.WriteString(unwanted.Replace(line))
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if len(f.Requests)+f.Others == 0 {
		return nil, errors.New("it holds no packet")
	}
	return f, nil
}

func readPcap(in io.Reader) (*File, error) {
	r, err := pcapgo.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("pcap: %w", err)
	}
	r.SetSnaplen(maxSnap) // what the file says of it is a claim, and often wrong
	f := &File{Format: "pcap"}
	return f, f.frames(func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
		data, info, err := r.ReadPacketData()
		return data, info, r.LinkType(), err
	})
}

func readPcapng(in io.Reader) (*File, error) {
	r, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
	if err != nil {
		return nil, fmt.Errorf("pcapng: %w", err)
	}
	f := &File{Format: "pcapng"}
	return f, f.frames(func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
		data, info, err := r.ReadPacketData()
		link := r.LinkType()
		if err == nil && len(info.AncillaryData) > 0 {
			if own, ok := info.AncillaryData[0].(layers.LinkType); ok {
				link = own
			}
		}
		return data, info, link, err
	})
}

// frames takes all that next brings. A file that ends within a frame is one whose writer was stopped.
func (f *File) frames(next func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error)) error {
	for n := 1; ; n++ {
		data, info, link, err := next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil && n == 1:
			return fmt.Errorf("%s: frame %d: %w", f.Format, n, err)
		case err != nil: // what came before is good
			f.Others++
			return nil
		}
		f.frame(data, info, link)
	}
}

// frame finds the UDP datagram in a frame, under VLAN tags and whatever else gopacket knows.
func (f *File) frame(data []byte, info gopacket.CaptureInfo, link layers.LinkType) {
	first := gopacket.Decoder(link)
	switch link {
	case layers.LinkTypeRaw, layers.LinkType(12), layers.LinkType(14), layers.LinkTypeIPv4, layers.LinkTypeIPv6: // raw IP has several numbers
		first = layers.LayerTypeIPv4
		if len(data) > 0 && data[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
	}
	p := gopacket.NewPacket(data, first, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	r := Request{Time: info.Timestamp}
	for _, layer := range p.Layers() {
		switch l := layer.(type) {
		case *layers.IPv4: // the innermost counts
			r.From, r.To = addresses(l.SrcIP, l.DstIP)
			if l.Flags&layers.IPv4MoreFragments != 0 || l.FragOffset != 0 {
				f.Pieces++
				return
			}
		case *layers.IPv6:
			r.From, r.To = addresses(l.SrcIP, l.DstIP)
		case *layers.IPv6Fragment:
			f.Pieces++
			return
		case *layers.UDP:
			r.From = netip.AddrPortFrom(r.From.Addr(), uint16(l.SrcPort))
			r.To = netip.AddrPortFrom(r.To.Addr(), uint16(l.DstPort))
			r.Datagram = l.Payload
		}
	}
	if r.Datagram == nil {
		f.Others++
		return
	}
	if port := r.To.Port(); port != 1812 && port != 1645 {
		// Much has a 1 as its first octet. On RADIUS's own ports, also what is malformed is worth a look.
		if _, why := wire.Header(r.Datagram); why != wire.None {
			f.Others++
			return
		}
	}
	r.Datagram = bytes.Clone(r.Datagram)
	f.take(r)
}

func addresses(from, to []byte) (netip.AddrPort, netip.AddrPort) {
	a, _ := netip.AddrFromSlice(from)
	b, _ := netip.AddrFromSlice(to)
	return netip.AddrPortFrom(a, 0), netip.AddrPortFrom(b, 0)
}
