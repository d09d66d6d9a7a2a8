package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/admin"
	"sallyport/internal/alert"
	"sallyport/internal/audit"
	"sallyport/internal/config"
	"sallyport/internal/firstfactor"
	"sallyport/internal/journal"
	"sallyport/internal/login"
	"sallyport/internal/report"
	"sallyport/internal/seal"
	"sallyport/internal/store"
	"sallyport/radiusd"
)

// paths are the files of a data folder.
type paths struct {
	data, keys, journal, database, index, checkpoint, socket string
	clients                                                  string // what was seen of RADIUS clients
	ring, auditKey, auditPublic, hostKey                     string
}

func layout(data string) paths {
	keys := filepath.Join(data, "keys")
	return paths{
		data: data, keys: keys,
		journal:     filepath.Join(data, "journal"),
		database:    filepath.Join(data, "sallyport.db"),
		index:       filepath.Join(data, "records.db"),
		checkpoint:  filepath.Join(data, "checkpoint"),
		clients:     filepath.Join(data, "clients.json"),
		socket:      filepath.Join(data, "sallyport.sock"),
		ring:        filepath.Join(keys, "ring.json"),
		auditKey:    filepath.Join(keys, "audit.key"),
		auditPublic: filepath.Join(keys, "audit.pub"),
		hostKey:     filepath.Join(keys, "ssh_host_ed25519_key"),
	}
}

const hintInit = "`sallyport init DIR` makes a configuration and all that it needs"

// configFile finds the configuration: -c, then the environment, then the usual places.
func (c *cli) configFile() (string, error) {
	if c.configPath != "" {
		return c.configPath, nil
	}
	if path, ok := c.env("SALLYPORT_CONFIG"); ok && path != "" {
		return path, nil
	}
	const here, system = "sallyport.yaml", "/etc/sallyport/sallyport.yaml"
	for _, path := range []string{here, system} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", hintf(hintInit+"; -c FILE names one", "no configuration: neither ./%s nor %s is there", here, system)
}

// load reads the configuration and checks all that can be checked without opening anything.
func (c *cli) load() (*config.Config, error) {
	path, err := c.configFile()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(path, c.env)
	if errors.Is(err, os.ErrNotExist) {
		return nil, hintf(hintInit, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	if problems := checkReplies(cfg); len(problems) > 0 {
		return nil, problems
	}
	if cfg.Node == "" {
		if cfg.Node, err = os.Hostname(); err != nil {
			return nil, hintf("set `node` in the configuration", "name of this node: %w", err)
		}
	}
	return cfg, nil
}

// app is the opened gateway without its listeners: what a daemon and a command in its own process share.
type app struct {
	paths  paths
	ring   *seal.Ring
	store  *store.Store
	log    *audit.Log
	gate   *login.Gate
	admin  *admin.Service
	index  *indexer
	feed   *feed
	alerts *alert.Follower
	slog   *slog.Logger

	turn  chan struct{}                           // of whoever makes a report: one at a time
	parts func(context.Context) []report.Standing // set by who serves, before it does; nil: nobody does

	killSSH func(id, why string) bool // set by who serves SSH, before it does
	serving *radiusd.Server           // set by who serves RADIUS, before it does; nil: nobody does
	clock   *clockWatch               // set by who serves, before it does; nil: nobody does

	syncing sync.Mutex // held while people follow a directory

	mu     sync.Mutex
	cfg    *config.Config          // guarded by mu, once the app serves
	system map[string]login.System // guarded by mu

	retaining sync.Mutex // one run of the retention at a time
	trusted   trusted    // guarded by mu

	unlock func() error
}

// readSigner reads the key that signs checkpoints.
func readSigner(p paths) (note.Signer, note.Verifier, string, error) {
	secret, err := os.ReadFile(p.auditKey)
	if err != nil {
		return nil, nil, "", hintf(hintInit, "key of the log: %w", err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(secret)))
	clear(secret)
	if err != nil {
		return nil, nil, "", fmt.Errorf("%s is no signing key", p.auditKey)
	}
	public, err := os.ReadFile(p.auditPublic)
	if err != nil {
		return nil, nil, "", fmt.Errorf("public key of the log: %w", err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(public)))
	if err != nil {
		return nil, nil, "", fmt.Errorf("%s: %w", p.auditPublic, err)
	}
	return signer, verifier, strings.TrimSpace(string(public)), nil
}

// openApp opens the data folder, which one process at a time may have. Replay brings memory and database to where
// the journal says they are.
func openApp(ctx context.Context, cfg *config.Config, logger *slog.Logger, now func() time.Time) (_ *app, err error) {
	p := layout(cfg.Data)
	if _, err := os.Stat(p.ring); err != nil {
		return nil, hintf(hintInit, "data folder %s: %w", p.data, err)
	}
	a := &app{cfg: cfg, paths: p, slog: logger, feed: newFeed()}
	if a.unlock, err = journal.LockDir(p.data); err != nil {
		return nil, fmt.Errorf("data folder %s: %w", p.data, err)
	}
	defer func() {
		if err != nil {
			a.release()
		}
	}()
	if a.ring, err = seal.Load(p.ring); err != nil {
		return nil, err
	}
	signer, verifier, public, err := readSigner(p)
	if err != nil {
		return nil, err
	}
	if a.store, err = store.Open(ctx, store.Options{Path: p.database, Sealer: a.ring, Log: logger}); err != nil {
		return nil, err
	}
	local, err := firstfactor.NewLocal(a.store, passwordCost(cfg))
	if err != nil {
		return nil, err
	}
	a.gate, err = login.New(login.Options{First: local, Now: now, Policy: gatePolicy(cfg), Blind: a.blind})
	if err != nil {
		return nil, err
	}
	if err := a.replay(ctx, signer, verifier, now); err != nil {
		return nil, err
	}
	if err := a.loadRoster(ctx); err != nil {
		return nil, err
	}
	a.gate.SetLog(a.log)
	if a.index, err = openIndexer(ctx, p.index, a.log, a.feed, logger); err != nil {
		return nil, err
	}
	a.useSystems(cfg)
	a.alerts = alert.NewFollower(alertLog{a.log}, a.store, now)
	a.admin = admin.New(admin.Options{
		Gate: a.gate, Store: a.store, Log: a.log, Finder: a.index, Now: now, Slog: logger, Node: cfg.Node, Issuer: "Sallyport",
		PublicKey: public,
		Hash: func(s login.Secret) (string, error) {
			a.mu.Lock()
			cost := passwordCost(a.cfg)
			a.mu.Unlock()
			return firstfactor.Hash(s, cost)
		},
		Seal:   func(change []byte) []byte { return a.ring.Seal(changePurpose, "", change) },
		Retain: a.retainAsked,
		System: a.findSystem, End: a.endSession, Change: a.change, Firsts: a.firsts,
		Operator: a.operator, IsAdmin: a.isAdmin, FourEyes: a.fourEyes, Examine: a.examine, Directory: a.directoryGroups, Targets: targets{a}, Alerts: a.alerts, People: a.peopleRules,
	})
	a.proofVerbs()
	a.reportVerbs()
	a.peopleVerbs()
	return a, nil
}

// The ring's purposes for what this package seals and blinds.
const (
	changePurpose = "journal-change"
	namePurpose   = "unknown-login"
)

// blind is how a stranger's name is recorded: the same name gives the same word, and the word gives no name without
// the ring.
func (a *app) blind(name string) string {
	sum := a.ring.MAC(namePurpose, []byte(name))
	return "hmac:" + hex.EncodeToString(sum[:8])
}

// replay opens the log, and lets gate and store take from it what they missed.
func (a *app) replay(ctx context.Context, signer note.Signer, verifier note.Verifier, now func() time.Time) error {
	applied, err := a.store.Applied(ctx)
	if err != nil {
		return err
	}
	var missed []store.Numbered
	var from *uint64 // the first record that is replayed
	a.log, err = audit.Open(audit.Options{
		Dir: a.paths.journal, Node: a.cfg.Node, Signer: signer, Verifier: verifier, Now: now, CheckpointFile: a.paths.checkpoint,
		Durable: a.feed.put, Restore: a.gate.Restore,
		Replay: func(rec *audit.Record, sealed []byte) error {
			if from == nil {
				seq := rec.Seq
				from = &seq
			}
			if err := a.gate.Replay(rec); err != nil {
				return err
			}
			if len(sealed) == 0 || rec.Seq < applied {
				return nil
			}
			c, err := a.openChange(sealed)
			if err != nil {
				return fmt.Errorf("change of record %d: %w", rec.Seq, err)
			}
			missed = append(missed, store.Numbered{Seq: rec.Seq, Change: c})
			return nil
		},
	})
	if err != nil {
		return err
	}
	for _, what := range a.log.Repaired() {
		a.slog.Warn("a crash had left something unfinished, and it is mended", "what", what)
	}
	if next := a.log.Next(); applied > next {
		return hintf("put the journal's folder back as it was; an older copy is checked by `sallyport audit verify`",
			"records are missing: the database holds changes up to record %d, and the log ends before record %d", applied-1, next)
	}
	if next := a.log.Next(); from == nil {
		from = &next
	}
	if applied < *from {
		return hintf("put back a newer copy of the database",
			"the database is older than the journal's snapshot: it holds changes up to record %d, and the snapshot stands at %d", applied, *from)
	}
	if len(missed) > 0 {
		a.slog.Warn("changes that a crash cut off are finished now", "changes", len(missed), "first_record", missed[0].Seq)
	}
	return a.store.CatchUp(ctx, applied, a.log.Next(), missed)
}

// openChange opens an admin verb's change as the journal keeps it.
func (a *app) openChange(sealed []byte) (c login.Change, err error) {
	raw, err := a.ring.Open(changePurpose, "", sealed)
	if err != nil {
		return c, err
	}
	defer clear(raw)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if d.Decode(&c) != nil { // the decoder's own error might quote a secret
		return c, errors.New("it is of another version")
	}
	return c, nil
}

func (a *app) loadRoster(ctx context.Context) error {
	if err := a.store.People(ctx, func(p login.Person) error {
		a.gate.Apply(login.Change{PutPerson: &p})
		return nil
	}); err != nil {
		return err
	}
	if err := a.store.Tokens(ctx, func(t login.Token) error {
		a.gate.Apply(login.Change{PutToken: &t})
		return nil
	}); err != nil {
		return err
	}
	if err := a.store.Keys(ctx, func(k login.Key) error {
		a.gate.Apply(login.Change{PutKey: &k})
		return nil
	}); err != nil {
		return err
	}
	if err := a.store.Exceptions(ctx, func(x login.Exception) error {
		a.gate.Apply(login.Change{PutException: &x})
		return nil
	}); err != nil {
		return err
	}
	if err := a.store.TimedGrants(ctx, func(x login.TimedGrant) error {
		a.gate.Apply(login.Change{PutGrant: &x})
		return nil
	}); err != nil {
		return err
	}
	if err := a.store.Tickets(ctx, func(x login.Ticket) error {
		a.gate.Apply(login.Change{PutTicket: &x})
		return nil
	}); err != nil {
		return err
	}
	return a.loadTargets(ctx)
}

// useSystems makes the systems of a configuration known to the verbs.
func (a *app) useSystems(cfg *config.Config) {
	systems := systemsOf(cfg)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.system, a.cfg = systems, cfg
}

func (a *app) findSystem(name string) (login.System, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.system[name]
	return s, ok
}

// snapshot keeps the gate's state, so that the next start need not replay what is before it.
func (a *app) snapshot(ctx context.Context) error {
	return a.gate.Snapshot(func(state []byte) error {
		applied, err := a.store.Applied(ctx)
		if err != nil {
			return err
		}
		// The next replay begins here, and will look for no change before.
		if err := a.store.CatchUp(ctx, applied, a.log.Next(), nil); err != nil {
			return err
		}
		return a.log.Snapshot(state)
	})
}

// close ends the app in the order in which things stand on each other. The log's last checkpoint is signed here.
func (a *app) close() error {
	var errs []error
	if a.index != nil {
		errs = append(errs, a.index.close())
	}
	return errors.Join(append(errs, a.release())...)
}

func (a *app) release() error {
	var errs []error
	if a.log != nil {
		errs = append(errs, a.log.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.unlock != nil {
		errs = append(errs, a.unlock())
	}
	return errors.Join(errs...)
}

// How long a command waits for another that has the data folder, and how often it looks.
const (
	lockPatience = 5 * time.Second
	lockLook     = 25 * time.Millisecond
)

// open gives a caller of verbs: the daemon's socket when one answers, else this process with the data folder. While
// another command has the folder, it waits.
func (c *cli) open(ctx context.Context) (admin.Caller, func() error, error) {
	if _, named := c.env(socketEnv); named {
		if caller, done, ok := c.dialOperators(nil); ok {
			return caller, done, nil
		}
	}
	cfg, err := c.load()
	if err != nil {
		if caller, done, ok := c.openDespite(); ok {
			return caller, done, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			if caller, done, ok := c.dialOperators(nil); ok {
				return caller, done, nil
			}
		}
		return nil, nil, noAccess(err)
	}
	tick := time.NewTicker(lockLook)
	defer tick.Stop()
	for deadline := time.Now().Add(lockPatience); ; {
		caller, done, err := openOnce(ctx, cfg)
		if errors.Is(err, fs.ErrPermission) {
			if caller, done, ok := c.dialOperators(cfg); ok {
				return caller, done, nil
			}
			return nil, nil, noAccess(err)
		}
		if !errors.Is(err, journal.ErrLocked) || time.Now().After(deadline) {
			return caller, done, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-tick.C:
		}
	}
}

// openDespite reaches a running gateway although its configuration file is wrong just now: the gateway goes on with the
// one that it has.
func (c *cli) openDespite() (admin.Caller, func() error, bool) {
	path, err := c.configFile()
	if err != nil {
		return nil, nil, false
	}
	data := config.DataOf(path)
	if data == "" {
		return nil, nil, false
	}
	return dialDaemon(data)
}

// dialDaemon reaches the gateway that serves from a data folder, if one does.
func dialDaemon(data string) (admin.Caller, func() error, bool) {
	path, cleanup, err := shortPath(layout(data).socket)
	if err != nil {
		return nil, nil, false
	}
	conn, err := net.DialTimeout("unix", path, 2*time.Second)
	if err != nil {
		_ = cleanup()
		return nil, nil, false
	}
	conn.Close()
	client := admin.NewClient(path)
	return client, func() error { client.Close(); return cleanup() }, true
}

func openOnce(ctx context.Context, cfg *config.Config) (admin.Caller, func() error, error) {
	if caller, done, ok := dialDaemon(cfg.Data); ok {
		return caller, done, nil
	}
	a, err := openApp(ctx, cfg, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return nil, nil, err
	}
	caller := local{a.admin, admin.Actor{Name: admin.UserName(os.Getuid()), Road: "cli", UID: os.Getuid()}}
	return caller, a.close, nil
}

// local carries out verbs in this process, for the user who runs it.
type local struct {
	*admin.Service
	actor admin.Actor
}

func (l local) Call(ctx context.Context, verb string, in, out any) error {
	return l.Service.Call(admin.WithActor(ctx, l.actor), verb, in, out)
}

func (l local) Stream(ctx context.Context, verb string, in any, w io.Writer) error {
	return l.Service.Stream(admin.WithActor(ctx, l.actor), verb, in, w)
}

// maxSocketPath is what fits sun_path, with its NUL (unix(7)).
const maxSocketPath = 107

// shortPath gives a name for the socket that fits, by way of a descriptor of its folder where it must.
func shortPath(path string) (string, func() error, error) {
	if len(path) <= maxSocketPath {
		return path, func() error { return nil }, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), dir.Close, nil
}
