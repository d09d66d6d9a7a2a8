package outbound

import (
	"crypto/rsa"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The words that stand for more than themselves.
const (
	wordModern   = "modern"
	wordLegacy   = "legacy"
	wordSmallRSA = "small-rsa" // RSA host keys down to leastSmall bits
)

// The least sizes of an RSA host key, in bits.
const (
	leastRSA   = 2048 // NIST SP 800-131A
	leastSmall = 768  // what old switches made by themselves
)

// The kinds of algorithm that are negotiated (RFC 4253 section 7.1).
const (
	kindKeyExchange = iota
	kindHostKey
	kindCipher
	kindMAC
	kinds
)

var kindNames = [kinds]string{"key exchange", "host key", "cipher", "MAC"}

// lists are names by kind, in the order of preference.
type lists [kinds][]string

// modern holds no SHA-1, no CBC and no MAC that is computed over the plaintext's packet without being SHA-2. GCM is first
// because it costs the least here.
func modern() lists {
	return lists{
		kindKeyExchange: {
			ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519,
			ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
			ssh.KeyExchangeDH16SHA512, ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDHGEXSHA256,
		},
		kindHostKey: {
			ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
		},
		kindCipher: {
			ssh.CipherAES128GCM, ssh.CipherAES256GCM,
			ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR, ssh.CipherChaCha20Poly1305,
		},
		kindMAC: {ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512},
	}
}

// DSA's names. Their constants are deprecated, as are the keys, which old kit has all the same.
const (
	keyDSA  = "ssh-dss"
	certDSA = "ssh-dss-cert-v01@openssh.com"
)

// old is what legacy adds. There is no RC4 (RFC 8758): 3des-cbc is required of every server (RFC 4253 section 6.3).
func old() lists {
	return lists{
		kindKeyExchange: {ssh.InsecureKeyExchangeDHGEXSHA1, ssh.InsecureKeyExchangeDH14SHA1, ssh.InsecureKeyExchangeDH1SHA1},
		kindHostKey:     {ssh.KeyAlgoRSA, keyDSA},
		kindCipher:      {ssh.InsecureCipherAES128CBC, ssh.InsecureCipherTripleDESCBC},
		kindMAC:         {ssh.HMACSHA1, ssh.InsecureHMACSHA196},
	}
}

// curve25519's first name, which golang.org/x/crypto/ssh offers beside the standard's.
const curve25519LibSSH = "curve25519-sha256@libssh.org"

// Algorithms are what may be negotiated with a target. The zero value is modern.
type Algorithms struct {
	lists lists
	least int // bits of an RSA host key
}

// ParseAlgorithms reads a target's `algorithms`: one of the words modern and legacy, or a list of names. In a list,
// modern stands for its names, and small-rsa permits RSA host keys from 768 bits. Of a kind of which the list names
// nothing, modern's names are taken.
func ParseAlgorithms(words []string) (Algorithms, error) {
	a := Algorithms{least: leastRSA}
	m, o := modern(), old()
	if slices.Equal(words, []string{wordLegacy}) {
		for k := range kinds {
			a.lists[k] = slices.Concat(m[k], o[k])
		}
		a.least = leastSmall
		return a, nil
	}
	var unknown []string
	withModern := false
	for _, word := range words {
		switch {
		case word == wordModern:
			withModern = true
		case word == wordSmallRSA:
			a.least = leastSmall
		case word == curve25519LibSSH:
			a.add(kindKeyExchange, ssh.KeyExchangeCurve25519)
		default:
			k := slices.IndexFunc(kindsOf(), func(k int) bool { return slices.Contains(m[k], word) || slices.Contains(o[k], word) })
			if k < 0 {
				unknown = append(unknown, word)
				continue
			}
			a.add(k, word)
		}
	}
	if len(unknown) > 0 {
		return Algorithms{}, fmt.Errorf("algorithms %s: not known here; want %s or %s alone, or some of %s",
			quoted(unknown), wordModern, wordLegacy, strings.Join(allWords(), ", "))
	}
	for k := range kinds {
		if withModern || len(a.lists[k]) == 0 {
			own := a.lists[k]
			a.lists[k] = m[k]
			for _, name := range own {
				a.add(k, name)
			}
		}
	}
	return a, nil
}

func (a *Algorithms) add(kind int, name string) {
	if !slices.Contains(a.lists[kind], name) {
		a.lists[kind] = append(a.lists[kind], name)
	}
}

func kindsOf() []int { return []int{kindKeyExchange, kindHostKey, kindCipher, kindMAC} }

// allWords lists every word of a list.
func allWords() []string {
	all := []string{wordModern, wordSmallRSA}
	m, o := modern(), old()
	for k := range kinds {
		all = append(append(all, m[k]...), o[k]...)
	}
	return all
}

// filled makes modern of the zero value: golang.org/x/crypto/ssh would make its own defaults of empty lists, and they
// hold SHA-1.
func (a Algorithms) filled() Algorithms {
	if a.least == 0 {
		return Algorithms{lists: modern(), least: leastRSA}
	}
	return a
}

// Legacy reports whether something may be negotiated that modern would not.
func (a Algorithms) Legacy() bool {
	a = a.filled()
	for k, names := range old() {
		if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(a.lists[k], name) }) {
			return true
		}
	}
	return a.least < leastRSA
}

// String is how `target list` shows them.
func (a Algorithms) String() string {
	a = a.filled()
	m, o := modern(), old()
	all := true
	var added []string
	for k := range kinds {
		for _, name := range o[k] {
			if slices.Contains(a.lists[k], name) {
				added = append(added, name)
			}
		}
		all = all && len(a.lists[k]) == len(m[k])+len(o[k])
	}
	if a.least < leastRSA {
		added = append(added, wordSmallRSA)
	}
	switch {
	case all && a.least < leastRSA:
		return wordLegacy
	case len(added) > 0:
		return "list with " + strings.Join(added, ", ")
	case slices.EqualFunc(a.lists[:], m[:], slices.Equal):
		return wordModern
	default:
		return "list"
	}
}

// LegacyOf names what of a negotiated set modern would not have agreed to, for the record. A small RSA key is named by
// its size: rsa-1024.
func LegacyOf(n ssh.NegotiatedAlgorithms, key ssh.PublicKey) []string {
	o := old()
	var all []string
	for _, x := range []struct {
		kind int
		name string
	}{
		{kindKeyExchange, n.KeyExchange},
		{kindHostKey, n.HostKey},
		{kindCipher, n.Write.Cipher},
		{kindCipher, n.Read.Cipher},
		{kindMAC, n.Write.MAC},
		{kindMAC, n.Read.MAC},
	} {
		if slices.Contains(o[x.kind], x.name) && !slices.Contains(all, x.name) {
			all = append(all, x.name)
		}
	}
	if bits := rsaBits(key); bits > 0 && bits < leastRSA {
		all = append(all, "rsa-"+strconv.Itoa(bits))
	}
	return all
}

// rsaBits is the size of an RSA key; 0 for others.
func rsaBits(key ssh.PublicKey) int {
	crypto, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return 0
	}
	if pub, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); ok {
		return pub.N.BitLen()
	}
	return 0
}

// signatures are the algorithms that an RSA key of ours may sign with.
func (a Algorithms) signatures() []string {
	names := []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	if slices.Contains(a.lists[kindHostKey], ssh.KeyAlgoRSA) {
		names = append(names, ssh.KeyAlgoRSA)
	}
	return names
}

// signer keeps a key of ours from signing with SHA-1 where the target may not have that, and tells whether the key may be
// shown at all.
func (a Algorithms) signer(s ssh.Signer) (ssh.Signer, bool) {
	switch s.PublicKey().Type() {
	case ssh.KeyAlgoRSA, ssh.CertAlgoRSAv01:
		with, ok := s.(ssh.AlgorithmSigner)
		if !ok {
			return nil, false
		}
		limited, err := ssh.NewSignerWithAlgorithms(with, a.signatures())
		return limited, err == nil
	case keyDSA, certDSA:
		return s, slices.Contains(a.lists[kindHostKey], keyDSA)
	default:
		return s, true
	}
}

func quoted(words []string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = strconv.Quote(clip(w))
	}
	return strings.Join(all, ", ")
}

// maxSaid bounds, in bytes, what is repeated of one text of a target or a configuration.
const maxSaid = 80

func clip(s string) string {
	if len(s) > maxSaid {
		return s[:maxSaid] + "..."
	}
	return s
}
