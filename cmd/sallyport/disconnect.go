package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/config"
	"sallyport/internal/login"
	"sallyport/radiusd"
	"sallyport/radiusd/dynauth"
	"sallyport/radiusd/wire"
)

// nasOf is where a session's NAS takes requests, or why it takes none.
func nasOf(cfg *config.Config, s login.Session) (dynauth.NAS, string) {
	at := slices.IndexFunc(cfg.RADIUS.Clients, func(c config.Client) bool { return c.Name == s.System })
	if at < 0 {
		return dynauth.NAS{}, "the configuration has no such client any more"
	}
	c := &cfg.RADIUS.Clients[at]
	host, err := netip.ParseAddr(s.Source)
	switch {
	case c.Certificate != "":
		return dynauth.NAS{}, "the client is on RADIUS over TLS, which has no way back"
	case c.DisconnectPort == 0:
		return dynauth.NAS{}, "off for this client"
	case err != nil:
		return dynauth.NAS{}, "the address of the NAS is not known"
	}
	return dynauth.NAS{Address: net.JoinHostPort(host.String(), strconv.Itoa(c.DisconnectPort)), Secret: c.Secret.Bytes()}, ""
}

// disconnect asks the NAS that has a session to end it.
func (a *app) disconnect(ctx context.Context, s login.Session) (answer string, ended bool) {
	nas, why := nasOf(a.config(), s)
	if why != "" {
		return why, false
	}
	return said(dynauth.Disconnect(ctx, nas, radiusd.AtNAS(&s), time.Now()))
}

// change asks the NAS that has a session to hold from now on what an Access-Accept under a rule would say.
func (a *app) change(ctx context.Context, s login.Session, rule string) (answer string, done bool) {
	cfg := a.config()
	nas, why := nasOf(cfg, s)
	if why != "" {
		return why, false
	}
	var attributes []wire.Attribute
	for _, r := range cfg.Rules {
		if r.Policy.Name == rule {
			reply, problems := replyOf(r)
			if len(problems) > 0 {
				return problems.Error(), false
			}
			attributes = reply.Attributes()
		}
	}
	return said(dynauth.Change(ctx, nas, radiusd.AtNAS(&s), attributes, time.Now()))
}

func said(a dynauth.Answer, err error) (string, bool) {
	switch {
	case errors.Is(err, dynauth.ErrSilent):
		return dynauth.ErrSilent.Error(), false
	case err != nil:
		return err.Error(), false
	}
	return a.String(), a.Done
}
