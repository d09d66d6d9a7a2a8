package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	pquerna "github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"sallyport/internal/admin"
	"sallyport/internal/config"
	"sallyport/otp"
	"sallyport/sshgw"
)

// demoInfo is all that somebody needs to try the demo.
type demoInfo struct {
	Folder       string `json:"folder"`
	Config       string `json:"config"`
	RADIUS       string `json:"radius"` // address
	SSH          string `json:"ssh"`    // address
	Metrics      string `json:"metrics"`
	Secret       string `json:"secret"` // RADIUS
	Person       string `json:"person"`
	Password     string `json:"password"`
	URI          string `json:"uri"` // otpauth
	Code         string `json:"code"`
	Target       string `json:"target"`
	TargetHost   string `json:"target_address"`
	Account      string `json:"account"`
	SSHConfig    string `json:"ssh_config"`
	KnownHosts   string `json:"known_hosts"`
	PublicKey    string `json:"public_key"`
	RADIUSClient string `json:"radius_client"`
}

const (
	demoPerson   = "alice"
	demoPassword = "correct horse battery"
	demoTargetID = "demo-target"
	demoAccount  = "demo"
)

func (c *cli) demoCommand() *cobra.Command {
	var lasting time.Duration
	cmd := &cobra.Command{
		Use: "demo", Short: "Run a whole gateway on loopback, with a sample person and what to type", Args: cobra.NoArgs,
		Long: `Makes a gateway in a temporary folder, with a person, a token and a built-in SSH target, runs it on free ports of
loopback, and prints what to type in another terminal. It stops, and removes the folder, at an interrupt.`,
		Example: "  sallyport demo\n  sallyport demo --for 30s --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if lasting > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, lasting)
				defer cancel()
			}
			return c.demo(ctx)
		},
	}
	cmd.Flags().DurationVar(&lasting, "for", 0, "stop by itself after this time, for example 30s")
	return cmd
}

// demo runs until ctx ends.
func (c *cli) demo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "sallyport-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	target, err := newDemoTarget()
	if err != nil {
		return err
	}
	targetDone := make(chan struct{})
	targetCtx, stopTarget := context.WithCancel(context.WithoutCancel(ctx))
	go func() { defer close(targetDone); target.serve(targetCtx) }()
	defer func() { stopTarget(); <-targetDone }()

	info, cfg, err := prepareDemo(ctx, dir, target)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return c.serve(ctx, cfg, serveOptions{log: logger, ready: func(g *gateway) {
		if err := info.complete(g); err != nil {
			logger.Error("the demo's SSH files were not written", "error", err)
		}
		if c.json {
			if err := c.printJSON(info); err != nil {
				logger.Error("the demo's answer was not written", "error", err)
			}
			return
		}
		info.print(c.stdout)
	}})
}

// prepareDemo makes folder, configuration, person and token.
func prepareDemo(ctx context.Context, dir string, target *demoTarget) (*demoInfo, *config.Config, error) {
	home := filepath.Join(dir, "sallyport")
	made, err := initialise(ctx, home, "demo", config.SampleValues{})
	if err != nil {
		return nil, nil, err
	}
	info := &demoInfo{
		Folder: home, Config: made.Config, PublicKey: made.PublicKey, Person: demoPerson, Password: demoPassword,
		Target: demoTargetID, TargetHost: target.listener.Addr().String(), Account: demoAccount, RADIUSClient: "local",
		SSHConfig: filepath.Join(home, "ssh_config"), KnownHosts: filepath.Join(home, "known_hosts"),
	}
	secret, err := os.ReadFile(filepath.Join(layout(made.Data).keys, "radius-local.secret"))
	if err != nil {
		return nil, nil, err
	}
	info.Secret = strings.TrimSpace(string(secret))
	if err := os.WriteFile(made.Config, []byte(demoConfig(info, made.Recipient, ssh.FingerprintSHA256(target.key))), 0o600); err != nil {
		return nil, nil, err
	}
	cfg, err := config.Load(made.Config, func(string) (string, bool) { return "", false })
	if err != nil {
		return nil, nil, err
	}
	a, err := openApp(ctx, cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), time.Now)
	if err != nil {
		return nil, nil, err
	}
	caller := local{a.admin, admin.Actor{Name: admin.UserName(os.Getuid()), Road: "cli"}}
	var token admin.TokenEnrolled
	err = caller.Call(ctx, "user.add", admin.UserAdd{Name: demoPerson, Groups: []string{"network"}, Password: demoPassword}, nil)
	if err == nil {
		err = caller.Call(ctx, "token.enrol", admin.TokenEnrol{Person: demoPerson, Params: otp.Default(), Active: true}, &token)
	}
	info.URI = token.URI
	return info, cfg, errors.Join(err, a.close())
}

// demoConfig is the demo's configuration: free ports, the built-in target, and a reply that can be seen to arrive.
func demoConfig(info *demoInfo, recipient, hostKey string) string {
	return fmt.Sprintf(`# Configuration of a demo. It is gone when the demo ends.
data: ./data
node: demo
radius:
  listen: ["127.0.0.1:0"]
  accounting: []
  clients:
    - {name: local, address: 127.0.0.1/32, secret_file: data/keys/radius-local.secret, mode: challenge, class: remote, tags: [vpn]}
ssh:
  listen: ["127.0.0.1:0"]
  targets:
    - {name: %s, address: %q, account: %s, credential: ca, host_key: %q, jump: recorded, class: privileged-internal, tags: [network]}
recording: {recipients: [%s], low_water: 0}
rules:
  - name: network team
    groups: [network]
    to: [tag:network, tag:vpn]
    may: [login, shell, exec, sftp, forward]
    need: [know, have]
    record: required
    idle: 15m
    max: 12h
    reply: {Class: [network], Cisco-AVPair: ["shell:priv-lvl=15"]}
metrics: {listen: "127.0.0.1:0"}
`, info.Target, info.TargetHost, info.Account, hostKey, recipient)
}

// complete fills in what is known only when the gateway listens.
func (d *demoInfo) complete(g *gateway) error {
	d.RADIUS, d.SSH, d.Metrics = g.sockets.radiusNames()[0], g.sockets.sshNames()[0], g.sockets.metricsName()
	key, err := pquerna.NewKeyFromURL(d.URI)
	if err != nil {
		return err
	}
	if d.Code, err = totp.GenerateCode(key.Secret(), time.Now()); err != nil {
		return err
	}
	host, err := sshgw.LoadHostKey(layout(g.config().Data).hostKey)
	if err != nil {
		return err
	}
	ca, err := g.hostCA()
	if err != nil {
		return err
	}
	known := knownhosts.Line([]string{knownhosts.Normalize(d.SSH)}, host.PublicKey()) + "\n" +
		ca.KnownHosts([]string{d.Target}) + "\n"
	if err := os.WriteFile(d.KnownHosts, []byte(known), 0o600); err != nil {
		return err
	}
	ip, port, err := net.SplitHostPort(d.SSH)
	if err != nil {
		return err
	}
	return os.WriteFile(d.SSHConfig, fmt.Appendf(nil, `# Try: ssh -F %[1]s %[2]s
Host gw
  HostName %[3]s
  Port %[4]s
  User %[5]s
  PreferredAuthentications keyboard-interactive
Host %[2]s
  User %[6]s
  ProxyJump gw
Host *
  UserKnownHostsFile %[7]s
  IdentityFile none
`, d.SSHConfig, d.Target, ip, port, d.Person, d.Account, d.KnownHosts), 0o600)
}

func (d *demoInfo) print(w io.Writer) {
	_, port, _ := net.SplitHostPort(d.RADIUS)
	var qr bytes.Buffer
	if err := printQR(&qr, d.URI); err == nil && terminal(w) {
		fmt.Fprintln(w, qr.String())
	}
	fmt.Fprintf(w, `Sallyport runs on loopback. In another terminal:

  export SALLYPORT_CONFIG=%[1]s

Over SSH, to a target behind the gateway (password and a code; each is good once):
  ssh -F %[2]s %[3]s              by a jump, which is recorded
  ssh -F %[2]s %[5]s@%[3]s@gw     by the user name
  ssh -F %[2]s gw                 by a menu

Over RADIUS, with the built-in test client (it asks for password and code):
  go run ./cmd/sallyport client probe %[4]s --user %[5]s --secret-file %[6]s
or with FreeRADIUS's: the first packet is answered by a challenge, whose State goes with the code:
  printf 'User-Name=%[5]s\nUser-Password="%[7]s"\nMessage-Authenticator=0x00\n' | radclient -x 127.0.0.1:%[8]s auth %[9]s

What was decided, what was done, and the proof of it:
  go run ./cmd/sallyport audit search
  go run ./cmd/sallyport session list --past      then: session play SESSION
  go run ./cmd/sallyport audit verify

  person    %[5]s
  password  %[7]s
  code now  %[10]s   (each code once; the next one in at most 30 seconds)
  token     %[11]s
  metrics   http://%[12]s/metrics

Interrupt to stop; the folder is removed then.
`, d.Config, d.SSHConfig, d.Target, d.RADIUS, d.Person, filepath.Join(layout(filepath.Join(d.Folder, "data")).keys, "radius-local.secret"),
		d.Password, port, d.Secret, d.Code, d.URI, d.Metrics)
}
