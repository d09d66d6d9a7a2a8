package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/login"
	"sallyport/internal/report/count"
	"sallyport/internal/report/document"
)

// standing counts the register's entries by where they stand.
type standing struct {
	live, waiting, requested int
	overdue                  int // expired and not ended, or not reviewed in time
	closed                   int // ended or expired within the period
}

func (f *Facts) open() (n standing) {
	for i := range f.register {
		x := &f.register[i]
		switch stateOf(x, f.r.On) {
		case stateLive:
			n.live++
		case stateWaiting:
			n.waiting++
		case stateRequested:
			n.requested++
		case stateUnreviewed:
			n.overdue++
		case stateExpired:
			n.overdue++
			if f.inPeriod(x.Until) {
				n.closed++
			}
		case stateEnded:
			if f.inPeriod(x.Ended) {
				n.closed++
			}
		}
	}
	return n
}

func (f *Facts) inPeriod(t time.Time) bool { return !t.Before(f.r.From) && t.Before(f.r.To) }

// exceptionSummary lists those that are open; the register's report has their whole text.
func (f *Facts) exceptionSummary(n standing) document.Section {
	s := document.Section{
		ID: "exceptions", Title: "Exceptions", Basis: document.Register,
		Text: []string{fmt.Sprintf("%d in force, %d not begun, %d not approved, %d overdue (expired or not reviewed: the gateway refuses them), %d closed in the period.",
			n.live, n.waiting, n.requested, n.overdue, n.closed)},
		Table: &document.Table{Empty: "No exception is open.", Columns: []document.Column{
			{Key: "id", Title: "Id"},
			{Key: "title", Title: "Title", Wide: true},
			{Key: "state", Title: "State"},
			{Key: "approved", Title: "Approved by"},
			{Key: "review", Title: "Review by"},
			{Key: "until", Title: "Until"},
			{Key: "uses", Title: "Logins", Right: true},
		}},
	}
	for i := range f.register {
		x := &f.register[i]
		state := stateOf(x, f.r.On)
		if state == stateEnded {
			continue
		}
		uses := 0
		if u := f.t.Exceptions[x.ID]; u != nil {
			uses = u.N
		}
		s.Table.Add(exceptionTone(state), x.ID, x.Title, state, approver(x), count.LastDay(x.Review), count.LastDay(x.Until), fmt.Sprint(uses))
	}
	return s
}

func exceptionTone(state string) document.Tone {
	switch state {
	case stateUnreviewed, stateExpired:
		return document.Bad
	case stateLive, stateRequested, stateWaiting:
		return document.Warn
	}
	return document.Plain
}

func approver(x *login.Exception) string {
	if x.Approval.By == "" {
		return ""
	}
	return fmt.Sprintf("%s, %s (%s)", x.Approval.By, x.Approval.Role, x.Approval.Body)
}

// planSection says what is not covered yet, who sees to it, and by when.
func (f *Facts) planSection(systems []covered) document.Section {
	s := document.Section{
		ID: "plan", Title: "Plan for what is not covered yet", Basis: document.State,
		Text: []string{"This gateway knows the systems behind it and no others. Systems that are not behind it are listed as far as the operator has named them."},
		Table: &document.Table{Empty: "Nothing is named that is not covered.", Columns: []document.Column{
			{Key: "what", Title: "System or exception"},
			{Key: "class", Title: "Class"},
			{Key: "state", Title: "Now", Wide: true},
			{Key: "plan", Title: "Plan", Wide: true},
			{Key: "owner", Title: "Owner"},
			{Key: "target", Title: "By"},
		}},
	}
	due := login.DateOf(f.r.On)
	late := func(d login.Date) document.Tone {
		if d.IsZero() || d.Before(due.Time) {
			return document.Bad
		}
		return document.Plain
	}
	for i := range f.register {
		x := &f.register[i]
		if state := stateOf(x, f.r.On); state != stateEnded {
			now := state
			if x.Plan.Progress != "" {
				now += "; " + x.Plan.Progress
			}
			s.Table.Add(late(x.Plan.Target), x.ID+" "+x.Title, strings.Join(f.classesOf(x, systems), ", "), now, x.Plan.Text, x.Plan.Owner, x.Plan.Target.String())
		}
	}
	for _, c := range systems {
		if c.state == unclassified {
			s.Table.Add(document.Bad, c.Name, unclassified, "no class is set for it", "set its class in the configuration", "not named", "")
		}
	}
	for _, p := range f.r.Plan {
		class := p.Class
		if slices.Contains(classes(), class) {
			class = classWords(class)
		}
		s.Table.Add(late(p.Target), p.System, class, "not behind this gateway; "+orNot(p.State, "how it is protected is not said"), p.Plan, p.Owner, p.Target.String())
	}
	return s
}

func orNot(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// classesOf are those of the systems at which an exception is used.
func (f *Facts) classesOf(x *login.Exception, systems []covered) (list []string) {
	for _, c := range systems {
		if slices.Contains(c.exceptions, x.ID) && !slices.Contains(list, c.Class) {
			list = append(list, c.Class)
		}
	}
	slices.Sort(list)
	return list
}

// overdueSection gathers what somebody should have looked at.
func (f *Facts) overdueSection(n standing) document.Section {
	amber, red := 0, 0
	for _, row := range f.accessRows() {
		switch row.colour {
		case "amber":
			amber++
		case "red":
			red++
		}
	}
	without := len(f.withoutFactor())
	glass := len(f.t.Glass.Rows) + f.t.Glass.Left
	open := 0
	for _, r := range f.t.Glass.Rows {
		if !f.looked(r) {
			open++
		}
	}
	return document.Section{
		ID: "overdue", Title: "Reviews, gaps and emergency access", Basis: document.State,
		Figures: []document.Figure{
			{Key: "exception_reviews_overdue", Label: "Exceptions overdue", Value: fmt.Sprint(n.overdue), Tone: tone(n.overdue == 0, document.Bad)},
			{Key: "access_reviews_red", Label: "Access not attested for a year", Value: fmt.Sprint(red), Note: fmt.Sprintf("%d more for half a year", amber), Tone: tone(red == 0, document.Bad)},
			{Key: "people_without_code", Label: "People with access and no code", Value: fmt.Sprint(without), Note: "they cannot pass without an exception", Tone: tone(without == 0, document.Warn)},
			{Key: "break_glass", Label: "Emergency access", Value: fmt.Sprint(glass), Note: fmt.Sprintf("%d not reviewed", open), Tone: tone(open == 0, document.Bad)},
		},
	}
}

// looked tells whether a use of emergency access was reviewed.
func (f *Facts) looked(r count.Listed) bool {
	_, session := f.t.Reviewed[r.Session]
	_, attempt := f.t.Attempts[r.Attempt]
	return session || attempt
}

func (f *Facts) statementIntegrity() document.Section {
	i := &f.integrity
	state, kind := "not verified", document.Warn
	switch {
	case i.Done && i.Sound:
		state, kind = "verified", document.Good
	case i.Done:
		state, kind = "NOT SOUND", document.Bad
	}
	s := document.Section{
		ID: "integrity", Title: "Integrity of the records", Basis: document.Log,
		Text: []string{i.Text},
		Figures: []document.Figure{
			{Key: "integrity", Label: "Chain of records", Value: state, Tone: kind},
			{Key: "records", Label: "Records in the period", Value: fmt.Sprint(f.t.Records)},
			{Key: "erased", Label: "Erased by retention", Value: fmt.Sprint(f.t.Erased), Note: "their hashes remain"},
			{Key: "log_begins", Label: "The log begins", Value: f.p.On(firstOf(f.t.First)), Note: "what was before is not known"},
		},
	}
	if f.t.First > f.r.From.UnixMilli() {
		s.Text = append(s.Text, "The log begins within the period: nothing is known of the time before.")
	}
	return s
}

func firstOf(milli int64) time.Time {
	if milli == 0 {
		return time.Time{}
	}
	return count.TimeOf(milli)
}
