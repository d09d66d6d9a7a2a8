// Package attr knows RADIUS attributes by the names that FreeRADIUS's dictionaries give them: it compiles what a rule
// wants in an Access-Accept, and finds attributes by name for those who hand them on.
package attr

import (
	"fmt"
	"strings"
)

// Known is a standard or a vendor's attribute.
type Known struct {
	Name   string
	Vendor uint32 // 0: standard
	Type   byte
}

// Find finds an attribute that a reply may carry by its name, in any case. The error tells what names are near.
func Find(name string) (Known, error) {
	lower := strings.ToLower(name)
	if why := serverOwned(lower); why != "" {
		return Known{}, fmt.Errorf("%s may not be in a reply: %s", name, why)
	}
	k, ok := lexicon()[lower]
	if !ok {
		return Known{}, fmt.Errorf("%s is not a known reply attribute%s", name, near(lower))
	}
	return Known{Name: k.Name, Vendor: k.vendor, Type: byte(k.OID[0])}, nil
}
