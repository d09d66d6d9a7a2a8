package witness

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
)

// A child is this test binary again, as a witness that can be killed.
const (
	childDir = "WITNESS_TEST_DIR"
	childLog = "WITNESS_TEST_LOG"
	childKey = "WITNESS_TEST_KEY"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir, os.Getenv(childLog), os.Getenv(childKey)))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// child serves until it is killed.
func child(dir, vkey, skey string) error {
	signer, err := NewSigner(skey, time.Now)
	if err != nil {
		return err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	s, err := NewServer(Options{
		Signer: signer, State: dir, Now: time.Now, Log: slog.New(slog.DiscardHandler), Logs: []Log{{Origin: v.Name(), Keys: []note.Verifier{v}}},
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, s)
}

// TestKilled kills the witness while it is at work, again and again: what it has answered, it knows afterwards, and signs no
// other history.
func TestKilled(t *testing.T) {
	keys := newLogKeys(t, "gw1.test/sallyport")
	skey, _, err := NewKey("witness.test/w1")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(skey, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Begin(dir, "gw1.test/sallyport", signer); err != nil {
		t.Fatal(err)
	}
	m := (&memory{keys: keys}).grow(t, leaves("a", 500)...)
	fork := (&memory{keys: keys}).grow(t, leaves("b", 500)...)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(url, body string) (status int, answer string, err error) {
		resp, err := client.Post(url+addPath, "", strings.NewReader(body))
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	answered := int64(0) // the largest size that somebody has a signature of
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir, childLog+"="+keys.vkey, childKey+"="+skey)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() }) // it has ended, unless the test failed
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		url := "http://" + strings.TrimSpace(addr)

		_, said, err := post(url, request{499, nil, m.checkpoint(t, 499)}.String())
		if err != nil {
			t.Fatal(err)
		}
		signed, err := parseSize(strings.TrimSuffix(said, "\n"))
		if err != nil || int64(signed) < answered || int64(signed) > answered+1 {
			t.Fatalf("round %d: the witness says %q, and has answered %d", round, said, answered)
		}
		if signed > 0 {
			if status, _, err := post(url, fork.ask(t, int64(signed), int64(signed)+5)); err != nil || status == http.StatusOK {
				t.Fatalf("round %d: a fork of %d records: %d, %v", round, signed, status, err)
			}
		}
		last := int64(signed) + int64(round%5) + 3
		for at := int64(signed); ; at++ {
			if at == last { // this request is under way when the kill comes, or was just answered, or was never read
				go cmd.Process.Kill()
			}
			status, line, err := post(url, m.ask(t, at, at+1))
			if err != nil {
				break
			}
			if status != http.StatusOK || !strings.HasPrefix(line, "— ") {
				t.Fatalf("round %d, %d: %d %q", round, at, status, line)
			}
			answered = at + 1
		}
		cmd.Wait() // killed
	}
	if answered < 12 {
		t.Errorf("only %d checkpoints were signed in all", answered)
	}
}
