package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/otp"
)

// devCommand holds what only benchmarks and tests need. It is hidden from help.
func (c *cli) devCommand() *cobra.Command {
	var people int
	var group, out, typ string
	provision := &cobra.Command{
		Use: "provision", Short: "Make many people with tokens, for a benchmark", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			a, err := openApp(cmd.Context(), cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), time.Now)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			if err != nil {
				return errors.Join(err, a.close())
			}
			w := bufio.NewWriter(f)
			params := otp.Default()
			if params.Type = otp.Type(strings.ToLower(typ)); params.Type == otp.TypeHOTP {
				params.Period = 0
			}
			bar := c.progress("people", uint64(people))
			err = a.admin.Provision(admin.WithActor(cmd.Context(), admin.Actor{Name: admin.UserName(os.Getuid()), Road: "cli"}), people, group, params, func(person, uri string, n int) error {
				bar.at(uint64(n))
				return json.NewEncoder(w).Encode(map[string]string{"person": person, "uri": uri})
			})
			bar.done()
			err = errors.Join(err, w.Flush(), f.Close(), a.close())
			if err == nil {
				fmt.Fprintf(c.stderr, "made %d people\n", people)
			}
			return err
		},
	}
	provision.Flags().IntVar(&people, "people", 1000, "how many")
	provision.Flags().StringVar(&group, "group", "network", "their group")
	provision.Flags().StringVar(&out, "out", "tokens.jsonl", "`FILE` for person and otpauth URI, one object a line")
	provision.Flags().StringVar(&typ, "type", "totp", "totp or hotp")
	n := noun("dev", "For benchmarks and tests", provision)
	n.Hidden = true
	return n
}
