package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/login"
)

// sessionTrust lists and revokes what lets people in over SSH without a new code.
func (c *cli) sessionTrust() *cobra.Command {
	var in admin.SessionList
	var revoke admin.TrustRevoke
	cmd := &cobra.Command{
		Use: "trust", Short: "List what lets people in over SSH without a new code, or revoke it", Args: cobra.NoArgs,
		Long: `Lists the open trust windows and the login certificates in force (a rule's trust): whose they are, for which key and
address, on which login they lean, and how often they were used. --revoke closes a person's windows and revokes his
certificates at once: what leans on them opens nothing more, and sessions that are open stay until session kill.`,
		Example: "  sallyport session trust\n  sallyport session trust --revoke alice --reason 'laptop stolen'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if revoke.Person != "" {
				var done admin.TrustRevoked
				if err := c.with(cmd, func(caller admin.Caller) error {
					return caller.Call(cmd.Context(), "trust.revoke", revoke, &done)
				}); err != nil {
					return err
				}
				return c.say(done, "%d windows and certificates of %s are revoked", done.Closed, printable(revoke.Person))
			}
			var list []login.Window
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "trust.list", in, &list) }); err != nil {
				return err
			}
			return printList(c, list, []string{"PERSON", "KIND", "SOURCE", "KEY", "OPENED", "UNTIL", "USES", "LOGIN"}, func(w login.Window) []string {
				kind := "window"
				if w.Carried {
					kind = "certificate"
				}
				return []string{w.Person, kind, w.Source, w.Key, day(w.Opened), day(w.Until), strconv.Itoa(w.Uses), w.Attempt}
			})
		},
	}
	cmd.Flags().StringVar(&in.Person, "person", "", "only those of this person")
	cmd.Flags().StringVar(&revoke.Person, "revoke", "", "revoke what `PERSON` has")
	cmd.Flags().StringVar(&revoke.Reason, "reason", "", "why, for the record")
	_ = cmd.RegisterFlagCompletionFunc("person", c.completePeople)
	_ = cmd.RegisterFlagCompletionFunc("revoke", c.completePeople)
	return cmd
}
