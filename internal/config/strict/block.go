// Package strict reads a YAML file strictly: a tree of blocks whose keys are asked for by name and kind, where every
// read that fails says what is wrong at which line of which field, and the walk goes on, so that all errors come at once.
// What is asked for is known, and everything else is an error. It knows nothing of what the keys mean.
//
// It repeats values only of fields that are not secret, and never the parser's own quotations.
package strict

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Reader walks the tree of one file and collects all that is wrong with it. It's for one goroutine.
type Reader struct {
	File     string                            // what errors call the file
	Dir      string                            // relative paths are relative to it
	Env      func(string) (string, bool)       // asked for the names that secret_env gives
	ReadFile func(path string) ([]byte, error) // reads the files of secrets

	Problems []Problem
	Warnings []Problem
	Inline   []Pos // secrets that stand in the file itself

	lines map[Pos]int // lines of keys, by the place of their block and by field alone
}

// Place corrects the line of p, which is that of the block, to that of the key.
func (r *Reader) Place(p Pos) Pos {
	if line, ok := r.lines[p]; ok {
		p.Line = line
	}
	return p
}

func (r *Reader) stands(p Pos, line int) {
	if r.lines == nil {
		r.lines = map[Pos]int{}
	}
	r.lines[p] = line
	p.Line = 0
	if _, known := r.lines[p]; !known {
		r.lines[p] = line
	}
}

// Bad reports an error. The text never holds a secret.
func (r *Reader) Bad(at Pos, hint, format string, args ...any) {
	r.Problems = append(r.Problems, at.Problem(fmt.Sprintf(format, args...), hint))
}

// Warn reports what may be meant, and should be known.
func (r *Reader) Warn(at Pos, hint, format string, args ...any) {
	r.Warnings = append(r.Warnings, at.Problem(fmt.Sprintf(format, args...), hint))
}

// Block is one mapping of the file while it is read. Each read of a key makes that key known; End reports the others.
// The reads never fail: they report what is wrong and return the default.
type Block struct {
	Reader *Reader
	Pos    Pos
	Given  bool // false where the file does not have it at all

	broken bool // it's no block, which is said already: what's missing in it is no news
	values map[string]*yaml.Node
	lines  map[string]int // of the keys
	order  []string
	asked  []string
}

// Keys are the block's keys in the order of the file.
func (b *Block) Keys() []string { return b.order }

// keyWord is what any of our keys looks like. Nothing else is ever repeated in an error: it may be a secret in the
// wrong place.
var keyWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Block reads n, which may be nil for a block that is not there, as a mapping. An empty value counts as an empty block:
// it's what is left when all below it is commented out.
func (r *Reader) Block(n *yaml.Node, pos Pos) *Block {
	b := &Block{Reader: r, Pos: pos, values: map[string]*yaml.Node{}, lines: map[string]int{}}
	if n == nil {
		return b
	}
	b.Given = true
	if isNull(n) {
		return b
	}
	if !r.untagged(n, pos) {
		b.broken = true
		return b
	}
	if n.Kind != yaml.MappingNode {
		b.broken = true
		r.Bad(pos, "write its keys below it, further in", "wants a block of keys, got %s", kindOf(n))
		return b
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 || !keyWord.MatchString(key.Value) {
			r.Bad(Pos{pos.File, key.Line, pos.Field}, "keys are plain words, with a colon and a blank behind", "has a key that is not a word")
			continue
		}
		if line, dup := b.lines[key.Value]; dup {
			at := pos.Under(key.Value)
			at.Line = key.Line
			r.Bad(at, "keep one of the two", "is given twice, first in line %d", line)
			continue
		}
		b.values[key.Value] = value
		b.lines[key.Value] = key.Line
		r.stands(pos.Under(key.Value), key.Line)
		b.order = append(b.order, key.Value)
	}
	return b
}

// untagged refuses anchors, aliases and tags: an alias hides what a rule says, and a secret that begins with one of
// their signs would silently lose its first word.
func (r *Reader) untagged(n *yaml.Node, pos Pos) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		r.Bad(pos, "put a value that begins with & * or ! into quotes", "begins with a YAML anchor, alias or tag; none are used here")
		return false
	}
	return true
}

// At is the place of a key's value, or of the block where the key is absent.
func (b *Block) At(key string) Pos {
	at := b.Pos.Under(key)
	if line, ok := b.lines[key]; ok {
		at.Line = line
	}
	return at
}

// Bad reports an error at a key, or at the block where the key is absent.
func (b *Block) Bad(key, hint, format string, args ...any) {
	b.Reader.Bad(b.At(key), hint, format, args...)
}

// Has reports whether the file gives the key.
func (b *Block) Has(key string) bool {
	_, ok := b.values[key]
	return ok
}

// Value returns the node of key, or nil, and makes the key known.
func (b *Block) Value(key string) *yaml.Node {
	b.asked = append(b.asked, key)
	return b.values[key]
}

// IsScalar tells whether the key was given as one value, and not as nothing.
func (b *Block) IsScalar(key string) bool {
	return b.Has(key) && b.values[key].Kind == yaml.ScalarNode && !isNull(b.values[key])
}

// IsList tells whether the key was given as a list.
func (b *Block) IsList(key string) bool { return b.Has(key) && b.values[key].Kind == yaml.SequenceNode }

// IsBlock tells whether the key was given as a block of keys.
func (b *Block) IsBlock(key string) bool { return b.Has(key) && b.values[key].Kind == yaml.MappingNode }

// End reports the keys that nobody asked for.
func (b *Block) End() {
	for _, key := range b.order {
		if slices.Contains(b.asked, key) {
			continue
		}
		hint := "known here: " + strings.Join(slices.Sorted(slices.Values(b.asked)), ", ")
		near, guessed := Nearest(key, b.asked)
		if guessed {
			hint = "did you mean " + near + "?"
		}
		if !guessed && isNull(b.values[key]) {
			// {secret: abc,def} makes a key of half a secret: it's not repeated.
			b.Reader.Bad(Pos{b.Pos.File, b.lines[key], b.Pos.Field}, hint, "has a key that is not known, without a value")
			continue
		}
		b.Bad(key, hint, "is not a known key")
	}
}

// Block reads the mapping below key.
func (b *Block) Block(key string) *Block {
	return b.Reader.Block(b.Value(key), b.At(key))
}

// Items reads the list of mappings below key. Each is called by its name where it has a good one, else by its number
// from 1.
func (b *Block) Items(key string) []*Block {
	var items []*Block
	for i, n := range b.list(key) {
		at := b.At(key)
		at.Line = n.Line
		at.Field += fmt.Sprintf("[#%d]", i+1)
		if name := nameOf(n); name != "" {
			at.Field = b.At(key).Field + "[" + name + "]"
		}
		if isNull(n) {
			b.Reader.Bad(at, "", "is empty")
			continue
		}
		items = append(items, b.Reader.Block(n, at))
	}
	return items
}

func (b *Block) list(key string) []*yaml.Node {
	n := b.Value(key)
	if n == nil || isNull(n) || !b.Reader.untagged(n, b.At(key)) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		b.Bad(key, "write a list: "+key+": [...]", "wants a list, got %s", kindOf(n))
		return nil
	}
	return n.Content
}

// Text is a value and where it stands.
type Text struct {
	Value string
	Pos   Pos
}

// Texts reads a list of texts.
func (b *Block) Texts(key string) []Text {
	return b.textsOf(key, b.list(key))
}

// TextOrTexts reads one text or a list of them.
func (b *Block) TextOrTexts(key string) []Text {
	if n := b.values[key]; n != nil && n.Kind == yaml.ScalarNode {
		if v, ok := b.Text(key); ok {
			return []Text{{v, b.At(key)}}
		}
		return nil
	}
	return b.Texts(key)
}

func (b *Block) textsOf(key string, nodes []*yaml.Node) []Text {
	var all []Text
	for i, n := range nodes {
		at := b.Pos.Under(fmt.Sprintf("%s[#%d]", key, i+1))
		b.Reader.stands(at, n.Line)
		at = b.Reader.Place(at)
		if v, ok := b.Reader.Text(n, at); ok {
			all = append(all, Text{v, at})
		}
	}
	return all
}

func Values(ts []Text) []string {
	var vs []string
	for _, t := range ts {
		vs = append(vs, t.Value)
	}
	return vs
}

// Text reads a text; ok is false where it is absent or wrong.
func (b *Block) Text(key string) (v string, ok bool) {
	n := b.Value(key)
	if n == nil {
		return "", false
	}
	return b.Reader.Text(n, b.At(key))
}

// Text takes any scalar as it's written: 0123 stays "0123" (a YAML library that reads it as octal 83 changes a secret).
func (r *Reader) Text(n *yaml.Node, at Pos) (string, bool) {
	switch {
	case !r.untagged(n, at):
		return "", false
	case n.Kind != yaml.ScalarNode:
		r.Bad(at, "", "wants a text, got %s", kindOf(n))
		return "", false
	case isNull(n):
		r.Bad(at, "give it a value, or take the key out", "has no value")
		return "", false
	case n.Value == "":
		r.Bad(at, "give it a value, or take the key out", "is empty")
		return "", false
	}
	return n.Value, true
}

// Needed reads a text that has to be there.
func (b *Block) Needed(key string) (string, bool) {
	if !b.Has(key) {
		b.Value(key)
		if !b.broken {
			b.Bad(key, "", "is missing")
		}
		return "", false
	}
	return b.Text(key)
}

// Word reads one of a few words.
func Word[T ~string](b *Block, key string, def T, allowed ...T) T {
	v, ok := b.Text(key)
	if !ok {
		return def
	}
	if !slices.Contains(allowed, T(v)) {
		names := make([]string, len(allowed))
		for i, a := range allowed {
			names[i] = string(a)
		}
		b.Bad(key, "one of: "+strings.Join(names, ", "), "%s is not known", Show(v))
		return def
	}
	return T(v)
}

// Number reads a whole number from lo to hi.
func (b *Block) Number(key string, def, lo, hi int) int {
	n := b.Value(key)
	if n == nil || !b.Reader.untagged(n, b.At(key)) {
		return def
	}
	v, err := strconv.Atoi(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode:
		b.Bad(key, "", "wants a whole number, got %s", kindOf(n))
	case isNull(n):
		b.Bad(key, "give it a value, or take the key out", "has no value")
	case err != nil || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		b.Bad(key, "digits only, without quotes", "wants a whole number, got %s", Show(n.Value))
	case v < lo || v > hi:
		b.Bad(key, "", "%d: want %d to %d", v, lo, hi)
	default:
		return v
	}
	return def
}

// Bytes reads a size from lo to hi: bytes, or a number with KiB, MiB, GiB or TiB behind it.
func (b *Block) Bytes(key string, def, lo, hi int64) int64 {
	v, ok := b.Text(key)
	if !ok {
		return def
	}
	const hint = "bytes, or a number and KiB, MiB, GiB or TiB: 1073741824, 1GiB"
	number, unit := v, int64(1)
	for i, suffix := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n, found := strings.CutSuffix(v, suffix); found {
			number, unit = strings.TrimSuffix(n, " "), 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil || n < 0 || number[0] == '+':
		b.Bad(key, hint, "%s is not a size", Show(v))
	case n > hi/unit || n*unit < lo:
		b.Bad(key, "", "%s: want %d to %d bytes", v, lo, hi)
	default:
		return n * unit
	}
	return def
}

// Truth reads true or false.
func (b *Block) Truth(key string, def bool) bool {
	n := b.Value(key)
	if n == nil || !b.Reader.untagged(n, b.At(key)) {
		return def
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		b.Bad(key, "", "wants true or false, got %s", kindOf(n))
	case isNull(n):
		b.Bad(key, "give it a value, or take the key out", "has no value")
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 && n.Value == "true":
		return true
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 && n.Value == "false":
		return false
	default:
		b.Bad(key, "write true or false, without quotes", "wants true or false, got %s", Show(n.Value))
	}
	return def
}

// Span reads a time from lo to hi, as 90s, 15m, 12h, 30d or 1d12h.
func (b *Block) Span(key string, def, lo, hi time.Duration) time.Duration {
	v, ok := b.Text(key)
	if !ok {
		return def
	}
	d, err := ParseDuration(v)
	if err != nil {
		hint := "write a number and a unit: 30s, 15m, 12h, 7d"
		if _, bare := strconv.ParseFloat(v, 64); bare == nil {
			hint = "a bare number has no unit: write " + v + "s, " + v + "m, " + v + "h or " + v + "d"
		}
		b.Bad(key, hint, "%s is not a time", Show(v))
		return def
	}
	if d < lo || d > hi {
		b.Bad(key, "", "%s: want %s to %s", v, lo, hi)
		return def
	}
	return d
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style&yaml.TaggedStyle == 0 && n.ShortTag() == "!!null"
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a block of keys"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// nameOf is the name that a list's item gives itself, where it is fit to be part of a path.
func nameOf(n *yaml.Node) string {
	if n.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if v := n.Content[i+1]; n.Content[i].Value == "name" && v.Kind == yaml.ScalarNode && IsTitle(v.Value) {
			return v.Value
		}
	}
	return ""
}

// Show quotes what stands in the file, shortened. It's never given a secret.
func Show(v string) string {
	const most = 40
	if rs := []rune(v); len(rs) > most {
		return strconv.Quote(string(rs[:most])) + "..."
	}
	return strconv.Quote(v)
}

// Nearest is the candidate that a slip of the finger or two makes of word.
func Nearest(word string, candidates []string) (string, bool) {
	best, least := "", 3
	for _, c := range candidates {
		if d := edits(strings.ToLower(word), strings.ToLower(c)); d < least && d < len(c) {
			best, least = c, d
		}
	}
	return best, best != ""
}

// edits is the Levenshtein distance in bytes, of words of bounded length.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
