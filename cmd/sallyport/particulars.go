package main

import (
	"fmt"

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
