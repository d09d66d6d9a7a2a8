package capture

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"sallyport/radiusd/wire"
)

// request is an Access-Request of alice, without anything else.
func request(id byte) []byte {
	b := append([]byte{wire.CodeAccessRequest, id, 0, 27}, make([]byte, 16)...)
	return append(b, "\x01\x07alice"...)
}

// ipv4 and ipv6 put a datagram into a packet, from 10.1.2.3 or fd00::3.
func ipv4(t testing.TB, payload []byte, port uint16, change func(*layers.IPv4)) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4(10, 1, 2, 3), DstIP: net.IPv4(10, 0, 0, 1)}
	if change != nil {
		change(ip)
	}
	return serialize(t, ip, ip, payload, port)
}

func ipv6(t testing.TB, payload []byte) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: net.ParseIP("fd00::3"), DstIP: net.ParseIP("fd00::1")}
	return serialize(t, ip, ip, payload, 1812)
}

func serialize(t testing.TB, ip gopacket.SerializableLayer, network gopacket.NetworkLayer, payload []byte, port uint16) []byte {
	udp := &layers.UDP{SrcPort: 40000, DstPort: layers.UDPPort(port)}
	if err := udp.SetNetworkLayerForChecksum(network); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

func ethernet(kind string, ip []byte) []byte {
	head, err := hex.DecodeString("02000000000102000000000" + kind)
	if err != nil {
		panic(err)
	}
	return append(head, ip...)
}

func cooked(ip []byte) []byte {
	return append([]byte("\x00\x00\x00\x01\x00\x06abcdef\x00\x00\x08\x00"), ip...)
}

var made = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)

func pcap(t testing.TB, link layers.LinkType, frames ...[]byte) []byte {
	var out bytes.Buffer
	w := pcapgo.NewWriter(&out)
	if err := w.WriteFileHeader(65536, link); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: made, CaptureLength: len(f), Length: len(f)}, f); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func pcapng(t testing.TB, link layers.LinkType, frames ...[]byte) []byte {
	var out bytes.Buffer
	w, err := pcapgo.NewNgWriter(&out, link)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: made, CaptureLength: len(f), Length: len(f)}, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRead(t *testing.T) {
	four, six := netip.MustParseAddrPort("10.1.2.3:40000"), netip.MustParseAddrPort("[fd00::3]:40000")
	answer := append([]byte{wire.CodeAccessReject, 1, 0, 20}, make([]byte, 16)...)
	ip := ipv4(t, request(1), 1812, nil)
	digits := hex.EncodeToString(request(1))
	var colons []string
	for i := 0; i < len(digits); i += 2 {
		colons = append(colons, "0x"+strings.ToUpper(digits[i:i+2]))
	}
	for _, c := range []struct {
		name   string
		file   []byte
		format string
		from   netip.AddrPort
		ids    string // of the requests
		others int
		pieces int
	}{
		{"raw", request(1), "raw", netip.AddrPort{}, "1", 0, 0},
		{"hex", []byte(digits), "hex", netip.AddrPort{}, "1", 0, 0},
		{"hex in groups, with a remark", []byte("# from the log\n" + strings.Join(colons, ":\r\n") + "\n"), "hex", netip.AddrPort{}, "1", 0, 0},
		{"hex of two", []byte(digits + "\n\n" + hex.EncodeToString(request(2)) + "\n"), "hex", netip.AddrPort{}, "1 2", 0, 0},
		{"hex of an answer", []byte(hex.EncodeToString(answer)), "hex", netip.AddrPort{}, "", 1, 0},
		{"Ethernet", pcap(t, layers.LinkTypeEthernet, ethernet("20800", ip)), "pcap", four, "1", 0, 0},
		{"a VLAN", pcap(t, layers.LinkTypeEthernet, ethernet("2810000640800", ip)), "pcap", four, "1", 0, 0},
		{"v6", pcap(t, layers.LinkTypeEthernet, ethernet("286dd", ipv6(t, request(1)))), "pcap", six, "1", 0, 0},
		{"Linux cooked", pcap(t, layers.LinkTypeLinuxSLL, cooked(ip)), "pcap", four, "1", 0, 0},
		{"raw IP", pcap(t, layers.LinkTypeRaw, ip, ipv6(t, request(2))), "pcap", four, "1 2", 0, 0},
		{"pcapng", pcapng(t, layers.LinkTypeEthernet, ethernet("20800", ip)), "pcapng", four, "1", 0, 0},
		{"among others", pcap(t, layers.LinkTypeRaw, ipv4(t, answer, 40000, nil), ip, ipv4(t, []byte("\x01junk"), 53, nil), ipv4(t, request(7), 1645, nil)), "pcap", four, "1 7", 2, 0},
		{"malformed, on RADIUS's port", pcap(t, layers.LinkTypeRaw, ipv4(t, []byte{1, 9, 0}, 1812, nil)), "pcap", four, "9", 0, 0},
		{"in pieces", pcap(t, layers.LinkTypeRaw, ipv4(t, request(1), 1812, func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }), ip), "pcap", four, "1", 0, 1},
		{"the writer was stopped", pcap(t, layers.LinkTypeRaw, ip, ip)[:24+16+len(ip)+30], "pcap", four, "1", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Read(bytes.NewReader(c.file))
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, r := range f.Requests {
				ids = append(ids, fmt.Sprint(r.Datagram[1]))
			}
			if f.Format != c.format || strings.Join(ids, " ") != c.ids || f.Others != c.others || f.Pieces != c.pieces {
				t.Fatalf("%s %q, %d others, %d pieces", f.Format, ids, f.Others, f.Pieces)
			}
			if len(f.Requests) == 0 {
				return
			}
			if r := f.Requests[0]; r.From != c.from || c.from.IsValid() && !r.Time.Equal(made) || c.format != "pcap" && !bytes.Equal(r.Datagram, request(1)) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	for name, file := range map[string]string{
		"nothing": "", "text": "User-Name = alice\n", "half an octet": "01a\n", "remarks alone": "# nothing\n\n",
		"half a header": "\xd4\xc3\xb2\xa1\x02\x00",
	} {
		if f, err := Read(strings.NewReader(file)); err == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// FuzzRead: whatever a file holds, reading ends, and what it gives is requests.
func FuzzRead(f *testing.F) {
	ip := ipv4(f, request(1), 1812, nil)
	for _, seed := range [][]byte{
		request(1), []byte(hex.EncodeToString(request(1))), pcap(f, layers.LinkTypeEthernet, ethernet("20800", ip)), pcap(f, layers.LinkTypeRaw, ip),
		pcap(f, layers.LinkTypeLinuxSLL, cooked(ip)), pcapng(f, layers.LinkTypeEthernet, ethernet("286dd", ipv6(f, request(1)))),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := Read(bytes.NewReader(raw))
		if err != nil {
			return
		}
		for _, r := range file.Requests {
			if len(r.Datagram) == 0 || r.Datagram[0] != wire.CodeAccessRequest {
				t.Errorf("%+v", r)
			}
		}
	})
}
