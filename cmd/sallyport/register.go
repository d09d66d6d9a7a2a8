package main

import (
	"context"
	"time"
)

// lookAtRegister is how often entries of the exception register are looked at that come near their review or their end.
const lookAtRegister = time.Hour

// tendRegister has it on record when exceptions are to be looked at.
func (g *gateway) tendRegister(ctx context.Context) error {
	tick := time.NewTicker(lookAtRegister)
	defer tick.Stop()
	for {
		due, err := g.admin.Due(ctx)
		if err != nil && ctx.Err() == nil {
			g.slog.Error("the exception register could not be looked at", "error", err)
		}
		for _, what := range due {
			g.slog.Warn("an exception is due", "what", what)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// deadRules are the rules that name an exception which lets nobody in now, with the exception's state.
func (a *app) deadRules() (list []string) {
	for _, r := range a.gate.Policy().Rules {
		if r.Exception == "" {
			continue
		}
		state, known := a.gate.ExceptionState(r.Exception)
		switch {
		case !known:
			list = append(list, "rule \""+r.Name+"\": the register has no "+r.Exception)
		case state != "live":
			list = append(list, "rule \""+r.Name+"\": "+r.Exception+" is "+string(state))
		}
	}
	return list
}
