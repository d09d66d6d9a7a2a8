package config

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"sallyport/internal/policy"
)

// setting is one value of a configuration under its path, as text. Of a secret the text tells only whether it's there.
type setting struct {
	path   string
	item   string // path of the innermost named item of a list that it belongs to
	text   string
	secret Secret
}

// settings lists every value of a configuration in the order of its types, so that equal configurations make equal
// lists whatever the order and the comments of their files. Items of lists go by their names, where they've got one.
type settings struct {
	all   []setting
	items []string
	lists map[string]string // path of a list to the names in it
}

func settingsOf(cfg *Config) *settings {
	s := &settings{lists: map[string]string{}}
	s.walk(reflect.ValueOf(*cfg), "", "")
	return s
}

func (s *settings) walk(v reflect.Value, path, item string) {
	if secret, ok := v.Interface().(Secret); ok {
		text := "set"
		if secret.Empty() {
			text = "not set"
		}
		s.all = append(s.all, setting{path, item, text, secret})
		return
	}
	if text, ok := v.Interface().(fmt.Stringer); ok {
		s.all = append(s.all, setting{path: path, item: item, text: text.String()})
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			s.all = append(s.all, setting{path: path, item: item, text: "none"})
			return
		}
		s.walk(v.Elem(), path, item)
	case reflect.Struct:
		s.walkStruct(v, path, item)
	case reflect.Slice:
		s.walkSlice(v, path, item)
	case reflect.String:
		s.all = append(s.all, setting{path: path, item: item, text: strconv.Quote(v.String())})
	default:
		s.all = append(s.all, setting{path: path, item: item, text: fmt.Sprint(v.Interface())})
	}
}

func (s *settings) walkStruct(v reflect.Value, path, item string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("key")
		switch {
		case key == "-" || !field.IsExported() || v.Type() == reflect.TypeFor[policy.Rule]() && field.Name == "Record":
			continue
		case key == "+": // its fields are ours
			s.walk(v.Field(i), path, item)
			continue
		case key == "":
			key = snake(field.Name)
		}
		if path != "" {
			key = path + "." + key
		}
		s.walk(v.Field(i), key, item)
	}
}

func (s *settings) walkSlice(v reflect.Value, path, item string) {
	if v.Type().Elem().Kind() != reflect.Struct {
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = fmt.Sprint(v.Index(i).Interface())
			if v.Index(i).Kind() == reflect.String {
				parts[i] = strconv.Quote(v.Index(i).String())
			}
		}
		s.all = append(s.all, setting{path: path, item: item, text: "[" + strings.Join(parts, ", ") + "]"})
		return
	}
	var names []string
	for i := range v.Len() {
		name := nameField(v.Index(i))
		names = append(names, strconv.Quote(name))
		at := path + "[" + name + "]"
		s.items = append(s.items, at)
		s.walk(v.Index(i), at, at)
	}
	s.lists[path] = strings.Join(names, ", ")
}

// nameField is the name of a list's item: its own, or its policy's.
func nameField(v reflect.Value) string {
	if rule, ok := v.Interface().(Rule); ok {
		return rule.Policy.Name
	}
	return v.FieldByName("Name").String()
}

// snake writes a Go name as a key: ListenOn as listen_on, SSH as ssh.
func snake(name string) string {
	var b strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		ends := i+1 < len(rs) && unicode.IsLower(rs[i+1])
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(rs[i-1]) || ends) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Diff names what is different in the new configuration, one line for each value, for the record of a reload. Secrets
// are compared, and of one that changed only that is said. The order of rules matters and is compared; that of clients and
// targets doesn't.
func Diff(before, after *Config) []string {
	was, is := settingsOf(before), settingsOf(after)
	var lines []string
	fate := func(from, in *settings, word string) {
		for _, item := range from.items {
			outer, _, nested := strings.Cut(item, "].") // an attribute of a new rule is no news of its own
			if !slices.Contains(in.items, item) && (!nested || slices.Contains(in.items, outer+"]")) {
				lines = append(lines, item+": "+word)
			}
		}
	}
	fate(was, is, "removed")
	fate(is, was, "added")
	old := make(map[string]setting, len(was.all))
	for _, s := range was.all {
		old[s.path] = s
	}
	for _, s := range is.all {
		o, known := old[s.path]
		delete(old, s.path)
		switch {
		case s.item != "" && !slices.Contains(was.items, s.item):
		case !known:
			lines = append(lines, s.path+": "+s.text)
		case !o.secret.Equal(s.secret):
			lines = append(lines, s.path+": changed")
		case o.text != s.text:
			lines = append(lines, s.path+": "+o.text+" -> "+s.text)
		}
	}
	for _, s := range was.all {
		if _, gone := old[s.path]; gone && (s.item == "" || slices.Contains(is.items, s.item)) {
			lines = append(lines, s.path+": removed")
		}
	}
	if o, n := was.lists["rules"], is.lists["rules"]; o != n {
		lines = append(lines, "rules: order: "+o+" -> "+n)
	}
	return lines
}

// Hash is the SHA-256 of a configuration in one canonical, redacted form: every value under its path, in a fixed order,
// and of secrets only whether they're set. It is safe to publish: no guess at a secret can be tried against it. So
// a configuration in which only a secret changed has the same hash; Diff tells that apart.
func Hash(cfg *Config) [32]byte {
	s := settingsOf(cfg)
	var b strings.Builder
	for _, v := range s.all {
		fmt.Fprintf(&b, "%s=%s\n", v.path, v.text)
	}
	return sha256.Sum256([]byte(b.String()))
}
