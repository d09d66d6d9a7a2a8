package config

import (
	"regexp"
	"strings"
	"time"
	"unicode"

	"sallyport/internal/config/strict"
)

// Sync is how people follow a directory: who comes, moves and leaves there.
type Sync struct {
	Every  time.Duration // 0: only when `sallyport user sync` is run
	Filter string        // finds the people; empty: the directory's usual ones
	// Groups are the gateway's groups that follow the directory, with those there, by name or DN. Who is known to nobody here is added
	// when he is in one of them; without any, everybody is.
	Groups         map[string][]string
	DisableMissing bool // who is not found is disabled
}

// The least and the most that sync.every may be.
const (
	leastSync = time.Minute
	mostSync  = 7 * day
)

// groupName is what a group of people can be called here, as far as a key can.
var groupName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

func sync(b *strict.Block) *Sync {
	defer b.End()
	s := &Sync{
		Every: b.Span("every", 0, leastSync, mostSync), Filter: b.Printable("filter", "", 1024), DisableMissing: b.Truth("disable_missing", true),
	}
	groups := b.Block("groups")
	for _, key := range groups.Keys() {
		var from []string
		for _, t := range groups.TextOrTexts(key) {
			if t.Value == "" || len(t.Value) > 1024 || strings.ContainsFunc(t.Value, func(r rune) bool { return !unicode.IsPrint(r) }) {
				b.Reader.Bad(t.Pos, `network: "Network Admins", or a DN`, "%s is not the name of a group in the directory", strict.Show(t.Value))
				continue
			}
			from = append(from, t.Value)
		}
		if !groupName.MatchString(key) {
			groups.Bad(key, "lower-case letters, digits, hyphen and underscore", "is not the name of a group here")
			continue
		}
		if len(from) == 0 {
			groups.Bad(key, `network: "Network Admins"`, "names no group of the directory")
			continue
		}
		if s.Groups == nil {
			s.Groups = make(map[string][]string)
		}
		s.Groups[key] = from
	}
	groups.End()
	if !b.Given {
		return nil
	}
	return s
}
