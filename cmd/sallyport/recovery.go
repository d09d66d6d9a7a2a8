package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
)

func (c *cli) tokenRecovery() *cobra.Command {
	return &cobra.Command{
		Use: "recovery NAME", Short: "Make ten recovery codes for a person, shown once", Args: cobra.ExactArgs(1),
		Long: `Makes ten recovery codes for a person, each good once in place of a code, and shows them once; those that he had before no longer
count. Only a keyed hash of each is kept. Each use is on record and raises an alert that asks for a new token. For a break-glass
identity, print them and seal them in an envelope.`,
		Example:           "  sallyport token recovery alice\n  sallyport token recovery night-desk --json | jq -r '.codes[]' | lp",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			var r admin.RecoveryCodes
			if err := c.with(cmd, func(caller admin.Caller) error {
				return caller.Call(cmd.Context(), "token.recovery", admin.PersonIn{Name: args[0]}, &r)
			}); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(r)
			}
			fmt.Fprintf(c.stdout, "Recovery codes of %s (record %d). They are not shown again; each is good once, where a one-time code is asked for.\n\n", r.Person, r.Record)
			for i, code := range r.Codes {
				fmt.Fprintf(c.stdout, "  %2d  %s\n", i+1, code)
			}
			return nil
		},
	}
}

func (c *cli) tokenResync() *cobra.Command {
	return &cobra.Command{
		Use: "resync TOKEN", Short: "Find a token whose counter or clock has run away, by two codes in a row", Args: cobra.ExactArgs(1),
		Long: fmt.Sprintf(`Finds where a token stands by two codes in a row, a line each on standard input or at prompts: up to %d presses ahead for a counter, up
to an hour either way for most clocks. Both codes are used up by it. Clocks that go wrong slowly are followed by themselves, up to
five minutes; token list shows how far they are off.`, admin.MaxResync),
		Example: "  sallyport token resync tk-4xq7m2kd3v5a\n  printf '%s\\n' 123456 654321 | sallyport token resync tk-4xq7m2kd3v5a",
		RunE: func(cmd *cobra.Command, args []string) error {
			in := admin.TokenResync{ID: args[0]}
			for _, prompt := range []string{"A code: ", "The next one: "} {
				code, err := c.readLine(prompt)
				if err != nil {
					return err
				}
				in.Codes = append(in.Codes, code)
			}
			var r admin.TokenResynced
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "token.resync", in, &r) }); err != nil {
				return err
			}
			where := fmt.Sprintf("its counter stands at %d", r.Counter)
			if r.Counter == 0 {
				where = fmt.Sprintf("its clock is off by %d steps of %d s", r.Drift, r.Period)
			}
			return c.say(r, "token %s of %s is found: %s; both codes are used (record %d)", r.ID, r.Person, where, r.Record)
		},
	}
}
