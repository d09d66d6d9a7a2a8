package route

import (
	"fmt"
	"strings"
)

// User is what an SSH user name says.
type User struct {
	Person  string
	Account string // at the target; empty: the target's own
	Target  string // empty: none was named
}

// Plain reports whether the name is a person's alone.
func (u User) Plain() bool { return u.Account == "" && u.Target == "" }

// maxUser bounds, in bytes, a user name that is taken apart.
const maxUser = 256

// ParseUser takes an SSH user name apart: `alice`, `alice@core-sw1` or `alice@root@srv1`, where `%` may stand for `@`.
// An error means that the name is of no such form. It holds no part of the name, since people type passwords into the
// wrong field; the whole name is then a stranger's.
func ParseUser(name string) (User, error) {
	if name == "" || len(name) > maxUser {
		return User{}, fmt.Errorf("a user name of %d bytes: want 1 to %d", len(name), maxUser)
	}
	parts := strings.FieldsFunc(name, isSeparator)
	if separators := strings.Count(name, "@") + strings.Count(name, "%"); len(parts) != separators+1 {
		return User{}, fmt.Errorf("a user name with an empty part")
	}
	switch len(parts) {
	case 1:
		return User{Person: parts[0]}, nil
	case 2:
		return User{Person: parts[0], Target: parts[1]}, nil
	case 3:
		return User{Person: parts[0], Account: parts[1], Target: parts[2]}, nil
	default:
		return User{}, fmt.Errorf("a user name of %d parts: want person, account and target at most", len(parts))
	}
}

func isSeparator(r rune) bool { return r == '@' || r == '%' }
