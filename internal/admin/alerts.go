package admin

import (
	"context"
	"strings"
	"time"

	"sallyport/internal/alert"
	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// AlertList is the input of alert.list.
type AlertList struct {
	All  bool   `json:"all,omitempty"` // those that are closed, too
	Kind string `json:"kind,omitempty"`
}

// AlertID is the input of alert.show and alert.ack.
type AlertID struct {
	ID string `json:"id"`
}

// AlertClose is the input of alert.close.
type AlertClose struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome"`
}

// AlertInfo is an alert with what its kind means, and what became of telling people.
type AlertInfo struct {
	alert.Alert
	DaysOpen   int              `json:"days_open"`
	Means      string           `json:"means"`
	Do         string           `json:"do"`
	Deliveries []alert.Delivery `json:"deliveries"`
}

// ReasonOwnAlert: somebody wanted to close an alert about himself.
const ReasonOwnAlert login.Reason = "alert_about_himself"

// maxOutcome bounds, in bytes, what is said at closing.
const maxOutcome = 1000

func (s *Service) alertVerbs() {
	if s.Alerts == nil {
		return
	}
	Handle(s, "alert.list", s.alertList)
	Handle(s, "alert.show", func(ctx context.Context, in AlertID) (AlertInfo, error) { return s.alert(ctx, in.ID) })
	Handle(s, "alert.ack", s.alertAck)
	Handle(s, "alert.close", s.alertClose)
}

func (s *Service) alertList(ctx context.Context, in AlertList) ([]AlertInfo, error) {
	if in.Kind != "" && !alert.Known(in.Kind) {
		return nil, refuse("docs/siem.md lists the kinds", "there is no kind of alert %q", clip(in.Kind))
	}
	all, err := s.Alerts.List(ctx, in.All)
	if err != nil {
		return nil, err
	}
	list := []AlertInfo{}
	for _, a := range all {
		if in.Kind == "" || string(a.Kind) == in.Kind {
			list = append(list, s.alertInfo(a, nil))
		}
	}
	return list, nil
}

func (s *Service) alertInfo(a alert.Alert, told []alert.Delivery) AlertInfo {
	m := a.Means()
	end := s.Now()
	if a.State == alert.Closed {
		end = a.Ended
	}
	return AlertInfo{Alert: a, DaysOpen: int(end.Sub(a.First) / (24 * time.Hour)), Means: m.Means, Do: m.Do, Deliveries: append([]alert.Delivery{}, told...)}
}

func (s *Service) alert(ctx context.Context, id string) (AlertInfo, error) {
	a, told, ok, err := s.Alerts.Find(ctx, id)
	if err != nil {
		return AlertInfo{}, err
	}
	if !ok {
		return AlertInfo{}, refuse("`sallyport alert list --all` shows them", "there is no alert %q", clip(id))
	}
	return s.alertInfo(a, told), nil
}

// alertAck says that somebody looks into an alert. The alert follows from the record.
func (s *Service) alertAck(ctx context.Context, in AlertID) (AlertInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.alert(ctx, in.ID)
	if err != nil {
		return a, err
	}
	if a.State != alert.Open {
		return a, refuse("`sallyport alert show "+a.ID+"` says by whom", "%s is %s already", a.ID, a.State)
	}
	_, err = s.commit(ctx, s.aboutAlert(alert.EventAck, a))
	if err != nil {
		return a, err
	}
	return s.alert(ctx, in.ID)
}

// alertClose ends an alert, with what was found. Nobody closes one about himself.
func (s *Service) alertClose(ctx context.Context, in AlertClose) (AlertInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.alert(ctx, in.ID)
	if err != nil {
		return a, err
	}
	outcome := strings.TrimSpace(in.Outcome)
	switch {
	case a.State == alert.Closed:
		return a, refuse("`sallyport alert show "+a.ID+"` says by whom", "%s is closed already", a.ID)
	case outcome == "":
		return a, refuse("--outcome 'asked him, he pressed twice'", "an alert is closed with what was found")
	case len(outcome) > maxOutcome:
		return a, refuse("say where the rest is kept", "the outcome has %d bytes: at most %d", len(outcome), maxOutcome)
	}
	c := s.aboutAlert(alert.EventClose, a)
	if actor := actorOf(ctx); a.Person != "" && (login.SameName(actor.Name, a.Person) || login.SameName(actor.User, a.Person)) {
		c.result, c.reason = audit.Reject, ReasonOwnAlert
		if _, err := s.commit(ctx, c); err != nil {
			return a, err
		}
		return a, refuse("somebody else has to", "%s is about %s, who cannot close it", a.ID, a.Person)
	}
	c.detail = append(c.detail, audit.Detail{Key: "outcome", Value: outcome})
	if _, err := s.commit(ctx, c); err != nil {
		return a, err
	}
	return s.alert(ctx, in.ID)
}

// aboutAlert begins the change, whose record names the alert and what it is about. The person is in the detail: the record is not one of
// his doing.
func (s *Service) aboutAlert(event string, a AlertInfo) change {
	detail := []audit.Detail{{Key: "alert", Value: a.ID}, {Key: "kind", Value: string(a.Kind)}}
	if a.Person != "" {
		detail = append(detail, audit.Detail{Key: "about", Value: a.Person})
	}
	if a.System != "" {
		detail = append(detail, audit.Detail{Key: "about_system", Value: a.System})
	}
	return change{event: event, person: "none", detail: detail}
}
