package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"

	"sallyport/internal/config"
	"sallyport/internal/login"
	"sallyport/radiusd"
	"sallyport/radiusd/attr"
	"sallyport/radiusd/eap"
)

// This file turns what the configuration says of RADIUS into what its server wants.

func radiusConfig(cfg *config.Config, log *slog.Logger) (*radiusd.Config, error) {
	rc := &radiusd.Config{
		Replies: make(map[string]*attr.Reply), ChallengeFor: cfg.Login.ChallengeFor, Realms: cfg.Login.Realms,
		Evidence: cfg.Login.RADIUS != nil,
	}
	for _, r := range cfg.Rules {
		reply, problems := replyOf(r)
		if len(problems) > 0 {
			return nil, problems
		}
		rc.Replies[r.Policy.Name] = reply
	}
	for _, c := range cfg.RADIUS.Clients {
		client := radiusd.Client{
			Name: c.Name, Prefix: c.Prefix, Secret: c.Secret.Bytes(), Mode: radiusd.Mode(c.Mode), Class: classOf(c.Class), Tags: c.Tags,
			RequireMessageAuthenticator: c.RequireMessageAuthenticator, LimitProxyState: c.LimitProxyState,
			StatusServer: c.StatusServer, Prompt: c.Prompt, NoEcho: c.NoEcho, Charset: c.Charset,
			Joint: login.Joint{CodeFirst: c.CodeFirst, Separator: c.Separator}, SessionClass: c.SessionClass, Certificate: c.Certificate,
		}
		for _, m := range c.Methods {
			client.Methods = append(client.Methods, radiusd.Method(m))
		}
		for _, q := range c.Quirks {
			client.Quirks = append(client.Quirks, radiusd.Quirk(q))
		}
		rc.Clients = append(rc.Clients, client)
	}
	var err error
	rc.EAP, err = eapServer(cfg.RADIUS.EAP, log)
	return rc, err
}

// eapServer makes what holds EAP conversations; nil where none is configured.
func eapServer(e *config.EAP, log *slog.Logger) (*eap.Server, error) {
	if e == nil {
		return nil, nil
	}
	cert, err := newFresh(log, keyPair(e.Cert, e.Key), e.Cert, e.Key)
	if err != nil {
		return nil, fmt.Errorf("radius.eap: %w", err)
	}
	o := eap.Options{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.get(), nil }}
	for _, m := range e.Methods {
		o.Methods = append(o.Methods, eap.Method(m))
		// The configuration has warned of it.
		o.ExposeCodesWithoutTunnel = o.ExposeCodesWithoutTunnel || m == string(eap.GTC) || m == string(eap.MSCHAPv2)
	}
	if len(o.Methods) == 0 {
		o.Methods = []eap.Method{eap.TTLS, eap.PEAP}
	}
	server, err := eap.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("radius.eap: %w", err)
	}
	return server, nil
}

// tlsOptions opens the certificates of RADIUS over TLS.
func tlsOptions(t *config.TLS, log *slog.Logger) (radiusd.TLSOptions, error) {
	cert, err := newFresh(log, keyPair(t.Cert, t.Key), t.Cert, t.Key)
	if err != nil {
		return radiusd.TLSOptions{}, fmt.Errorf("radius.tls: %w", err)
	}
	cas, err := newFresh(log, authorities(t.ClientCA), t.ClientCA)
	if err != nil {
		return radiusd.TLSOptions{}, fmt.Errorf("radius.tls.client_ca: %w", err)
	}
	return radiusd.TLSOptions{
		Certificate: func() (*tls.Certificate, error) { return cert.get(), nil },
		ClientCAs:   func() *x509.CertPool { return cas.get() },
	}, nil
}

// serveRADIUS starts what answers RADIUS, by way of run.
func (g *gateway) serveRADIUS(ctx context.Context, run func(func() error)) {
	for _, conn := range g.sockets.radius {
		run(func() error { return g.radius.Serve(ctx, conn) })
	}
	for _, conn := range g.sockets.accounting {
		run(func() error { return g.radius.ServeAccounting(ctx, conn) })
	}
	for _, l := range g.sockets.radsec {
		run(func() error { return g.radius.ServeTLS(ctx, l, g.tls) })
	}
}
