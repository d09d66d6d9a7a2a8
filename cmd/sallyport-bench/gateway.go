package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sallyport/otp"
)

// gatewayConf replaces what init wrote: one client that checked the password itself, and one rule. The lock-out is
// wider than the default because HOTP codes collide: of 300,000 codes of six digits, tried against ten counters each,
// about three match a later counter than theirs. That person's next codes are then refused as used, and with the default
// the lock that follows would refuse the rest of the run.
const gatewayConf = `data: ./data
node: bench

login:
  first_factor: local
  skew: 1
%[1]s  lock: {after: 50, for: 1m, hard_after: 100, hard_for: 30m}

radius:
  listen: [127.0.0.1:%[2]d]
%[4]s  clients:
    - name: bench
      address: 127.0.0.1/32
      secret: %[3]s
      mode: code
      class: remote
%[5]s
rules:
  - name: bench
    groups: [network]
    to: ["*"]
    may: [login]
`

// buildGateway builds the gateway as it is released, unless a binary is given.
func buildGateway(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "sallyport")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "sallyport/cmd/sallyport")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	return path, nil
}

// startGateway makes a gateway in dir, with so many people and a token of that type for each, and runs it. Doors and clients
// are further lines of its configuration.
func startGateway(ctx context.Context, binary, dir, secret string, people int, tokens otp.Type, lookAhead int, doors, clients string) (*server, error) {
	if err := command(ctx, binary, "init", dir); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	ahead := ""
	if lookAhead > 0 {
		ahead = fmt.Sprintf("  look_ahead: %d\n", lookAhead)
	}
	file := filepath.Join(dir, "sallyport.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(gatewayConf, ahead, port, secret, doors, clients)), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: "Sallyport " + strings.ToUpper(string(tokens)), addr: fmt.Sprintf("127.0.0.1:%d", port), secret: secret, conf: file, strict: true}
	if s.crowd, err = provision(ctx, binary, file, secret, people, tokens); err != nil {
		return nil, err
	}
	return s, s.startServing(ctx, binary, dir)
}

// startServing runs the gateway whose configuration is s.conf.
func (s *server) startServing(ctx context.Context, binary, dir string) error {
	if err := s.launch(exec.Command(binary, "-c", s.conf, "serve"), dir); err != nil {
		return err
	}
	if err := s.await(ctx, saysReady); err != nil {
		s.abandon()
		return err
	}
	return nil
}

// saysReady tells the gateway's line that says so.
func saysReady(line string) bool {
	return line == "ready" || strings.Contains(line, "msg=ready") || strings.Contains(line, `"msg":"ready"`)
}

// provision makes people and their tokens while the gateway is down.
func provision(ctx context.Context, binary, file, secret string, people int, tokens otp.Type) (*crowd, error) {
	out := filepath.Join(filepath.Dir(file), "tokens.jsonl")
	err := command(ctx, binary, "-c", file, "dev", "provision", "--people", fmt.Sprint(people), "--group", "network", "--type", string(tokens), "--out", out)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(out)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := readCrowd(f, secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", out, err)
	}
	if len(c.people) != people {
		return nil, fmt.Errorf("%s has %d people: want %d", out, len(c.people), people)
	}
	for _, p := range c.people {
		if p.params.Type != tokens || p.params != c.people[0].params {
			return nil, fmt.Errorf("%s: a token of %s is %+v: want %s, and all alike", out, p.name, p.params, tokens)
		}
	}
	return c, nil
}

// proof is what the gateway's own `audit verify` says of the records after the run, with the gateway down.
type proof struct {
	cell
	Answers int     `json:"answers"` // that the load generator saw, acceptances and refusals
	Records int64   `json:"records"` // that verify
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes"` // of the data folder
}

// prove verifies the gateway's log: decisions without a record would make the figures worthless.
func prove(ctx context.Context, binary string, c *cell) (proof, error) {
	p := proof{cell: *c, Answers: c.answers}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, binary, "-c", c.srv.conf, "--json", "audit", "verify")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return p, fmt.Errorf("sallyport audit verify: %w\n%s", err, stderr.String())
	}
	var report struct {
		Verified bool
		Size     int64
	}
	if err := json.Unmarshal(out, &report); err != nil || !report.Verified {
		return p, fmt.Errorf("sallyport audit verify says %q (%w)", out, err)
	}
	p.Seconds, p.Records = time.Since(begin).Seconds(), report.Size
	err = filepath.WalkDir(c.disk, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			p.Bytes += info.Size()
		}
		return err
	})
	return p, err
}

func command(ctx context.Context, binary string, args ...string) error {
	out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("sallyport %s: %w", strings.Join(args, " "), err), errors.New(strings.TrimSpace(string(out))))
	}
	return nil
}
