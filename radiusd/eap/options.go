package eap

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
)

// Method is an EAP method, or PAP within EAP-TTLS.
type Method string

// The methods.
const (
	PEAP     Method = "peap"
	TTLS     Method = "ttls"
	GTC      Method = "gtc"
	MSCHAPv2 Method = "mschapv2"
	PAP      Method = "pap"
)

// number is the method's EAP type; 0 for PAP, which is none.
func (m Method) number() byte {
	switch m {
	case PEAP:
		return typePEAP
	case TTLS:
		return typeTTLS
	case GTC:
		return typeGTC
	case MSCHAPv2:
		return typeMSCHAPv2
	default:
		return 0
	}
}

func (m Method) tunnels() bool { return m == PEAP || m == TTLS }

// Options are what a Server offers.
type Options struct {
	// Methods in the order of offering: PEAP, TTLS, and with ExposeCodesWithoutTunnel GTC and MSCHAPv2.
	Methods []Method
	// Inner methods in the order of offering: GTC, MSCHAPv2, PAP. None means these three. PAP is within TTLS only, and
	// there the peer begins with it, unasked.
	Inner []Method
	// ExposeCodesWithoutTunnel permits GTC and MSCHAPv2 among Methods. Whoever hears such a conversation has the code
	// (GTC), or finds it in a blink (MSCHAPv2 over six digits), and can use it before its owner does.
	ExposeCodesWithoutTunnel bool

	// GetCertificate gives the server's certificate to each handshake, so that it can be renewed while the server
	// runs. It is needed for tunnels, and called by many conversations together.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// NoTLS13 keeps to TLS 1.2, for peers whose TLS 1.3 follows a draft of RFC 9427.
	NoTLS13 bool
	// Fragment is how many octets of TLS go into a packet, 128 to 3000. 0 means 1000.
	Fragment int
	// Prompt is EAP-GTC's first question. Empty means "Password: ".
	Prompt string
}

// Server begins conversations. It does not change and may be used by many goroutines.
type Server struct {
	methods, inner []Method
	pap            bool
	tls            *tls.Config
	fragment       int
	prompt         string
}

// NewServer checks the options.
func NewServer(o Options) (*Server, error) {
	s := &Server{methods: slices.Clone(o.Methods), fragment: o.Fragment, prompt: o.Prompt}
	if len(s.methods) == 0 {
		return nil, errors.New("eap: no methods")
	}
	tunnel, peap := false, false
	for i, m := range s.methods {
		switch {
		case slices.Contains(s.methods[:i], m):
			return nil, fmt.Errorf("eap: method %q twice", m)
		case m.tunnels():
			tunnel, peap = true, peap || m == PEAP
		case m != GTC && m != MSCHAPv2:
			return nil, fmt.Errorf("eap: %q is not a method", m)
		case !o.ExposeCodesWithoutTunnel:
			return nil, fmt.Errorf("eap: method %q without a tunnel exposes codes, and that is not permitted", m)
		}
	}
	inner := o.Inner
	if len(inner) == 0 {
		inner = []Method{GTC, MSCHAPv2, PAP}
	}
	for i, m := range inner {
		switch {
		case slices.Contains(inner[:i], m):
			return nil, fmt.Errorf("eap: inner method %q twice", m)
		case m == PAP:
			s.pap = true
		case m == GTC || m == MSCHAPv2:
			s.inner = append(s.inner, m)
		default:
			return nil, fmt.Errorf("eap: %q is not an inner method", m)
		}
	}
	if peap && len(s.inner) == 0 {
		return nil, errors.New("eap: PEAP has no inner method beside PAP, which it cannot carry")
	}
	if tunnel {
		if o.GetCertificate == nil {
			return nil, errors.New("eap: no certificate for the tunnel")
		}
		s.tls = tlsConfig(o)
	}
	if s.fragment == 0 {
		s.fragment = defaultFragment
	}
	if s.fragment < minFragment || s.fragment > maxFragment {
		return nil, fmt.Errorf("eap: fragments of %d octets are not within %d and %d", s.fragment, minFragment, maxFragment)
	}
	if s.prompt == "" {
		s.prompt = defaultPrompt
	}
	return s, nil
}

func tlsConfig(o Options) *tls.Config {
	c := &tls.Config{
		GetCertificate: o.GetCertificate,
		MinVersion:     tls.VersionTLS12,
		MaxVersion:     tls.VersionTLS13,
		ClientAuth:     tls.NoClientCert,
		// A resumed session would skip the inner proof.
		SessionTicketsDisabled: true,
		Renegotiation:          tls.RenegotiateNever,
	}
	if o.NoTLS13 {
		c.MaxVersion = tls.VersionTLS12
	}
	return c
}
