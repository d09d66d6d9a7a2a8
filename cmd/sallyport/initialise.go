package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/config"
	"sallyport/internal/recording"
	"sallyport/internal/seal"
	"sallyport/sshgw"
)

func (c *cli) initCommand() *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use: "init DIR", Short: "Make a configuration, keys and a database", Args: cobra.ExactArgs(1),
		Long: `Writes DIR/sallyport.yaml, commented, and all that serve needs on loopback: keys and an empty database in
DIR/data, a RADIUS client for this machine with a secret of its own, and DIR/auditor.key, which reads recordings of sessions and
belongs somewhere else. It replaces nothing, and asks nothing.`,
		Example: "  sallyport init /etc/sallyport\n  sallyport -c /etc/sallyport/sallyport.yaml serve",
		RunE: func(cmd *cobra.Command, args []string) error {
			values := config.SampleValues{Node: node}
			if node == "" {
				host, err := os.Hostname()
				if err != nil {
					return hintf("name it with --node", "name of this node: %w", err)
				}
				node = host
			}
			ctx := admin.WithActor(cmd.Context(), admin.Actor{Name: admin.UserName(os.Getuid()), Road: "cli"})
			made, err := initialise(ctx, args[0], node, values)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(made)
			}
			_, err = fmt.Fprintf(c.stdout, `made %[1]s, with keys and a database in %[2]s
move %[3]s off this machine, to the auditors: it reads recordings of sessions, and the gateway does not need it
next:
  export SALLYPORT_CONFIG=%[1]s
  sallyport user add alice --group network --password
  sallyport token enrol alice
  sallyport serve
`, made.Config, made.Data, made.AuditorKey)
			return err
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "this gateway's name in the records (default: the machine's)")
	return cmd
}

// initialised is what init made.
type initialised struct {
	Config    string `json:"config"`
	Data      string `json:"data"`
	PublicKey string `json:"public_key"`

	AuditorKey string `json:"auditor_key"` // file of the key that reads recordings
	Recipient  string `json:"recipient"`   // its public half
}

// auditorFile is the name of the auditor's key as long as it lies beside the configuration.
const auditorFile = "auditor.key"

// notOrigin is what a log's origin, the name of its key, should not hold.
var notOrigin = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// initialise makes DIR whole, or leaves it as it was.
func initialise(ctx context.Context, dir, node string, values config.SampleValues) (made initialised, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return made, err
	}
	file, p := filepath.Join(dir, "sallyport.yaml"), layout(filepath.Join(dir, "data"))
	made.AuditorKey = filepath.Join(dir, auditorFile)
	for _, there := range []string{file, p.data, made.AuditorKey} {
		if _, err := os.Lstat(there); !errors.Is(err, fs.ErrNotExist) {
			return made, hintf("choose another folder, or move it away", "%s is there already: init replaces nothing", there)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return made, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(p.data), removeIfThere(file), removeIfThere(made.AuditorKey))
		}
	}()
	for _, folder := range []string{p.data, p.keys, p.journal} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return made, err
		}
	}
	if _, err := seal.Create(p.ring, time.Now()); err != nil {
		return made, err
	}
	if made.PublicKey, err = createAuditKey(p, node); err != nil {
		return made, err
	}
	if _, err := sshgw.CreateHostKey(p.hostKey); err != nil {
		return made, err
	}
	if _, err := createAuthorities(p); err != nil {
		return made, err
	}
	secret := []byte(rand.Text() + rand.Text()[:6] + "\n") // 160 bits, 32 characters
	if err := writeNew(filepath.Join(p.keys, "radius-local.secret"), secret, 0o600); err != nil {
		return made, err
	}
	var auditor []byte
	if auditor, made.Recipient, err = recording.NewIdentity(time.Now()); err != nil {
		return made, err
	}
	if err := writeNew(made.AuditorKey, auditor, 0o600); err != nil {
		return made, err
	}
	values.Recipient = made.Recipient
	values.SecretFile = filepath.Join("data", "keys", "radius-local.secret")
	if err := writeNew(file, config.Sample(values), 0o600); err != nil {
		return made, err
	}
	noEnv := func(string) (string, bool) { return "", false }
	cfg, err := config.Load(file, noEnv)
	if err != nil {
		return made, err
	}
	if cfg.Node == "" {
		cfg.Node = node
	}
	a, err := openApp(ctx, cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), time.Now)
	if err != nil {
		return made, err
	}
	if err := a.admin.Record(ctx, "log.start", audit.Info, "ok", audit.Detail{Key: "public_key", Value: made.PublicKey}); err != nil {
		return made, errors.Join(err, a.close())
	}
	made.Config, made.Data = file, p.data
	return made, a.close()
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func createAuditKey(p paths, node string) (string, error) {
	origin := strings.Trim(notOrigin.ReplaceAllString(node, "-"), "-") + "/sallyport/" + strings.ToLower(rand.Text()[:8])
	secret, public, err := audit.NewKey(origin)
	if err != nil {
		return "", err
	}
	if err := writeNew(p.auditKey, []byte(secret+"\n"), 0o600); err != nil {
		return "", err
	}
	return public, writeNew(p.auditPublic, []byte(public+"\n"), 0o644)
}

// writeNew writes a file that was not there, and makes it durable.
func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}
