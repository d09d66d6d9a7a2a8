package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"sallyport/internal/admin"
	"sallyport/internal/login"
	"sallyport/sshgw"
)

// desk is what people may change of themselves over SSH: the operator's verbs, on their own behalf.
type desk struct{ *app }

func (d desk) by(ctx context.Context, person string) context.Context {
	return admin.WithActor(ctx, admin.Actor{Name: person, Road: "ssh"})
}

// told is a verb's refusal, for the person whose matter it is.
type told struct{ why *admin.Error }

func (t told) Error() string    { return t.why.Text }
func (t told) Sentence() string { return strings.ToUpper(t.why.Text[:1]) + t.why.Text[1:] + "." }

func tell(err error) error {
	var e *admin.Error
	if errors.As(err, &e) && e.Text != "" && !e.Fault {
		return told{e}
	}
	return err
}

func (d desk) Enrols() bool {
	return d.gate.Standing(login.EnrolName).Reason == login.ReasonUnknownPerson
}

func (d desk) Redeem(ctx context.Context, a login.Attempt, ticket login.Secret) (login.Enrolment, login.Outcome) {
	return d.gate.Redeem(ctx, a, ticket)
}

func (d desk) Enrol(ctx context.Context, e login.Enrolment) (sshgw.Enrolling, error) {
	t, err := d.admin.BeginEnrolment(d.by(ctx, e.Person), e)
	if err != nil {
		return sshgw.Enrolling{}, tell(err)
	}
	var drawn bytes.Buffer
	if err := printQR(&drawn, t.URI); err != nil {
		return sshgw.Enrolling{}, err
	}
	kind := fmt.Sprintf("%s, %s, %d digits", strings.ToUpper(string(t.Params.Type)), strings.ToUpper(string(t.Params.Algorithm)), t.Params.Digits)
	if t.Params.Period > 0 {
		kind += fmt.Sprintf(", a new one every %d seconds", t.Params.Period)
	}
	lines := strings.Split(strings.TrimSuffix(drawn.String(), "\n"), "\n")
	return sshgw.Enrolling{Token: t.Token, Secret: t.Secret, Kind: kind, QR: drawn.String(), Cols: strings.Count(lines[0], "") - 1 - len("\x1b[30;107m\x1b[0m")}, nil
}

func (d desk) Confirm(ctx context.Context, e login.Enrolment, token, code string) (bool, error) {
	right, err := d.admin.ConfirmEnrolment(d.by(ctx, e.Person), e, token, code)
	return right, tell(err)
}

func (d desk) ChangesPassword(ctx context.Context, gr login.Grant) error {
	return tell(d.admin.MayChangePassword(ctx, gr))
}

func (d desk) ChangePassword(ctx context.Context, gr login.Grant, password login.Secret) error {
	return tell(d.admin.ChangePassword(d.by(ctx, gr.Person), gr, password))
}

var _ sshgw.Desk = desk{}

// peopleRules are what the configuration says of people, for the verbs.
func (a *app) peopleRules() admin.PeopleRules {
	cfg := a.config()
	return admin.PeopleRules{
		Strict: cfg.People.Strict, Dormant: cfg.People.Dormant, MinPassword: cfg.Login.Password.Min, First: cfg.Login.FirstFactor,
	}
}
