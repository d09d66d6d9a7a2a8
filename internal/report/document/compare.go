package document

import (
	"fmt"
	"slices"
)

// Difference is where a report that is made again says something else than the one that was kept.
type Difference struct {
	Section string `json:"section"`
	Basis   Basis  `json:"basis"`
	What    string `json:"what"`
	Kept    string `json:"kept"`
	Now     string `json:"now"`
}

// maxDifferences bounds what is told.
const maxDifferences = 500

// Compare tells how two reports on the same question differ. What is from the log or the register should not; what is from the
// gateway's present state may.
func Compare(was, now *Document) (list []Difference) {
	put := func(s *Section, what, a, b string) {
		if a != b && len(list) < maxDifferences {
			list = append(list, Difference{s.ID, s.Basis, what, a, b})
		}
	}
	for i := range was.Sections {
		s := &was.Sections[i]
		o := now.Section(s.ID)
		if o == nil {
			put(s, "section", s.Title, "(missing)")
			continue
		}
		for _, f := range s.Figures {
			j := slices.IndexFunc(o.Figures, func(g Figure) bool { return g.Key == f.Key })
			if j < 0 {
				put(s, f.Label, f.Value, "(missing)")
				continue
			}
			put(s, f.Label, f.Value, o.Figures[j].Value)
			if f.Note != o.Figures[j].Note {
				put(s, f.Label+" (note)", f.Note, o.Figures[j].Note)
			}
		}
		put(s, "text", fmt.Sprint(s.Text), fmt.Sprint(o.Text))
		compareTables(s, o, put)
	}
	for i := range now.Sections {
		if s := &now.Sections[i]; was.Section(s.ID) == nil {
			put(s, "section", "(missing)", s.Title)
		}
	}
	return list
}

func compareTables(s, o *Section, put func(s *Section, what, a, b string)) {
	switch {
	case s.Table == nil && o.Table == nil:
		return
	case s.Table == nil || o.Table == nil:
		put(s, "table", fmt.Sprint(s.Table != nil), fmt.Sprint(o.Table != nil))
		return
	}
	rows := func(t *Table) map[string]int {
		m := make(map[string]int)
		for _, r := range t.Rows {
			m[fmt.Sprintf("%q", r)]++
		}
		return m
	}
	a, b := rows(s.Table), rows(o.Table)
	for _, r := range s.Table.Rows {
		if k := fmt.Sprintf("%q", r); b[k] == 0 {
			put(s, "row", k, "(missing)")
		} else {
			b[k]--
		}
	}
	for _, r := range o.Table.Rows {
		if k := fmt.Sprintf("%q", r); a[k] == 0 {
			put(s, "row", "(missing)", k)
		} else {
			a[k]--
		}
	}
}
