package admin

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/roll"
)

// UserBatch is the input of user.batch: a part of a list of people, which is carried out whole or not at all, in one record.
type UserBatch struct {
	roll.Batch
	Source string `json:"source"`          // import, directory
	File   string `json:"file"`            // SHA-256 of the list, or the directory
	Part   int    `json:"part"`            // from 1 on
	Parts  int    `json:"parts"`           //
	Check  bool   `json:"check,omitempty"` // only tell what would be wrong; sponsors and owners are not looked for then
	// Lenient leaves somebody of whom something is wrong as he is, rather than the whole part undone; who is to be disabled, is.
	Lenient bool `json:"lenient,omitempty"`
	// Since is when the directory says that a leaver was shut out there, as far as it tells.
	Since map[string]time.Time `json:"since,omitempty"`
}

// UserBatchDone is the answer of user.batch.
type UserBatchDone struct {
	Problems []roll.Problem `json:"problems,omitempty"` // nothing was done; with Lenient, nothing to these people but that they are disabled
	Record   uint64         `json:"record,omitempty"`
	Joiners  int            `json:"joiners"`
	Movers   int            `json:"movers"`
	Leavers  int            `json:"leavers"`
	Ended    []EndedSession `json:"ended,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
}

// WhyLeft is why the sessions of somebody ended who left.
const WhyLeft = "person_left"

// EventLeaver is the event of a person who was found to have left: when, and what became of his sessions.
const EventLeaver = "user.leaver"

func (s *Service) batchVerbs() { Handle(s, "user.batch", s.userBatch) }

// Batch carries out one part of a list of people, for who has made the list in this process.
func (s *Service) Batch(ctx context.Context, in UserBatch) (UserBatchDone, error) {
	return s.userBatch(ctx, in)
}

func (s *Service) userBatch(ctx context.Context, in UserBatch) (UserBatchDone, error) {
	began := s.Now()
	out, left, err := s.takeBatch(ctx, in)
	if err != nil || out.Record == 0 || len(left) == 0 {
		return out, err
	}
	if out.Ended, err = s.endAll(ctx, WhyLeft, func(l login.Session) bool { _, is := left[l.Person]; return is }); err != nil {
		return out, err
	}
	return out, s.recordLeavers(ctx, in, left, out, began)
}

// takeBatch carries out the change. Left are those who could log in before, and cannot any more.
func (s *Service) takeBatch(ctx context.Context, in UserBatch) (out UserBatchDone, left map[string]login.PersonKind, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left = make(map[string]login.PersonKind)
	var what login.Change
	var told []string
	batch := make(map[string]login.Person, len(in.Put))
	for _, put := range in.Put {
		batch[put.Person.Name] = put.Person
	}
	known := func(name string) (login.Person, bool, error) {
		if p, is := batch[name]; is {
			return p, true, nil
		}
		return s.Store.PersonByName(ctx, name)
	}
	for _, put := range in.Put {
		p := put.Person
		was, there, err := s.Store.PersonByName(ctx, p.Name)
		if err != nil {
			return out, nil, err
		}
		delete(batch, p.Name) // he answers for nobody as what he does not become
		switch {
		case there && roll.Mark(was) != put.Was:
			out.Problems = append(out.Problems, roll.Problem{Line: put.Line, Field: roll.Name, Text: p.Name + " was changed meanwhile", Hint: "run it again"})
			continue // with what it was compared with, the wish that he be disabled is gone, too: the next look has it
		case !there && put.Was != "":
			out.Problems = append(out.Problems, roll.Problem{Line: put.Line, Field: roll.Name, Text: p.Name + " was removed meanwhile", Hint: "run it again"})
			continue
		}
		warnings, problems := s.batchProblems(p, was, in.Check, known)
		for _, x := range problems {
			if x.Line = put.Line; x.Line == 0 {
				x.Text = p.Name + ": " + x.Text
			}
			out.Problems = append(out.Problems, x)
		}
		if len(problems) > 0 && in.Lenient {
			if !there || !p.Disabled || was.Disabled {
				continue
			}
			p = was
			p.Disabled = true
		}
		batch[p.Name] = p
		out.Warnings = append(out.Warnings, warnings...)
		if p.Created = was.Created; there {
			out.Movers++
		} else {
			p.Created = s.Now().UTC().Truncate(time.Millisecond)
			out.Joiners++
		}
		if p.Disabled && there && !was.Disabled {
			left[p.Name] = p.Kind
		}
		told = append(told, roll.Describe(was, p))
		what.All = append(what.All, login.Change{PutPerson: &p})
	}
	for _, name := range in.Leave {
		p, there, err := s.Store.PersonByName(ctx, name)
		if err != nil {
			return out, nil, err
		}
		if !there || p.Disabled {
			continue // it is as it should be
		}
		was := p
		p.Disabled = true
		left[p.Name] = p.Kind
		told = append(told, roll.Describe(was, p))
		what.All = append(what.All, login.Change{PutPerson: &p})
	}
	out.Leavers = len(left)
	if in.Check || len(out.Problems) > 0 && !in.Lenient || what.Empty() {
		return out, left, nil
	}
	detail := []audit.Detail{
		{Key: "source", Value: in.Source},
		{Key: "list", Value: in.File},
		{Key: "part", Value: fmt.Sprintf("%d of %d", in.Part, in.Parts)},
		{Key: "joiners", Value: strconv.Itoa(out.Joiners)},
		{Key: "movers", Value: strconv.Itoa(out.Movers)},
		{Key: "leavers", Value: strconv.Itoa(out.Leavers)},
	}
	done, err := s.commit(ctx, change{event: "user.batch", person: "none", what: what, detail: append(detail, toldDetail(told)...)})
	out.Record = done.Record
	return out, left, err
}

// batchProblems finds what is wrong with one person of a batch; check leaves out who answers for him.
func (s *Service) batchProblems(p, was login.Person, check bool, known func(string) (login.Person, bool, error)) (warnings []string, list []roll.Problem) {
	bad := func(field string, err error) {
		if err != nil {
			e := asError(err)
			list = append(list, roll.Problem{Field: field, Text: e.Text, Hint: e.Hint})
		}
	}
	for _, c := range s.personChecks(p) {
		bad(c.field, c.err)
	}
	if was.Name == "" {
		bad(roll.Name, checkReserved(p.Name))
	}
	bad("", checkParticulars(p))
	if !check { // they may come in another part of the list
		bad(roll.Sponsor, checkAnswering(p, was, known))
	}
	warnings, err := s.lacking(p, lacks(was))
	bad(roll.Kind, err)
	if was.Name != "" {
		warnings = nil // it was said when he came
	}
	return warnings, list
}

// toldDetail says in a record who was changed, and how: as many lines to a value as fit.
func toldDetail(told []string) (d []audit.Detail) {
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			d = append(d, audit.Detail{Key: "people_" + strconv.Itoa(len(d)+1), Value: b.String()})
			b.Reset()
		}
	}
	for _, line := range told {
		if b.Len() > 0 && b.Len()+len(line)+2 > audit.MaxValue*3/4 { // what is escaped takes more
			flush()
		}
		if b.Len() > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(line)
	}
	flush()
	return d
}

// recordLeavers says of each who left when that was noticed, what became of his sessions, and how long it took.
func (s *Service) recordLeavers(ctx context.Context, in UserBatch, left map[string]login.PersonKind, out UserBatchDone, began time.Time) error {
	ended, open := make(map[string]int), make(map[string]int)
	for _, e := range out.Ended {
		if e.Ended {
			ended[e.Person]++
		} else {
			open[e.Person]++
		}
	}
	for name, kind := range left {
		now := s.Now()
		detail := []audit.Detail{
			{Key: "source", Value: in.Source},
			{Key: "batch_record", Value: strconv.FormatUint(out.Record, 10)},
			{Key: "sessions_ended", Value: strconv.Itoa(ended[name])},
			{Key: "took", Value: now.Sub(began).Round(time.Millisecond).String()},
		}
		if open[name] > 0 {
			detail = append(detail, audit.Detail{Key: "sessions_not_ended", Value: strconv.Itoa(open[name])})
		}
		if since := in.Since[name]; !since.IsZero() {
			detail = append(detail, audit.Detail{Key: "changed_in_directory", Value: since.UTC().Format(time.RFC3339)},
				audit.Detail{Key: "after", Value: max(0, now.Sub(since)).Round(time.Second).String()})
		}
		c := change{event: EventLeaver, person: name, kind: kind, reason: login.ReasonPersonDisabled, detail: detail}
		if open[name] > 0 {
			c.result = audit.Error
		}
		if err := s.commitOne(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) commitOne(ctx context.Context, c change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.commit(ctx, c)
	return err
}

// personCheck is one thing that may be wrong with a person.
type personCheck struct {
	field string
	err   error
}

func (s *Service) checkPerson(p login.Person) error {
	var first error
	for _, c := range s.personChecks(p) {
		first = cmp.Or(first, c.err)
	}
	return first
}
