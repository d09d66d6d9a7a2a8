package document

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Clean makes a text harmless for whatever shows it: each byte that is not UTF-8, each control character and each character that
// shows nothing or changes how others show (marks of direction, joiners, variation selectors) is written as \u{202e} or \x{ff}. Line ends are such,
// too: a text is one line. What is clean stays as it is.
func Clean(s string) string {
	if !slices.ContainsFunc([]byte(s), func(b byte) bool { return b < 0x20 || b >= 0x7f }) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x{%02x}`, s[i])
		case harmful(r):
			fmt.Fprintf(&out, `\u{%x}`, r)
		default:
			out.WriteString(s[i : i+size])
		}
		i += size
	}
	return out.String()
}

// harmful is stricter than what records escape, since unassigned characters and private ones may show as anything.
func harmful(r rune) bool {
	switch {
	case r == ' ':
		return false
	case r == utf8.RuneError: // it stands where somebody lost what was there, and is not to look like our own reading
		return true
	case !unicode.IsGraphic(r), unicode.Is(unicode.Zs, r) && r != 0xA0,
		unicode.Is(unicode.Variation_Selector, r), unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), r == 0x034F,
		0xE0000 <= r && r <= 0xE0FFF:
		return true
	}
	return false
}

// cleaned is a copy with every text made harmless.
func (d *Document) cleaned() *Document {
	c := *d
	for _, s := range []*string{
		&c.Kind, &c.Title, &c.Lead, &c.Meta.Zone, &c.Meta.By, &c.Meta.Filter, &c.Meta.Version, &c.Meta.Config, &c.Meta.Node,
		&c.Meta.Integrity, &c.Meta.Again, &c.Meta.Frameworks,
	} {
		*s = Clean(*s)
	}
	c.Request = asciiOnly(d.Request)
	c.Sections = slices.Clone(d.Sections)
	for i := range c.Sections {
		c.Sections[i] = c.Sections[i].cleaned()
	}
	return &c
}

func (s Section) cleaned() Section {
	s.ID, s.Title, s.Basis = Clean(s.ID), Clean(s.Title), Basis(Clean(string(s.Basis)))
	s.Text, s.Sign = cleanAll(s.Text), cleanAll(s.Sign)
	s.Figures = slices.Clone(s.Figures)
	for i, f := range s.Figures {
		s.Figures[i] = Figure{Clean(f.Key), Clean(f.Label), Clean(f.Value), Clean(f.Note), f.Tone.known()}
	}
	if s.Chart != nil {
		c := *s.Chart
		c.Title, c.Unit, c.Points = Clean(c.Title), Clean(c.Unit), slices.Clone(c.Points)
		for i, p := range c.Points {
			c.Points[i] = Point{Clean(p.Label), p.Value, p.Tone.known()}
		}
		s.Chart = &c
	}
	if s.Table != nil {
		t := *s.Table
		t.Empty, t.Columns, t.Rows, t.Tones = Clean(t.Empty), slices.Clone(t.Columns), slices.Clone(t.Rows), slices.Clone(t.Tones)
		for i, col := range t.Columns {
			t.Columns[i].Key, t.Columns[i].Title = Clean(col.Key), Clean(col.Title)
		}
		for i, row := range t.Rows {
			t.Rows[i] = cleanAll(row)
		}
		for i, tone := range t.Tones {
			t.Tones[i] = tone.known()
		}
		s.Table = &t
	}
	return s
}

func (t Tone) known() Tone {
	switch t {
	case Good, Warn, Bad:
		return t
	}
	return Plain
}

func cleanAll(list []string) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = Clean(s)
	}
	return out
}

// asciiOnly writes JSON without a character beyond ASCII, whose value is the same: it is not shown, and has to come back as it was.
func asciiOnly(raw []byte) []byte {
	if !slices.ContainsFunc(raw, func(b byte) bool { return b >= 0x7f }) {
		return raw
	}
	var out []byte
	for _, r := range string(raw) { // beyond ASCII there are only strings
		switch {
		case r < 0x7f:
			out = append(out, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}
