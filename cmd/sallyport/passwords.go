package main

import (
	"github.com/spf13/cobra"

	"sallyport/internal/admin"
)

func (c *cli) userPassword() *cobra.Command {
	f := personFlags{password: true}
	cmd := &cobra.Command{
		Use: "password NAME", Short: "Set a person's local password", Args: cobra.ExactArgs(1),
		Long: `Sets the password of a person whose first factor is kept here, from the terminal or from standard input. It has to have the length that
login.password.min says, and may not be one of the commonest. People change their own: ssh -t NAME@GATEWAY passwd.`,
		Example:           "  sallyport user password alice\n  printf %s \"$PW\" | sallyport user password alice --password-stdin",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			password, _, _, err := f.read(c)
			if err != nil {
				return err
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var done admin.UserDone
				if err := caller.Call(cmd.Context(), "user.password", admin.UserPassword{Name: args[0], Password: password}, &done); err != nil {
					return err
				}
				c.warn(done.Warnings)
				return c.say(done, "set the password of %s (record %d)", args[0], done.Record)
			})
		},
	}
	cmd.Flags().BoolVar(&f.passwordStdin, "password-stdin", false, "take the password from standard input")
	return cmd
}
