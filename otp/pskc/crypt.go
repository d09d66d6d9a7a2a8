package pskc

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// MaxIterations bounds the work that a file may ask for: at ten million, PBKDF2 takes some seconds. OWASP advises 1,300,000
// for its SHA-1.
const MaxIterations = 10_000_000

// maxSalt bounds the salt of PBKDF2, in bytes.
const maxSalt = 1024

// mode is how a cipher is used, and so what protects its text from being altered.
type mode int

const (
	cbc  mode = iota + 1 // needs a MAC beside it
	gcm                  // is authenticated
	wrap                 // holds a check value
)

type method struct {
	mode mode
	key  int // bytes
}

// methods are the algorithms that are read, by their URI (RFC 6030 section 6.1.1; XML Encryption 1.1 section 5).
var methods = map[string]method{
	"http://www.w3.org/2001/04/xmlenc#aes128-cbc":    {cbc, 16},
	"http://www.w3.org/2001/04/xmlenc#aes192-cbc":    {cbc, 24},
	"http://www.w3.org/2001/04/xmlenc#aes256-cbc":    {cbc, 32},
	"http://www.w3.org/2001/04/xmlenc#kw-aes128":     {wrap, 16},
	"http://www.w3.org/2001/04/xmlenc#kw-aes192":     {wrap, 24},
	"http://www.w3.org/2001/04/xmlenc#kw-aes256":     {wrap, 32},
	"http://www.w3.org/2009/xmlenc11#kw-aes-128-pad": {wrap, 16},
	"http://www.w3.org/2009/xmlenc11#kw-aes-192-pad": {wrap, 24},
	"http://www.w3.org/2009/xmlenc11#kw-aes-256-pad": {wrap, 32},
	"http://www.w3.org/2009/xmlenc11#aes128-gcm":     {gcm, 16},
	"http://www.w3.org/2009/xmlenc11#aes192-gcm":     {gcm, 24},
	"http://www.w3.org/2009/xmlenc11#aes256-gcm":     {gcm, 32},
}

// macs are the MACs, and the pseudorandom functions of PBKDF2, by the part of their URI behind the '#': the same ones are found
// under two namespaces.
var macs = map[string]func() hash.Hash{
	"hmac-sha1":   sha1.New,
	"hmac-sha224": sha256.New224,
	"hmac-sha256": sha256.New,
	"hmac-sha384": sha512.New384,
	"hmac-sha512": sha512.New,
}

func macOf(uri string) (func() hash.Hash, bool) {
	_, name, found := strings.Cut(uri, "#")
	if !found {
		return nil, false
	}
	h, ok := macs[name]
	return h, ok
}

// The ways in which something does not open.
var (
	errOpen = errors.New("it does not open with this key")
	errMAC  = errors.New("the ValueMAC does not match: the value was altered, or the key is another one")
)

// lock is how a file is encrypted, and the key to it.
type lock struct {
	given Key

	encrypted bool // there is an EncryptionKey
	derived   bool // from a password
	salt      []byte
	rounds    int
	length    int // of the derived key; 0: what the method needs
	prf       func() hash.Hash
	cached    map[int][]byte // derived keys by length

	mac    func() hash.Hash // nil: there is no MACMethod
	macKey *node            // nil: the encryption key serves
	opened []byte           // the MAC key, once opened
}

// problem is what is wrong with the whole file.
type problem struct {
	what, hint string
	line       int // 0: where the reading stands
}

func (p *problem) Error() string { return p.what }

func wrong(hint, format string, args ...any) error {
	return &problem{what: fmt.Sprintf(format, args...), hint: hint}
}

// readKey takes an EncryptionKey.
func (l *lock) readKey(n *node) error {
	if l.encrypted {
		return wrong("", "there are two EncryptionKey elements")
	}
	l.encrypted = true
	if n.find("X509Data") != nil || n.find("KeyValue") != nil {
		return wrong("ask the maker for a file with a pre-shared key or a password", "it is encrypted to a certificate or public key, which is not supported")
	}
	d := n.find("DerivedKey")
	if d == nil {
		return nil
	}
	l.derived = true
	m := d.find("KeyDerivationMethod")
	if uri := m.attr("Algorithm"); !strings.HasSuffix(uri, "#pbkdf2") {
		return wrong("PBKDF2 is what RFC 6030 section 6.2 names", "the key is derived by %s, which is not supported", quoted(uri))
	}
	params := m.find("PBKDF2-params")
	var err error
	if l.salt, err = decode64(params.find("Salt", "Specified").value()); err != nil || len(l.salt) == 0 || len(l.salt) > maxSalt {
		return wrong("", "the salt of PBKDF2 is missing or not base64 of at most %d bytes", maxSalt)
	}
	if l.rounds, err = strconv.Atoi(params.find("IterationCount").value()); err != nil || l.rounds < 1 || l.rounds > MaxIterations {
		return wrong("no maker asks for more", "PBKDF2 is asked for %s iterations: want 1 to %d", quoted(params.find("IterationCount").value()), MaxIterations)
	}
	if text := params.find("KeyLength").value(); text != "" {
		if l.length, err = strconv.Atoi(text); err != nil || l.length != 16 && l.length != 24 && l.length != 32 {
			return wrong("", "PBKDF2 is asked for a key of %s bytes: want 16, 24 or 32", quoted(text))
		}
	}
	l.prf = sha1.New // the default of PKCS #5
	// The attribute is right; python-pskc writes the URI as text.
	if uri := cmp.Or(params.find("PRF").attr("Algorithm"), params.find("PRF").value()); uri != "" {
		var ok bool
		if l.prf, ok = macOf(uri); !ok {
			return wrong("HMAC with SHA-1 or SHA-2", "PBKDF2 is asked for the function %s, which is not supported", quoted(uri))
		}
	}
	return nil
}

// readMAC takes a MACMethod.
func (l *lock) readMAC(n *node) error {
	if l.mac != nil {
		return wrong("", "there are two MACMethod elements")
	}
	if n.attr("Algorithm") == "" {
		return nil // as python-pskc writes beside key wrap; where a MAC is needed, open finds that there is none
	}
	var ok bool
	if l.mac, ok = macOf(n.attr("Algorithm")); !ok {
		return wrong("HMAC with SHA-1 or SHA-2", "values are protected by %s, which is not supported", quoted(n.attr("Algorithm")))
	}
	if k := n.find("MACKey"); k != nil {
		l.macKey = k
	} else if n.find("MACKeyReference") != nil {
		return wrong("", "the MAC key is a reference to another key, which is not supported")
	}
	return nil
}

// check says whether what was given fits what the file needs.
func (l *lock) check() error {
	given := len(l.given.Preshared) > 0 || l.given.Password != ""
	switch {
	case !l.encrypted && !given:
		return nil
	case !l.encrypted && l.given.Password != "":
		return wrong("give a password only for a file that was encrypted with one", "a password was given, and the file is not encrypted with one")
	case l.derived && l.given.Password == "":
		return wrong("the maker sends the password apart from the file: --password-stdin", "the file is encrypted with a password")
	case l.encrypted && !l.derived && len(l.given.Preshared) == 0:
		return wrong("the maker sends the key apart from the file: --key-file", "the file is encrypted with a pre-shared key")
	}
	return nil
}

// key is the encryption key of so many bytes.
func (l *lock) key(size int) ([]byte, error) {
	if !l.derived {
		if have := len(l.given.Preshared); have == 0 {
			return nil, wrong("the maker sends the key apart from the file: --key-file", "the file holds encrypted values")
		} else if have != size {
			return nil, wrong("is it the key to this file?", "the key has %d bytes, and the file needs one of %d", have, size)
		}
		return l.given.Preshared, nil
	}
	if l.length != 0 && l.length != size {
		return nil, wrong("", "PBKDF2 makes a key of %d bytes, and the file needs one of %d", l.length, size)
	}
	if k := l.cached[size]; k != nil {
		return k, nil
	}
	k, err := pbkdf2.Key(l.prf, l.given.Password, l.salt, l.rounds, size)
	if err != nil {
		return nil, fmt.Errorf("PBKDF2: %w", err)
	}
	if l.cached == nil {
		l.cached = make(map[int][]byte, 3)
	}
	l.cached[size] = k
	return k, nil
}

// open decrypts an EncryptedValue. Its MAC, in base64, is checked first; where there is none, the method must protect the value itself.
func (l *lock) open(value *node, mac string) ([]byte, error) {
	text, m, uri, err := cipherOf(value)
	if err != nil {
		return nil, err
	}
	key, err := l.key(m.key)
	if err != nil {
		return nil, err
	}
	switch {
	case mac != "" && l.mac == nil:
		return nil, errors.New("there is a ValueMAC, and no MACMethod that says how it is made")
	case mac == "" && (m.mode == cbc || l.mac != nil):
		return nil, fmt.Errorf("there is no ValueMAC, and with %s nothing else shows whether the value was altered", uri)
	case mac != "":
		want, err := decode64(mac)
		if err != nil {
			return nil, errors.New("the ValueMAC is not base64")
		}
		macKey, err := l.keyOfMAC(key)
		if err != nil {
			return nil, err
		}
		h := hmac.New(l.mac, macKey)
		h.Write(text)
		if !hmac.Equal(h.Sum(nil), want) {
			return nil, errMAC
		}
	}
	return decrypt(m.mode, key, text)
}

// keyOfMAC opens the MACKey, or gives the encryption key where there is none (RFC 6030 section 6.1.1).
func (l *lock) keyOfMAC(key []byte) ([]byte, error) {
	if l.macKey == nil {
		return key, nil
	}
	if l.opened != nil {
		return l.opened, nil
	}
	text, m, _, err := cipherOf(l.macKey)
	if err != nil {
		return nil, wrong("", "MACKey: %v", err)
	}
	if key, err = l.key(m.key); err != nil {
		return nil, err
	}
	opened, err := decrypt(m.mode, key, text)
	if err != nil || len(opened) == 0 {
		what := "pre-shared key"
		if l.derived {
			what = "password"
		}
		return nil, wrong("the maker sends it apart from the file; a file of another delivery has another one", "the %s is not the one to this file", what)
	}
	l.opened = opened
	return opened, nil
}

// cipherOf finds the parts of an EncryptedValue or MACKey.
func cipherOf(n *node) (text []byte, m method, uri string, err error) {
	uri = n.find("EncryptionMethod").attr("Algorithm")
	m, known := methods[uri]
	if !known {
		return nil, m, uri, fmt.Errorf("it is encrypted by %s, which is not supported (AES in CBC, GCM or key wrap is)", quoted(uri))
	}
	if text, err = decode64(n.find("CipherData", "CipherValue").value()); err != nil || len(text) == 0 {
		return nil, m, uri, errors.New("the CipherValue is missing or not base64")
	}
	return text, m, uri, nil
}

func decrypt(how mode, key, text []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	switch how {
	case wrap:
		return unwrap(block, text)
	case gcm:
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		if len(text) < aead.NonceSize() {
			return nil, errOpen
		}
		plain, err := aead.Open(nil, text[:aead.NonceSize()], text[aead.NonceSize():], nil)
		if err != nil {
			return nil, errOpen
		}
		return plain, nil
	}
	if len(text) < 2*aes.BlockSize || len(text)%aes.BlockSize != 0 {
		return nil, errOpen
	}
	plain := make([]byte, len(text)-aes.BlockSize)
	cipher.NewCBCDecrypter(block, text[:aes.BlockSize]).CryptBlocks(plain, text[aes.BlockSize:])
	pad := int(plain[len(plain)-1]) // the other bytes of the padding may be anything (XML Encryption section 5.2)
	if pad < 1 || pad > aes.BlockSize {
		return nil, errOpen
	}
	return plain[:len(plain)-pad], nil
}

// The check values of key wrap: RFC 3394 section 2.2.3.1, RFC 5649 section 3.
var (
	wrapCheck    = []byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}
	wrapPadCheck = []byte{0xa6, 0x59, 0x59, 0xa6}
)

// unwrap is RFC 3394, and RFC 5649 where the check value says so: tools write either under either name.
func unwrap(block cipher.Block, text []byte) ([]byte, error) {
	if len(text)%8 != 0 || len(text) < 16 {
		return nil, errOpen
	}
	n := len(text)/8 - 1
	a, r := make([]byte, 8), bytes.Clone(text[8:])
	copy(a, text)
	var b [16]byte
	if n == 1 {
		block.Decrypt(b[:], text)
		copy(a, b[:8])
		copy(r, b[8:])
	} else {
		for j := 5; j >= 0; j-- {
			for i := n; i >= 1; i-- {
				binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(a)^uint64(n*j+i))
				copy(b[8:], r[(i-1)*8:i*8])
				block.Decrypt(b[:], b[:])
				copy(a, b[:8])
				copy(r[(i-1)*8:], b[8:])
			}
		}
	}
	if n > 1 && bytes.Equal(a, wrapCheck) {
		return r, nil
	}
	size := int64(binary.BigEndian.Uint32(a[4:]))
	if !bytes.Equal(a[:4], wrapPadCheck) || size <= int64(len(r)-8) || size > int64(len(r)) || len(bytes.Trim(r[size:], "\x00")) > 0 {
		return nil, errOpen
	}
	return r[:size], nil
}

// decode64 reads base64 as XML has it, with white space anywhere.
func decode64(text string) ([]byte, error) {
	if strings.ContainsAny(text, " \t\r\n") {
		text = strings.Join(strings.Fields(text), "")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("not base64") // the decoder's own words tell where, and no more
	}
	return b, nil
}

// quoted shows the name of an algorithm, or a number, which are no secrets, harmless and short.
func quoted(s string) string {
	if s == "" {
		return "nothing that is named"
	}
	if len(s) > 100 {
		s = s[:100] + "..."
	}
	return strconv.QuoteToASCII(s)
}
