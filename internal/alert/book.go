package alert

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/audit"
)

// Bounds.
const (
	MaxOpenOfKind = 200  // alerts of one kind that are not closed
	MaxRecords    = 20   // that an alert names: the first half, and the newest
	MaxClosed     = 5000 // that are kept

	// TellAgain is how long after people were told they are told again, if it goes on.
	TellAgain = 24 * time.Hour
	// TellWithin is how old a record may be that people are still told of. What a gateway finds in an old log is not news.
	TellWithin = 24 * time.Hour

	maxOutcome = 1000
)

// State is where an alert is in its life.
type State string

// The states.
const (
	Open         State = "open"
	Acknowledged State = "acknowledged"
	Closed       State = "closed"
)

// Gateway is who closes what ends by itself.
const Gateway = "gateway"

// Alert is what somebody has to look at.
type Alert struct {
	ID       string    `json:"id"` // AL- and the number of its first record
	Kind     Kind      `json:"kind"`
	Severity Severity  `json:"severity"`
	Person   string    `json:"person,omitempty"`
	System   string    `json:"system,omitempty"`
	Node     string    `json:"node"`
	State    State     `json:"state"`
	Count    uint64    `json:"count"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Records  []uint64  `json:"records"` // the first ones and the newest, MaxRecords at most
	Text     string    `json:"text"`    // of the newest

	Acked   time.Time `json:"acknowledged,omitzero"`
	AckedBy string    `json:"acknowledged_by,omitempty"`
	Ended   time.Time `json:"closed,omitzero"`
	EndedBy string    `json:"closed_by,omitempty"`
	Outcome string    `json:"outcome,omitempty"`

	Told time.Time `json:"told,omitzero"` // when people were last to be told; zero: it was old when it was found
	Seq  uint64    `json:"seq"`           // of its newest record
}

// Means is what an alert's kind says.
func (a *Alert) Means() Meaning {
	m, _ := meaningOf(a.Kind)
	return m
}

type key struct {
	kind           Kind
	person, system string
}

// Book is all alerts. It is not safe for concurrent use.
type Book struct {
	all    map[string]*Alert
	open   map[key]*Alert
	kinds  map[Kind]int // how many are open
	closed []string     // ids, in the order of closing
	dirty  map[string]bool
	gone   []string
}

// NewBook makes one of alerts that were kept.
func NewBook(kept []Alert) *Book {
	b := &Book{all: make(map[string]*Alert), open: make(map[key]*Alert), kinds: make(map[Kind]int), dirty: make(map[string]bool)}
	slices.SortFunc(kept, func(x, y Alert) int { return cmp.Or(x.Ended.Compare(y.Ended), cmp.Compare(x.ID, y.ID)) })
	for i := range kept {
		a := kept[i]
		b.all[a.ID] = &a
		if a.State == Closed {
			b.closed = append(b.closed, a.ID)
			continue
		}
		b.open[key{a.Kind, a.Person, a.System}] = &a
		b.kinds[a.Kind]++
	}
	return b
}

// Apply takes a record, in the order of the log and each once. Now decides only whether people are told.
func (b *Book) Apply(rec *audit.Record, now time.Time) {
	switch rec.Event {
	case EventAck, EventClose:
		b.handle(rec)
		return
	}
	for _, e := range ends(rec) {
		if a := b.open[key{e.kind, e.person, e.system}]; a != nil {
			b.end(a, rec.Time, Gateway, e.outcome+" (record "+strconv.FormatUint(rec.Seq, 10)+")")
		}
	}
	for i, s := range Of(rec) {
		id := "AL-" + strconv.FormatUint(rec.Seq, 10)
		if i > 0 {
			id += string(rune('a' + i)) // a second sign of one record
		}
		b.sign(id, s, rec, now)
	}
}

// Raise takes a sign that has no record, since none can be made.
func (b *Book) Raise(s Signal, text, node string, now time.Time) {
	rec := audit.Record{Node: node, Time: now.UTC().Truncate(time.Millisecond)}
	b.sign("AL-x"+strconv.FormatInt(now.UnixMilli(), 10), s, &rec, now)
	if a := b.open[key{s.Kind, s.Person, s.System}]; a != nil {
		a.Text = clip(audit.Visible(text), maxText)
	}
}

func (b *Book) sign(id string, s Signal, rec *audit.Record, now time.Time) {
	k := key{s.Kind, s.Person, s.System}
	a := b.open[k]
	if a == nil && b.kinds[s.Kind] >= MaxOpenOfKind {
		k = key{kind: MoreAlerts, system: string(s.Kind)}
		a = b.open[k]
	}
	if a == nil {
		m, _ := meaningOf(k.kind)
		a = &Alert{ID: id, Kind: k.kind, Severity: m.Severity, Person: k.person, System: k.system, Node: rec.Node, State: Open, First: rec.Time}
		b.all[id], b.open[k] = a, a
		b.kinds[k.kind]++
	}
	a.Count++
	a.Last, a.Seq, a.Text = rec.Time, rec.Seq, textOf(rec)
	if len(a.Records) == MaxRecords {
		a.Records = slices.Delete(a.Records, MaxRecords/2, MaxRecords/2+1)
	}
	a.Records = append(a.Records, rec.Seq)
	if now.Sub(rec.Time) < TellWithin && (a.Told.IsZero() || rec.Time.Sub(a.Told) >= TellAgain) {
		a.Told = rec.Time
	}
	b.dirty[a.ID] = true
}

// handle takes the record of somebody who acknowledged or closed an alert.
func (b *Book) handle(rec *audit.Record) {
	a := b.all[detail(rec, detailAlert)]
	if a == nil || a.State == Closed || rec.Result != audit.Info {
		return
	}
	who := detail(rec, detailActor)
	if rec.Event == EventClose {
		b.end(a, rec.Time, who, detail(rec, detailOutcome))
		return
	}
	a.State, a.Acked, a.AckedBy = Acknowledged, rec.Time, who
	b.dirty[a.ID] = true
}

func (b *Book) end(a *Alert, at time.Time, who, outcome string) {
	a.State, a.Ended, a.EndedBy, a.Outcome = Closed, at, who, clip(outcome, maxOutcome)
	delete(b.open, key{a.Kind, a.Person, a.System})
	b.kinds[a.Kind]--
	b.closed = append(b.closed, a.ID)
	b.dirty[a.ID] = true
	for len(b.closed) > MaxClosed {
		old := b.closed[0]
		b.closed = b.closed[1:]
		delete(b.all, old)
		delete(b.dirty, old)
		b.gone = append(b.gone, old)
	}
}

// changed takes what changed since the last call.
func (b *Book) changed() (put []Alert, gone []string) {
	for id := range b.dirty {
		put = append(put, b.all[id].clone())
	}
	gone = b.gone
	b.dirty, b.gone = make(map[string]bool), nil
	return put, gone
}

func (a *Alert) clone() Alert {
	c := *a
	c.Records = slices.Clone(a.Records)
	return c
}

// List returns the alerts, the newest first: those that are not closed, or all.
func (b *Book) List(all bool) []Alert {
	list := make([]Alert, 0, len(b.open))
	for _, a := range b.all {
		if all || a.State != Closed {
			list = append(list, a.clone())
		}
	}
	slices.SortFunc(list, func(x, y Alert) int { return cmp.Or(y.Last.Compare(x.Last), cmp.Compare(x.ID, y.ID)) })
	return list
}

// Find returns one.
func (b *Book) Find(id string) (Alert, bool) {
	a := b.all[id]
	if a == nil {
		return Alert{}, false
	}
	return a.clone(), true
}
