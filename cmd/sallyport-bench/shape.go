package main

import (
	"fmt"
	"slices"
	"strings"
)

// shape is one way to ask.
type shape struct {
	name     string // of -shapes
	title    string // in the tables
	write    func(sign *signer, s *script, k int, r request) error
	secret   string // instead of the crowd's; "": the crowd's
	fixed    bool   // FreeRADIUS has no one-time codes for it, and checks a fixed password
	codeless bool   // nobody proves anything
	talk     bool   // a request is a conversation
	tls      bool
	guess    int // of the rate, until it was measured
}

var papShape = shape{name: "pap", title: "PAP", write: func(sign *signer, s *script, _ int, r request) error {
	s.packets = sign.appendRequest(s.packets, r)
	return nil
}}

// shapes are those beside PAP, which is measured in breadth.
var shapes = []shape{
	{name: "chap", title: "CHAP", fixed: true, guess: 90_000, write: func(sign *signer, s *script, _ int, r request) error {
		s.packets = sign.appendCHAP(s.packets, r)
		return nil
	}},
	{name: "mschapv2", title: "MS-CHAPv2", fixed: true, guess: 60_000, write: writeMSCHAP},
	{name: "radsec", title: "RadSec (PAP)", tls: true, secret: "radsec", guess: 80_000, write: papShape.write},
	{name: "eap", title: "EAP-TTLS/PAP", talk: true, guess: 5_000, write: writeAVPs},
	{name: "accounting", title: "accounting", codeless: true, guess: 90_000, write: func(sign *signer, s *script, k int, r request) error {
		session, status := sessionOf(k)
		s.packets = sign.appendAccounting(s.packets, r, fmt.Sprintf("%s%06x", r.lane, session), status)
		return nil
	}},
}

func writeMSCHAP(sign *signer, s *script, k int, r request) (err error) {
	c := challenges{r.challenge(0x5a), r.challenge(0xa5)}
	if s.packets, err = sign.appendMSCHAP(s.packets, r, c); err == nil && k%successEvery == 0 {
		s.success[int32(k)], err = mschapSuccess(r, c)
	}
	return err
}

// sessionOf is the session that a lane's k-th report is about: each starts, and ends after many others have started.
func sessionOf(k int) (session int, status uint32) {
	block, at := k/sessionBlock, k%sessionBlock
	if at < sessionsHeld {
		return block*sessionsHeld + at, acctStart
	}
	return block*sessionsHeld + at - sessionsHeld, acctStop
}

// chosen reads the flag -shapes.
func chosen(list string) (pap bool, others []*shape, ssh bool, err error) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		at := slices.IndexFunc(shapes, func(s shape) bool { return s.name == name })
		switch {
		case name == "all":
			pap, others, ssh = true, nil, true
			for i := range shapes {
				others = append(others, &shapes[i])
			}
			return pap, others, ssh, nil
		case name == papShape.name:
			pap = true
		case name == sshName:
			ssh = true
		case at < 0:
			return false, nil, false, fmt.Errorf("-shapes: %q is not known: want all, or some of pap, %s, %s", name, shapeNames(), sshName)
		case !slices.Contains(others, &shapes[at]):
			others = append(others, &shapes[at])
		}
	}
	return pap, others, ssh, nil
}

func shapeNames() string {
	names := make([]string, len(shapes))
	for i := range shapes {
		names[i] = shapes[i].name
	}
	return strings.Join(names, ", ")
}
