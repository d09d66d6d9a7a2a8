package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/login"
	"sallyport/otp"
)

func (c *cli) tokenTicket() *cobra.Command {
	in := admin.TicketIssue{Params: otp.Default()}
	var typ, algorithm string
	var revoke bool
	cmd := &cobra.Command{
		Use: "ticket NAME", Short: "Issue a ticket by which a person enrols a token himself", Args: cobra.ExactArgs(1),
		Long: `Prints a ticket, once. With it, his name and his password the person runs ssh ` + login.EnrolName + `@GATEWAY, reads the QR code in, and types a first
code. A ticket serves once, and a new one takes the place of the person's earlier ones. Hand it over by another way than the password.`,
		Example:           "  sallyport token ticket alice\n  sallyport token ticket alice --for 72h\n  sallyport token ticket alice --revoke",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			if revoke {
				return c.with(cmd, func(caller admin.Caller) error {
					var out admin.TicketsRevoked
					if err := caller.Call(cmd.Context(), "token.ticket.revoke", admin.PersonIn{Name: args[0]}, &out); err != nil {
						return err
					}
					return c.say(out, "revoked the ticket of %s (record %d)", args[0], out.Record)
				})
			}
			in.Person, in.Params.Type, in.Params.Algorithm = args[0], otp.Type(strings.ToLower(typ)), otp.Algorithm(strings.ToLower(algorithm))
			if in.Params.Type == otp.TypeHOTP {
				in.Params.Period = 0
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var out admin.TicketIssued
				if err := caller.Call(cmd.Context(), "token.ticket", in, &out); err != nil {
					return err
				}
				c.warn(out.Warnings)
				return c.sayTicket(out, out.TicketInfo, out.Ticket)
			})
		},
	}
	in.For = admin.DefaultTicket
	cmd.Flags().Var((*span)(&in.For), "for", "how `LONG` it serves")
	cmd.Flags().StringVar(&typ, "type", "totp", "of the token: totp (by time) or hotp (by counter)")
	cmd.Flags().StringVar(&algorithm, "algorithm", "sha1", "sha1, sha256 or sha512; most apps know only sha1")
	cmd.Flags().IntVar(&in.Params.Digits, "digits", 6, "6 or 8")
	cmd.Flags().IntVar(&in.Params.Period, "period", 30, "`SECONDS` that a TOTP code lasts: 30 or 60")
	cmd.Flags().StringVar(&in.Label, "label", "", "what tells the token from the person's other ones")
	cmd.Flags().BoolVar(&revoke, "revoke", false, "end the person's open ticket instead")
	return cmd
}

// sayTicket shows a ticket, the one time that it can be shown.
func (c *cli) sayTicket(v any, t admin.TicketInfo, text string) error {
	return c.say(v, "ticket of %s, shown this once:\n\n    %s\n\nIt serves once, until %s:  ssh %s@GATEWAY", t.Person, text, day(t.Until), login.EnrolName)
}

func (c *cli) tokenLost() *cobra.Command {
	var in admin.TokenLost
	cmd := &cobra.Command{
		Use: "lost TOKEN|NAME", Short: "Revoke what somebody has lost, end its sessions, and issue a ticket for a new one", Args: cobra.ExactArgs(1),
		Long: `For the help desk. Revokes the token, or all tokens of the person, ends the sessions that they opened, and prints a ticket with which
the person enrols a new one. One record says why, and how it was made sure who asked.`,
		Example:           `  sallyport token lost alice --reason "phone stolen" --verified-by "called back on the number in the staff directory"`,
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.What = args[0]
			return c.with(cmd, func(caller admin.Caller) error {
				var out admin.TokenLostDone
				if err := caller.Call(cmd.Context(), "token.lost", in, &out); err != nil {
					return err
				}
				c.warn(out.Warnings)
				if !c.json {
					for _, t := range out.Tokens {
						fmt.Fprintf(c.stdout, "token %s of %s is revoked (record %d)\n", t.ID, out.Person, out.Record)
					}
				}
				if err := c.sayTicket(out, out.Issued, out.Ticket); err != nil {
					return err
				}
				return c.sayEnded(out.Ended)
			})
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "what happened")
	cmd.Flags().StringVar(&in.Verified, "verified-by", "", "how it was made sure who reports it")
	in.For = admin.DefaultTicket
	cmd.Flags().Var((*span)(&in.For), "for", "how `LONG` the ticket serves")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}
