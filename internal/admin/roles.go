package admin

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// Role is what an operator may do.
type Role string

// The roles. The zero Role may do nothing.
const (
	RoleAdmin    Role = "admin"
	RoleHelpDesk Role = "help-desk" // people's tokens, locks and passwords; no rights
	RoleAuditor  Role = "auditor"   // reads everything that is no secret, and changes nothing
)

// duty is who may call a verb, and whether it only reads: then it is recorded before it answers. Verbs that change something make
// their own records, and so do readers that have more to say.
type duty struct {
	roles []Role
	reads bool
	shown func(in json.RawMessage) string // what the record says of the arguments; nil: themselves
}

// duties has a row for every verb, which a test holds. A verb without one is an admin's.
func duties() map[string]duty {
	table := make(map[string]duty)
	all := []Role{RoleAdmin, RoleHelpDesk, RoleAuditor}
	readers := []Role{RoleAdmin, RoleAuditor}
	desk := []Role{RoleAdmin, RoleHelpDesk}
	admins := []Role{RoleAdmin}
	add := func(roles []Role, reads bool, verbs ...string) {
		for _, v := range verbs {
			table[v] = duty{roles: roles, reads: reads}
		}
	}
	add(all, true, "user.list", "user.show", "token.list", "key.list", "session.list", "trust.list", "explain", "access.list", "grant.list",
		"exception.list", "exception.show", "target.list", "target.show", "target.authorities", "client.list", "client.report")
	add(all, true, "token.stock")
	add(all, true, "alert.list", "alert.show")
	add(desk, false, "alert.ack")
	add(admins, false, "alert.close", "alert.test")
	add(all, false, "status") // asked every few seconds by monitoring, and about nobody
	add(readers, true, "audit.search", "audit.tail", "session.past", "explain.packet", "hold.list")
	add(desk, false, "token.assign")
	add(admins, false, "token.import", "token.discard")
	add(readers, false, "audit.erasures", "audit.export", "audit.public-key", "audit.checkpoint", "session.show", "recording.find", "recording.fetch", "recording.play", "recording.export", "recording.search")
	add(readers, false, "audit.cosigned", "audit.proof")
	add(readers, true, "report.list")
	add(readers, false, "report.make", "report.pack", "report.show", "report.compare", "report.review") // a review changes nothing but what is known
	add(desk, false, "user.unlock", "token.enrol", "token.confirm", "token.revoke", "token.recovery", "token.resync", "session.kill", "trust.revoke")
	add(admins, false, "user.add", "user.set", "user.disable", "user.enable", "user.remove", "key.add", "key.remove",
		"session.refresh", "target.scan", "target.trust", "target.revoke", "target.remove", "target.credential", "target.credential-remove",
		"exception.add", "exception.set", "exception.approve", "exception.review", "exception.reported", "exception.end",
		"grant.add", "grant.approve", "grant.refuse", "grant.end", "access.attest", "hold.add", "hold.end", "audit.retain",
		"reload", "restart", "succession.note", "succession.watch", "succession.over")
	add(all, true, "user.gaps", "token.ticket.list")
	add(desk, false, "user.password", "token.ticket", "token.ticket.revoke", "token.lost")
	add(admins, false, "user.batch", "user.sync")
	packet := table["explain.packet"]
	packet.shown = shownPacket
	table["explain.packet"] = packet
	return table
}

// mayEquip keeps the help desk from giving a factor to whom it could then pose as with more rights than its own: an admin, a break-glass
// identity, and whoever asks himself, who would hold both factors alone.
func (s *Service) mayEquip(ctx context.Context, p login.Person) error {
	actor := actorOf(ctx)
	if actor.Role != RoleHelpDesk {
		return nil
	}
	why := ""
	switch {
	case login.SameName(actor.Name, p.Name):
		why = p.Name + " is the operator himself"
	case p.Kind == login.BreakGlass:
		why = p.Name + " is a break-glass identity"
	case s.IsAdmin(p.Name):
		why = p.Name + " is an admin of this gateway"
	default:
		return nil
	}
	if err := s.Record(ctx, "admin.refused", audit.Reject, string(ReasonRole), audit.Detail{Key: "subject", Value: p.Name}, audit.Detail{Key: "why", Value: why}); err != nil {
		return err
	}
	return refuse("an admin does that; `sallyport token revoke` is the help desk's for everybody", "%s: the help desk gives no factor to him", why)
}

// ReasonRole is the reason of a refusal because of a role.
const ReasonRole login.Reason = "role_insufficient"

// EventRead is the family of the records of reading: read.user.list, ... Those of reading the log are audit.search, audit.tail, ...
const EventRead = "read"

// maxFilter bounds what a record says of the arguments of a reader.
const maxFilter = 512

// admit decides whether the caller of ctx may call a verb, and records it where the verb does not. What it returns is the context
// to call the verb with: the actor is then who he is at the gateway.
func (s *Service) admit(ctx context.Context, verb string, raw json.RawMessage) (context.Context, error) {
	actor := s.Operator(actorOf(ctx))
	ctx = WithActor(ctx, actor)
	d, known := s.duties[verb]
	if !known {
		d.roles = []Role{RoleAdmin}
	}
	if !slices.Contains(d.roles, actor.Role) {
		who := actor.User
		if actor.Role != "" {
			who += " " + verb // an operator's tries are all told apart, a stranger's are not
		}
		if s.refused.due(who, s.Now()) {
			err := s.Record(ctx, "admin.refused", audit.Reject, string(ReasonRole), audit.Detail{Key: "verb", Value: verb})
			if err != nil {
				return ctx, err
			}
		}
		if actor.Role == "" {
			return ctx, refuse("an admin lists operators in the configuration (operators)", "%s is no operator of this gateway", actor.Name)
		}
		names := make([]string, len(d.roles))
		for i, r := range d.roles {
			names[i] = string(r)
		}
		return ctx, refuse("", "%s has the role %s here, and %s takes %s", actor.Name, actor.Role, verb, strings.Join(names, " or "))
	}
	if !d.reads {
		return ctx, nil
	}
	event := verb
	if !strings.HasPrefix(verb, "audit.") {
		event = EventRead + "." + verb
	}
	filter := string(raw)
	if d.shown != nil {
		filter = d.shown(raw)
	}
	if len(filter) > maxFilter {
		filter = filter[:maxFilter] + "..."
	}
	seq, err := s.record(ctx, event, audit.Info, string(login.ReasonOK), audit.Detail{Key: "filter", Value: filter})
	return context.WithValue(ctx, readKey{}, seq), err
}

type readKey struct{}

// readSeq is the number of the record of the reading that ctx is for; 0: none.
func readSeq(ctx context.Context) uint64 {
	seq, _ := ctx.Value(readKey{}).(uint64)
	return seq
}

// actorDetail is what records say of who asked.
func actorDetail(a Actor) []audit.Detail {
	d := []audit.Detail{{Key: "actor", Value: a.Name}}
	if a.Role != "" {
		d = append(d, audit.Detail{Key: "role", Value: string(a.Role)})
	}
	if a.User != "" && a.User != a.Name {
		d = append(d, audit.Detail{Key: "actor_user", Value: a.User})
	}
	return d
}
