package sshgw

import (
	"io"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// kexInit is a client's beginning.
func kexInit(toServer, toClient string) []byte {
	payload := ssh.Marshal(&struct {
		Kind                     byte
		Cookie                   [16]byte
		Kex, Host, Cipher1, Two  string
		MAC1, MAC2, Comp1, Comp2 string
		Lang1, Lang2             string
		Follows                  bool
		Reserved                 uint32
	}{Kind: 20, Kex: "curve25519-sha256", Host: "ssh-ed25519", Cipher1: toServer, Two: toClient, MAC1: "hmac-sha2-256", MAC2: "hmac-sha2-256", Comp1: "none", Comp2: "none"})
	padded := append(append([]byte{8}, payload...), make([]byte, 8)...)
	return append([]byte{0, 0, byte(len(padded) >> 8), byte(len(padded))}, padded...)
}

func TestOfferedCiphers(t *testing.T) {
	both := "chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com"
	good := append([]byte("SSH-2.0-x\r\n"), kexInit(both, "aes128-gcm@openssh.com,aes128-ctr")...)
	for n := range good {
		if list, whole := offeredCiphers(good[:n]); list != nil || whole {
			t.Fatalf("of %d bytes: %q, %t", n, list, whole)
		}
	}
	if list, whole := offeredCiphers(append(good, "more"...)); !whole || !reflect.DeepEqual(list, []string{"aes128-ctr", "aes128-gcm@openssh.com"}) {
		t.Errorf("%q, %t", list, whole)
	}
	for i := range good { // whatever is in there, it is read to its end and no further
		bad := slices.Clone(good)
		bad[i] = 0xff
		_, _ = offeredCiphers(bad)
	}
	for _, bad := range []string{"GET / HTTP/1.1\r\n", "SSH-1.5-x\n", "SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff", "SSH-2.0-x\n\x00\x00\x00\x02\x00\x14", "SSH-2.0-x\n\x00\x00\x00\x03\x00\x15\x00"} {
		if list, whole := offeredCiphers([]byte(bad)); list != nil || !whole {
			t.Errorf("%q: %q, %t", bad, list, whole)
		}
	}
}

func FuzzOfferedCiphers(f *testing.F) {
	f.Add(append([]byte("SSH-2.0-x\r\n"), kexInit("aes128-ctr,aes128-gcm@openssh.com", "aes128-gcm@openssh.com")...))
	f.Add([]byte("SSH-2.0-x\n\x00\x00\x00\x03\x00\x14\x00"))
	f.Fuzz(func(t *testing.T, said []byte) {
		list, whole := offeredCiphers(said)
		if list != nil && !whole {
			t.Errorf("ciphers %q of a beginning that is not whole", list)
		}
		if again, _ := offeredCiphers(append(slices.Clip(said), "more"...)); whole && !slices.Equal(again, list) {
			t.Errorf("more bytes made of %q %q", list, again)
		}
	})
}

func TestSteer(t *testing.T) {
	all := SupportedCiphers()
	for _, c := range []struct{ offered, want []string }{
		{[]string{ssh.CipherAES128CTR, ssh.CipherAES256GCM, ssh.CipherAES128GCM}, []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}},
		{[]string{ssh.CipherAES128CTR, ssh.CipherAES256GCM}, []string{ssh.CipherAES256GCM}},
		{[]string{ssh.CipherAES128CTR}, all},
		{nil, all},
	} {
		if got := steer(all, c.offered); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %q, want %q", c.offered, got, c.want)
		}
	}
	if got := steer([]string{ssh.CipherAES128CTR}, all); !reflect.DeepEqual(got, []string{ssh.CipherAES128CTR}) {
		t.Errorf("a configuration without GCM: %q", got)
	}
}

// A client that sends its packet only after the gateway's is served all the same, and one that sends little at a time.
func TestGreet(t *testing.T) {
	for what, pieces := range map[string][]string{
		"nothing behind the version": {"SSH-2.0-waits\r\n"},
		"byte by byte":               splitEach("SSH-2.0-slow\r\n" + string(kexInit("aes128-gcm@openssh.com", "aes128-gcm@openssh.com"))),
		"another protocol":           {"GET / HTTP/1.1\r\n\r\n"},
	} {
		near, far := net.Pipe()
		heard := make(chan string, 1)
		go func() {
			line := make([]byte, len(serverVersion)+2)
			_, _ = io.ReadFull(far, line)
			for _, p := range pieces {
				_, _ = io.WriteString(far, p)
			}
			rest := make([]byte, 5)
			_, _ = io.ReadFull(far, rest)
			heard <- string(line) + string(rest)
		}()
		begin := time.Now()
		h, offered := greet(near, begin.Add(time.Minute))
		if known := len(offered) > 0; known != (what == "byte by byte") || time.Since(begin) > 3*helloWait {
			t.Errorf("%s: %q after %v", what, offered, time.Since(begin))
		}
		for _, p := range []string{serverVersion + "\r\n", "first"} {
			if n, err := io.WriteString(h, p); n != len(p) || err != nil {
				t.Errorf("%s: %d, %v", what, n, err)
			}
		}
		if got := <-heard; got != serverVersion+"\r\nfirst" {
			t.Errorf("%s: the client heard %q", what, got)
		}
		want := ""
		for _, p := range pieces {
			want += p
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(h, got); err != nil || string(got) != want {
			t.Errorf("%s: read %q, %v", what, got, err)
		}
		near.Close()
		far.Close()
	}
}

func splitEach(s string) (all []string) {
	for i := range len(s) {
		all = append(all, s[i:i+1])
	}
	return all
}
