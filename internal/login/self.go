package login

// ProvedAnew tells whether a grant is of somebody who himself, in that very login, proved two kinds, and who is not barred since: he may
// change what he proves himself by. A login that leans on another, an exception's and a machine's may not.
func (g *Gate) ProvedAnew(gr Grant) Reason {
	if !gr.Valid() || gr.window != nil || gr.Bound != nil || gr.Exception != "" {
		return ReasonFactors
	}
	know, other := false, false
	for _, f := range gr.Factors {
		if f.Result == "ok" {
			know = know || f.Kind == string(Know)
			other = other || f.Kind == string(Have) || f.Kind == string(Are)
		}
	}
	if !know || !other {
		return ReasonFactors
	}
	return g.Standing(gr.Person).Reason
}
