package login

// Peek tells how a challenge stands for somebody who answers it under this name, for `explain`: ReasonOK, or why the answer
// would be refused. It uses nothing up.
func (g *Gate) Peek(p Progress, name string) Reason {
	now, life := g.now(), g.policy.Load().Settings.ChallengeFor
	if p.name != nameDigest(name) {
		return ReasonStateUnknown
	}
	if age := now.Sub(p.created); age > life || age < -life {
		return ReasonStateExpired
	}
	if g.used.holds(p.turn()) {
		return ReasonStateUsed
	}
	return ReasonOK
}

// holds reports whether id was used.
func (u *usedStates) holds(id [16]byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, used := u.until[id]
	return used
}
