package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Document is one report.
type Document struct {
	Kind     string          `json:"kind"` // mfa, access, ...
	Title    string          `json:"title"`
	Lead     string          `json:"lead,omitempty"` // what it says, in a sentence
	Meta     Meta            `json:"meta"`
	Request  json.RawMessage `json:"request"` // what it was asked with, so that it can be made again
	Sections []Section       `json:"sections"`
}

// Meta is what each report carries, whatever it is about.
type Meta struct {
	From       time.Time `json:"from"`
	To         time.Time `json:"to"` // the first moment that is no longer in the period
	On         time.Time `json:"as_at"`
	Zone       string    `json:"time_zone"`
	Made       time.Time `json:"generated_at"`
	By         string    `json:"generated_by"`
	Filter     string    `json:"filter"`
	Rows       int       `json:"rows"` // of all tables
	Version    string    `json:"version"`
	Config     string    `json:"config_hash"`
	Node       string    `json:"node"`
	FirstSeq   uint64    `json:"first_record"`
	NextSeq    uint64    `json:"next_record"` // the first that the report has not seen; equal to FirstSeq: there was none
	Integrity  string    `json:"integrity"`   // in words
	Verified   bool      `json:"verified"`
	Again      string    `json:"run_again"` // the command
	Frameworks string    `json:"frameworks,omitempty"`
}

// Basis tells what a section is made from, and so whether it can be had again later.
type Basis string

// What sections are made from.
const (
	Log      Basis = "log"      // from the records: the same at any later time
	Register Basis = "register" // from versions that are never overwritten: the same at any later time
	State    Basis = "state"    // from how things stood when the report was made
)

// Section is a part of a report. Any of its parts may be missing.
type Section struct {
	ID      string   `json:"id"`
	Title   string   `json:"title"`
	Basis   Basis    `json:"basis"`
	Text    []string `json:"text,omitempty"`
	Figures []Figure `json:"figures,omitempty"`
	Chart   *Chart   `json:"chart,omitempty"`
	Table   *Table   `json:"table,omitempty"`
	Sign    []string `json:"sign,omitempty"` // lines to be filled in by hand
}

// Tone says whether a figure or a cell is well. Colour is never the only sign of it: the words say it, too.
type Tone string

// The tones.
const (
	Plain Tone = ""
	Good  Tone = "good"
	Warn  Tone = "warn"
	Bad   Tone = "bad"
)

// Figure is one number that matters.
type Figure struct {
	Key   string `json:"key"`
	Label string `json:"label"`
	Value string `json:"value"`
	Note  string `json:"note,omitempty"`
	Tone  Tone   `json:"tone,omitempty"`
}

// Column is a column of a table.
type Column struct {
	Key   string `json:"key"`
	Title string `json:"title"`
	Right bool   `json:"right,omitempty"` // numbers
	Wide  bool   `json:"wide,omitempty"`  // long text
	Mono  bool   `json:"mono,omitempty"`  // hashes, canonical records
}

// Table has a cell for each column in each row.
type Table struct {
	Columns []Column   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Tones   []Tone     `json:"tones,omitempty"` // of the rows; shorter: the rest are plain
	Left    int        `json:"left_out,omitempty"`
	Empty   string     `json:"empty,omitempty"` // what to say where there are no rows
}

// Add adds a row.
func (t *Table) Add(tone Tone, cells ...string) {
	if tone != Plain || len(t.Tones) > 0 {
		for len(t.Tones) < len(t.Rows) {
			t.Tones = append(t.Tones, Plain)
		}
		t.Tones = append(t.Tones, tone)
	}
	t.Rows = append(t.Rows, cells)
}

func (t *Table) tone(row int) Tone {
	if row < len(t.Tones) {
		return t.Tones[row]
	}
	return Plain
}

// ChartKind is how a chart is drawn.
type ChartKind string

// The kinds of charts.
const (
	Bars  ChartKind = "bars"  // a bar a point, with its share of Max
	Spark ChartKind = "spark" // a line over time
	Heat  ChartKind = "heat"  // a cell a point, week by week: the first point is at First's day of the week
)

// Chart shows numbers that a table beside it has as well.
type Chart struct {
	Kind   ChartKind `json:"kind"`
	Title  string    `json:"title"` // what it shows, for who cannot see it
	Unit   string    `json:"unit,omitempty"`
	Max    float64   `json:"max,omitempty"`   // of Bars: the whole; 0: the largest point
	First  int       `json:"first,omitempty"` // of Heat: the first point's day of the week, Monday 0
	Points []Point   `json:"points"`
}

// Point is a value of a chart.
type Point struct {
	Label string  `json:"label"`
	Value float64 `json:"value"`
	Tone  Tone    `json:"tone,omitempty"`
}

// bound of what Parse reads.
const maxDocument = 256 << 20

// Parse has a document back from its JSON.
func Parse(b []byte) (*Document, error) {
	if len(b) > maxDocument {
		return nil, fmt.Errorf("a report of %d bytes, at most %d are read", len(b), maxDocument)
	}
	d := new(Document)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(d); err != nil {
		return nil, fmt.Errorf("not a kept report: %w", err)
	}
	for _, s := range d.Sections {
		if s.Table == nil {
			continue
		}
		for i, row := range s.Table.Rows {
			if len(row) != len(s.Table.Columns) {
				return nil, fmt.Errorf("section %q, row %d: %d cells for %d columns", s.ID, i+1, len(row), len(s.Table.Columns))
			}
		}
	}
	return d, nil
}

// Section finds a section by its id, or nil.
func (d *Document) Section(id string) *Section {
	for i := range d.Sections {
		if d.Sections[i].ID == id {
			return &d.Sections[i]
		}
	}
	return nil
}

// Count puts the number of rows into the meta.
func (d *Document) Count() {
	d.Meta.Rows = 0
	for _, s := range d.Sections {
		if s.Table != nil {
			d.Meta.Rows += len(s.Table.Rows)
		}
	}
}
