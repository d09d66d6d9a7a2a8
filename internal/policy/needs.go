package policy

import "slices"

// Needs returns the kinds of factor that the rule needs, with the default filled in.
func (r *Rule) Needs() []Kind {
	if len(r.Need) == 0 {
		return []Kind{Know, Have}
	}
	return slices.Clone(r.Need)
}
