package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/config"
)

func (c *cli) grantCommand() *cobra.Command {
	return noun("grant", "Access with a start, an end and a ticket",
		c.grantAdd(), c.grantAnswer("approve", "Say yes to a grant that waits", "approved"),
		c.grantAnswer("refuse", "Say no to a grant that waits", "refused"),
		c.grantAnswer("end", "End a grant now; sessions that need it end, too", "ended"), c.grantList())
}

func (c *cli) grantAdd() *cobra.Command {
	var in admin.GrantAdd
	var from, until, life string
	cmd := &cobra.Command{
		Use: "add PERSON", Short: "Grant a person access for a time, or ask for it", Args: cobra.ExactArgs(1),
		Long: `Grants a person access to systems for a time. It serves where a rule asks for a grant (grant: required), and by that rule. When
it ends, so do the sessions that need it, over SSH and RADIUS. --ask leaves it waiting for somebody else's approval; nobody approves
access for himself and, with four_eyes in the settings, not what he asked for, either.`,
		Example: `  sallyport grant add ext-jones --to core-sw1 --for 4h --ticket CHG-1234 --sponsor alice
  sallyport grant add ext-jones --to tag:pacs --from 2026-07-01T20:00:00Z --until 2026-07-02T04:00:00Z --ticket CHG-1240 --ask`,
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			var err error
			in.Person = args[0]
			if in.From, err = parseWhen("from", from, now); err != nil {
				return err
			}
			if in.Until, err = parseWhen("until", until, now); err != nil {
				return err
			}
			if life != "" {
				d, err := config.ParseSpan(life)
				if err != nil {
					return usageError{hintf("30m, 4h, 2d", "--for %q is no time span", life)}
				}
				in.Until = now
				if !in.From.IsZero() {
					in.Until = in.From
				}
				in.Until = in.Until.Add(d)
			}
			if in.Until.IsZero() {
				return usagef("when the grant ends is not said: --until TIME, or --for SPAN")
			}
			return c.callGrant(cmd, "grant.add", in, "granted")
		},
	}
	cmd.Flags().StringSliceVar(&in.Systems, "to", nil, "`SYSTEMS`: RADIUS clients, SSH targets, tag:x, or * for all")
	cmd.Flags().StringVar(&from, "from", "", "from this `TIME`; now if it is left out")
	cmd.Flags().StringVar(&until, "until", "", "until this `TIME`")
	cmd.Flags().StringVar(&life, "for", "", "for this `SPAN`: 30m, 4h, 2d")
	cmd.Flags().StringVar(&in.Ticket, "ticket", "", "the `TICKET` of the change or job")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "what it is for")
	cmd.Flags().StringVar(&in.Sponsor, "sponsor", "", "the member of staff who answers for a supplier's engineer, if it is not his own sponsor")
	cmd.Flags().StringVar(&in.Requester, "requester", "", "who asks for it, if it is not who enters it")
	cmd.Flags().StringVar(&in.Approver, "approver", "", "who approved it, if it is not who enters it")
	cmd.Flags().BoolVar(&in.AskOnly, "ask", false, "only ask: somebody else is to approve it")
	cmd.MarkFlagsMutuallyExclusive("until", "for")
	cmd.MarkFlagsMutuallyExclusive("ask", "approver")
	_ = cmd.MarkFlagRequired("to")
	_ = cmd.MarkFlagRequired("ticket")
	return cmd
}

func (c *cli) callGrant(cmd *cobra.Command, verb string, in any, past string) error {
	var g admin.GrantIs
	if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), verb, in, &g) }); err != nil {
		return err
	}
	if g.State == "requested" {
		past = "asked for"
	}
	if err := c.say(g, "%s %s: %s at %s, %s to %s (%s, record %d)", past, g.ID, g.Person, strings.Join(g.Systems, ","), day(g.From), day(g.Until), g.State, g.Record); err != nil {
		return err
	}
	return c.sayEnded(g.Closed)
}

func (c *cli) grantAnswer(verb, short, past string) *cobra.Command {
	var in admin.GrantIn
	cmd := &cobra.Command{
		Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), Example: "  sallyport grant " + verb + " GR-7",
		ValidArgsFunction: c.completeGrants,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			return c.callGrant(cmd, "grant."+verb, in, past)
		},
	}
	cmd.Flags().StringVar(&in.By, "by", "", "`NAME` of who said so, if it is not who enters it")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	return cmd
}

func (c *cli) grantList() *cobra.Command {
	var in admin.GrantList
	cmd := &cobra.Command{
		Use: "list", Short: "List grants that are not over", Args: cobra.NoArgs,
		Example: "  sallyport grant list\n  sallyport grant list --all --person ext-jones",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []admin.GrantIs
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "grant.list", in, &list) }); err != nil {
				return err
			}
			return printList(c, list, []string{"ID", "STATE", "PERSON", "TO", "FROM", "UNTIL", "TICKET", "SPONSOR", "ASKED BY", "APPROVED BY"}, func(g admin.GrantIs) []string {
				return []string{g.ID, g.State, g.Person, strings.Join(g.Systems, ","), day(g.From), day(g.Until), g.Ticket, g.Sponsor, g.Requester, g.Approver}
			})
		},
	}
	cmd.Flags().StringVar(&in.Person, "person", "", "only those of this `PERSON`")
	cmd.Flags().BoolVar(&in.All, "all", false, "also those that are over")
	_ = cmd.RegisterFlagCompletionFunc("person", c.completePeople)
	return cmd
}

// completeGrants offers the ids of grants to the shell.
func (c *cli) completeGrants(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []admin.GrantIs
	if err := c.with(cmd, func(caller admin.Caller) error {
		return caller.Call(cmd.Context(), "grant.list", admin.GrantList{}, &list)
	}); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ids := make([]string, len(list))
	for i, g := range list {
		ids[i] = g.ID + "\t" + g.Person + " " + g.State
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) accessCommand() *cobra.Command {
	return noun("access", "Who may reach what, and who last said that this is right", c.accessList(), c.accessAttest())
}

func (c *cli) accessList() *cobra.Command {
	var in admin.AccessList
	cmd := &cobra.Command{
		Use: "list", Short: "List people's access by rule, with its last attestation", Args: cobra.NoArgs,
		Long: `Lists which rules give which people access, and when somebody last attested that this is right: amber after 180 days, red after
365, or when it is to be removed.`,
		Example: "  sallyport access list --due\n  sallyport access list --person alice",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []admin.AccessRow
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "access.list", in, &list) }); err != nil {
				return err
			}
			return printList(c, list, []string{"PERSON", "KIND", "RULE", "TO", "MAY", "STATE", "SINCE", "ATTESTED BY", "DECISION"}, func(r admin.AccessRow) []string {
				return []string{r.Person, string(r.Kind), r.Rule, strings.Join(r.To, ","), strings.Join(r.May, ","), r.Colour, day(r.Since), r.By, r.Decision}
			})
		},
	}
	cmd.Flags().StringVar(&in.Person, "person", "", "only of this `PERSON`")
	cmd.Flags().BoolVar(&in.Due, "due", false, "only what is amber or red")
	_ = cmd.RegisterFlagCompletionFunc("person", c.completePeople)
	return cmd
}

func (c *cli) accessAttest() *cobra.Command {
	var in admin.AccessAttest
	cmd := &cobra.Command{
		Use: "attest PERSON", Short: "Say that a person's access is right, or is to be removed", Args: cobra.ExactArgs(1),
		Long: `Enters that a person's access was looked at: by one rule, or by every rule that gives him any. Nobody attests his own. What is to be
removed stays red until the person no longer has it: user set --group takes it.`,
		Example:           "  sallyport access attest alice --decision keep\n  sallyport access attest bob --rule 'network team' --decision remove --note 'moved to estates'",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Person = args[0]
			var done admin.Done
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "access.attest", in, &done) }); err != nil {
				return err
			}
			return c.say(done, "attested the access of %s: %s (record %d)", args[0], in.Decision, done.Record)
		},
	}
	cmd.Flags().StringVar(&in.Rule, "rule", "", "only by this `RULE`")
	cmd.Flags().StringVar(&in.By, "by", "", "`NAME` of who looked, if it is not who enters it")
	cmd.Flags().StringVar(&in.Decision, "decision", "", "keep or remove")
	cmd.Flags().StringVar(&in.Note, "note", "", "what was found")
	_ = cmd.MarkFlagRequired("decision")
	_ = cmd.RegisterFlagCompletionFunc("decision", cobra.FixedCompletions([]string{"keep", "remove"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
