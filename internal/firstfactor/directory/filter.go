package directory

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// The filters for configurations that name none.
const (
	// DefaultFilterAD finds a person in Active Directory by logon name or user principal name. Computers are users
	// there, and have passwords.
	DefaultFilterAD = "(&(objectClass=user)(!(objectClass=computer))(|(sAMAccountName={name})(userPrincipalName={name})))"
	// DefaultFilter finds a person elsewhere. It does not look at other attributes, because some directories let
	// people write those of their own entry.
	DefaultFilter = "(uid={name})"
	// DefaultGroupFilter finds groups of every common class: groupOfNames and group, groupOfUniqueNames, posixGroup.
	DefaultGroupFilter = "(|(member={dn})(uniqueMember={dn})(memberUid={name}))"
)

const (
	placeName = "{name}"
	placeDN   = "{dn}"
)

// template is a search filter with places for what is searched for.
type template string

// newTemplate refuses a filter that lacks a place, has an unknown one, or is none.
func newTemplate(text, needed string) (template, error) {
	if !strings.Contains(text, needed) {
		return "", fmt.Errorf("%s has no %s, so it would find the same for everybody", text, needed)
	}
	for _, place := range regexp.MustCompile(`\{[^{}]*\}`).FindAllString(text, -1) {
		if place != placeName && (place != placeDN || needed != placeDN) {
			return "", fmt.Errorf("%s: %s stands for nothing; hint: %s", text, place, needed)
		}
	}
	t := template(text)
	if _, err := ldap.CompileFilter(t.fill("x", "cn=x")); err != nil {
		return "", fmt.Errorf("%s: %w", text, err)
	}
	// Only one filter may stand there, or it could end the one that it is put into.
	if !oneFilter(text) {
		return "", errors.New(text + ": want one filter in one pair of brackets")
	}
	return t, nil
}

// oneFilter reports whether text is one pair of brackets with all else inside.
func oneFilter(text string) bool {
	depth := 0
	for i, c := range text {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth <= 0 && i < len(text)-1 {
			return false
		}
	}
	return depth == 0
}

// fill puts name and dn in their places, escaped (RFC 4515 section 3), so that whatever they hold is a value and never
// a part of the filter. It is one pass: a name that looks like a place stays a name.
func (t template) fill(name, dn string) string {
	return strings.NewReplacer(placeName, ldap.EscapeFilter(name), placeDN, ldap.EscapeFilter(dn)).Replace(string(t))
}

// anyOf joins filters.
func anyOf(filters []string) string { return "(|" + strings.Join(filters, "") + ")" }

// equals is a filter for one value.
func equals(attribute, value string) string {
	return "(" + attribute + "=" + ldap.EscapeFilter(value) + ")"
}

// bytesEqual is a filter for one binary value.
func bytesEqual(attribute string, value []byte) string {
	var b strings.Builder
	b.WriteString("(" + attribute + "=")
	for _, c := range value {
		fmt.Fprintf(&b, `\%02x`, c)
	}
	b.WriteString(")")
	return b.String()
}
