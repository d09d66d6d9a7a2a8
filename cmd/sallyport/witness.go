package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/net/netutil"

	"sallyport/internal/audit/witness"
	"sallyport/internal/config"
	"sallyport/internal/journal"
)

// witnessPaths are the files of a witness.
type witnessPaths struct{ key, public, logs, state string }

func witnessLayout(dir string) witnessPaths {
	return witnessPaths{
		key: filepath.Join(dir, "witness.key"), public: filepath.Join(dir, "witness.pub"),
		logs: filepath.Join(dir, "logs"), state: filepath.Join(dir, "state"),
	}
}

func (c *cli) witnessCommand() *cobra.Command {
	return noun("witness", "A witness of other gateways' logs, for another site or the auditor", c.witnessInit(), c.witnessAddLog(), c.witnessServe())
}

func (c *cli) witnessInit() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "init DIR", Short: "Make a witness's key, and print its public half", Args: cobra.ExactArgs(1),
		Long: `Makes DIR with a key, an empty list of logs and a folder for what was signed. It needs no gateway, and belongs on a
machine that the gateways' administrators cannot write to. It replaces nothing.`,
		Example: "  sallyport witness init /var/lib/sallyport-witness --name witness.trust-b.nhs.uk/w1",
		RunE: func(_ *cobra.Command, args []string) error {
			if name == "" {
				host, err := os.Hostname()
				if err != nil {
					return hintf("name it with --name", "name of this witness: %w", err)
				}
				name = strings.Trim(notOrigin.ReplaceAllString(host, "-"), "-") + "/witness/" + strings.ToLower(rand.Text()[:8])
			}
			vkey, err := makeWitness(args[0], name)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]string{"name": name, "key": vkey, "dir": args[0]})
			}
			_, err = fmt.Fprintln(c.stdout, vkey)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the key's `NAME`, by convention a host and path (default: the machine's name and a random end)")
	return cmd
}

func makeWitness(dir, name string) (vkey string, err error) {
	skey, vkey, err := witness.NewKey(name)
	if err != nil {
		return "", err
	}
	p := witnessLayout(dir)
	for _, there := range []string{p.key, p.public, p.logs, p.state} {
		if _, err := os.Lstat(there); !errors.Is(err, fs.ErrNotExist) {
			return "", hintf("choose another folder: a witness's key must not be used again", "%s is there already: init replaces nothing", there)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.Mkdir(p.state, 0o700); err != nil {
		return "", err
	}
	return vkey, errors.Join(
		writeNew(p.logs, []byte(witness.LogListHeader+"\n"), 0o644),
		writeNew(p.public, []byte(vkey+"\n"), 0o644),
		writeNew(p.key, []byte(skey+"\n"), 0o600),
	)
}

func readWitnessKey(path string) (*witness.Signer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, hintf("`sallyport witness init DIR` makes it", "key of the witness: %w", err)
	}
	defer clear(b)
	s, err := witness.NewSigner(strings.TrimSpace(string(b)), time.Now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func readLogs(path string) ([]witness.Log, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, hintf("`sallyport witness init DIR` makes an empty one", "list of logs: %w", err)
	}
	logs, err := witness.ParseLogs(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return logs, nil
}

func (c *cli) witnessAddLog() *cobra.Command {
	var origin string
	cmd := &cobra.Command{
		Use: "add-log DIR KEYFILE", Short: "Let a witness know a log, by its public key", Args: cobra.ExactArgs(2),
		Long: `Adds the log whose public key is in KEYFILE (sallyport audit public-key writes it) to the list, and begins its state: nothing
signed yet. A second key of a log that is listed goes with the state that the log has. A witness that runs takes the list anew at SIGHUP.`,
		Example: "  sallyport witness add-log /var/lib/sallyport-witness gw1.pub && systemctl reload sallyport-witness",
		RunE: func(_ *cobra.Command, args []string) error {
			p := witnessLayout(args[0])
			v, err := readVerifier(args[1])
			if err != nil {
				return err
			}
			signer, err := readWitnessKey(p.key)
			if err != nil {
				return err
			}
			name, line := v.Name(), ""
			if origin != "" && origin != name {
				name, line = origin, "origin "+origin+"\n"
			}
			text, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			return c.addLog(p, signer, name, v, "vkey "+strings.TrimSpace(string(text))+"\n"+line)
		},
	}
	cmd.Flags().StringVar(&origin, "origin", "", "first line of the log's checkpoints, where it is not the key's name")
	return cmd
}

func (c *cli) addLog(p witnessPaths, signer *witness.Signer, origin string, v note.Verifier, lines string) error {
	logs, err := readLogs(p.logs)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(p.logs)
	if err != nil {
		return err
	}
	for _, l := range logs {
		for _, k := range l.Keys {
			if l.Origin == origin && k.Name() == v.Name() && k.KeyHash() == v.KeyHash() {
				return hintf("nothing is to be done", "log %s with this key is in %s already", printable(origin), p.logs)
			}
		}
	}
	if n := len(text); n > 0 && text[n-1] != '\n' {
		text = append(text, '\n')
	}
	text = append(text, "\n"+lines...)
	if _, err := witness.ParseLogs(string(text)); err != nil {
		return err
	}
	if slices.ContainsFunc(logs, func(l witness.Log) bool { return l.Origin == origin }) {
		if err := witness.Begun(p.state, origin, signer); err != nil {
			return hintf("the log is listed, so it had one: put it back, or retire this witness's key, which could sign a second history", "%w", err)
		}
	} else if err := witness.Begin(p.state, origin, signer); err != nil { // before it is listed: without one the witness does not start
		return err
	}
	if err := witness.WriteLogs(p.logs, string(text)); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "log %s is known; a witness that runs takes it at SIGHUP\n", printable(origin))
	return nil
}

// witnessFlags are what a witness serves with.
type witnessFlags struct {
	witnessPaths
	listen, cert, tlsKey, format string
	perMinute                    int
}

func (c *cli) witnessServe() *cobra.Command {
	var f witnessFlags
	cmd := &cobra.Command{
		Use: "serve DIR", Short: "Run a witness", Args: cobra.MaximumNArgs(1),
		Long: `Answers POST /add-checkpoint of C2SP tlog-witness for the logs that it knows, and GET / with its key and what it has signed, until
SIGTERM or an interrupt. Logs to standard error; one line with "ready" tells that it answers. SIGHUP takes the list of logs
anew. Without a certificate it speaks HTTP, for a loopback address or behind a proxy.`,
		Example: `  sallyport witness serve /var/lib/sallyport-witness --listen :7380 --tls-cert w.pem --tls-key w-key.pem
  sallyport witness serve --key w.key --logs logs --state state --listen 127.0.0.1:7380`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				d := witnessLayout(args[0])
				for _, set := range []struct {
					flag *string
					path string
				}{{&f.key, d.key}, {&f.logs, d.logs}, {&f.state, d.state}} {
					if *set.flag == "" {
						*set.flag = set.path
					}
				}
			}
			if f.key == "" || f.logs == "" || f.state == "" {
				return usagef("want DIR, or --key, --logs and --state")
			}
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			hardenProcess()
			return c.serveWitness(cmd.Context(), f, hup)
		},
	}
	cmd.Flags().StringVar(&f.key, "key", "", "`FILE` with the witness's secret key (default: witness.key in DIR)")
	cmd.Flags().StringVar(&f.logs, "logs", "", "`FILE` with the list of logs (default: logs in DIR)")
	cmd.Flags().StringVar(&f.state, "state", "", "`FOLDER` for what was signed (default: state in DIR)")
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:7380", "`ADDRESS` to listen on")
	cmd.Flags().StringVar(&f.cert, "tls-cert", "", "certificate `FILE`, with its chain; a renewed one is taken by itself")
	cmd.Flags().StringVar(&f.tlsKey, "tls-key", "", "`FILE` with the certificate's key")
	cmd.Flags().StringVar(&f.format, "log-format", "text", "text or json")
	cmd.Flags().IntVar(&f.perMinute, "per-minute", 600, "`REQUESTS` a minute of one address; 0 for no limit, behind a proxy that has one")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return cmd
}

const (
	// witnessConns bounds the connections of a witness; each has one goroutine and some 16 KiB, as HTTP/1.1 has one request at a time.
	witnessConns = 256
	// witnessConnsOf bounds those of one address. A gateway has one.
	witnessConnsOf = 32
	// witnessDrain is how long a stop waits for requests under way.
	witnessDrain = 5 * time.Second
)

// serveWitness runs a witness until ctx ends.
func (c *cli) serveWitness(ctx context.Context, f witnessFlags, hup <-chan os.Signal) (err error) {
	log := newLogger(config.Log{Format: f.format, Level: "info"}, c.stderr)
	unlock, err := journal.LockDir(f.state)
	if err != nil {
		return hintf("two witnesses with one state would sign against each other", "state of the witness: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	signer, err := readWitnessKey(f.key)
	if err != nil {
		return err
	}
	logs, err := readLogs(f.logs)
	if err != nil {
		return err
	}
	w, err := witness.NewServer(witness.Options{Signer: signer, State: f.state, Logs: logs, Now: time.Now, Log: log, PerMinute: f.perMinute})
	if errors.Is(err, witness.ErrNoState) {
		return hintf("`sallyport witness add-log` begins the state of a new log. When the witness had one, put it back or retire this key: it could sign a second history", "%w", err)
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: w, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	limited := netutil.LimitListener(l, witnessConns)
	if f.perMinute > 0 { // else all come from a proxy
		limited = witness.Listener(limited, witnessConnsOf)
	}
	if f.cert != "" {
		pair, err := newFresh(log, keyPair(f.cert, f.tlsKey), f.cert, f.tlsKey)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		srv.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get(), nil },
		}
	}
	served := make(chan error, 1)
	go func() {
		if f.cert != "" {
			served <- srv.ServeTLS(limited, "", "")
		} else {
			served <- srv.Serve(limited)
		}
	}()
	log.Info("ready", "witness", signer.Verifier().String(), "listen", l.Addr().String(), "tls", f.cert != "", "logs", len(logs), "version", version())
	notify(daemon.SdNotifyReady)
	for {
		select {
		case err := <-served:
			return err
		case <-hup:
			notify(daemon.SdNotifyReloading + "\nMONOTONIC_USEC=" + monotonic())
			logs, err := readLogs(f.logs)
			if err == nil {
				err = w.SetLogs(logs)
			}
			if err != nil {
				log.Error("the list of logs was not taken, and the old one stays", "error", err)
			} else {
				log.Info("reloaded", "logs", len(logs))
			}
			notify(daemon.SdNotifyReady)
		case <-ctx.Done():
			notify(daemon.SdNotifyStopping)
			log.Info("stopping")
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), witnessDrain)
			defer cancel()
			err := srv.Shutdown(drain)
			if errors.Is(err, context.DeadlineExceeded) { // somebody is slow, as strangers may be
				err = srv.Close()
			}
			if e := <-served; !errors.Is(e, http.ErrServerClosed) {
				err = errors.Join(err, e)
			}
			return err
		}
	}
}
