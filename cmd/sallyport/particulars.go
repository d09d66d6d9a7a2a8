package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/login"
)

// particulars are the flags for what is asked of people, and decides nothing.
type particulars struct {
	admin.Particulars
	contract string
}

func (p *particulars) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.FullName, "full-name", "", "the person's full `NAME`")
	f.StringVar(&p.Mail, "mail", "", "mail `ADDRESS`")
	f.StringVar(&p.Company, "company", "", "a supplier's `COMPANY`")
	f.StringVar(&p.Sponsor, "sponsor", "", "`PERSON` of the staff who answers for a supplier's engineer")
	f.StringVar(&p.Owner, "owner", "", "`PERSON` of the staff who answers for a service or break-glass identity")
	f.StringVar(&p.contract, "contract-end", "", "last `DAY` of the contract, for example 2026-12-31; --until follows it")
}

func (p *particulars) check() error {
	if err := p.Contract.UnmarshalText([]byte(p.contract)); err != nil {
		return usagef("--contract-end: %w", err)
	}
	return nil
}

// set are those that were given.
func (p *particulars) set(changed func(flag string) bool) (in admin.ParticularsSet) {
	for flag, to := range map[string]struct {
		field **string
		value *string
	}{
		"full-name": {&in.FullName, &p.FullName}, "mail": {&in.Mail, &p.Mail}, "company": {&in.Company, &p.Company},
		"sponsor": {&in.Sponsor, &p.Sponsor}, "owner": {&in.Owner, &p.Owner},
	} {
		if changed(flag) {
			*to.field = to.value
		}
	}
	if changed("contract-end") {
		in.Contract = &p.Contract
	}
	return in
}

// particularRows are those that are known of a person.
func particularRows(p login.Person) (rows [][]string) {
	for _, r := range [][2]string{
		{"full name", p.FullName}, {"mail", p.Mail}, {"company", p.Company}, {"sponsor", p.Sponsor}, {"owner", p.Owner}, {"contract end", p.Contract.String()},
	} {
		if r[1] != "" {
			rows = append(rows, []string{r[0], r[1]})
		}
	}
	return rows
}

// warn says what was done all the same, and should be known.
func (c *cli) warn(list []string) {
	for _, w := range list {
		fmt.Fprintf(c.stderr, "warning: %s\n", printable(w))
	}
}

func (c *cli) userList() *cobra.Command {
	var in admin.UserList
	var kinds []string
	var gaps bool
	cmd := &cobra.Command{
		Use: "list", Short: "List people", Args: cobra.NoArgs,
		Long: `Lists people, all or those that the flags describe. With --gaps, lists what an auditor would ask about: people whom a rule is for and who
have no active token or no password, tokens and keys never used, people who have not logged in for long, suppliers without company, sponsor
or end, service and break-glass identities without an owner, those whose sponsor or owner has left, and contracts that are over. Groups
that only a directory knows are not asked for.`,
		Example: "  sallyport user list\n  sallyport user list --kind supplier,service --group network\n  sallyport user list --dormant 45d\n  sallyport user list --gaps\n" +
			"  sallyport user list --json | jq -r .name",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range kinds {
				in.Kinds = append(in.Kinds, login.PersonKind(k))
			}
			return c.with(cmd, func(caller admin.Caller) error {
				if gaps {
					return c.userGaps(cmd.Context(), caller, admin.GapsIn{Dormant: in.Dormant})
				}
				var people []admin.UserRow
				if err := caller.Call(cmd.Context(), "user.list", in, &people); err != nil {
					return err
				}
				return printList(c, people, []string{"NAME", "KIND", "GROUPS", "TOKENS", "KEYS", "UNTIL", "DISABLED", "LAST LOGIN"}, func(p admin.UserRow) []string {
					return []string{p.Name, string(p.Kind), strings.Join(p.Groups, ","), fmt.Sprint(p.Tokens), fmt.Sprint(p.Keys), day(p.Until), yesNo(p.Disabled), day(p.Last)}
				})
			})
		},
	}
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only these `KIND`s: staff, supplier, service, break-glass")
	cmd.Flags().StringVar(&in.Group, "group", "", "only people in this `GROUP`")
	cmd.Flags().BoolVar(&in.Disabled, "disabled", false, "only those who are disabled")
	cmd.Flags().Var((*span)(&in.Dormant), "dormant", "only those who were not let in for so `LONG`, for example 45d")
	cmd.Flags().BoolVar(&gaps, "gaps", false, "list what is missing or out of use instead")
	for _, other := range []string{"kind", "group", "disabled"} {
		cmd.MarkFlagsMutuallyExclusive("gaps", other)
	}
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"staff", "supplier", "service", "break-glass"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) userGaps(ctx context.Context, caller admin.Caller, in admin.GapsIn) error {
	var gaps []admin.Gap
	if err := caller.Call(ctx, "user.gaps", in, &gaps); err != nil {
		return err
	}
	return printList(c, gaps, []string{"NAME", "KIND", "GAP", "WHAT"}, func(g admin.Gap) []string {
		return []string{g.Person, string(g.Kind), g.Gap, g.Text}
	})
}
