package sshgw

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/internal/recording"
)

// played is what a recording shows.
func (o *openSSH) played(start audit.Record) (text string, sizes int, err error) {
	o.Helper()
	r, err := recording.Open(filepath.Join(o.path("recordings"), detail(start, recording.DetailRecording)), o.identity)
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	var chunks []recording.Chunk
	for _, rec := range o.find(recording.EventChunk) {
		if rec.Session == start.Session {
			c, err := recording.ParseChunk(func(key string) string { return detail(rec, key) })
			if err != nil {
				return "", 0, err
			}
			chunks = append(chunks, c)
		}
	}
	r.Expect(chunks)
	var b strings.Builder
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String(), sizes, nil
		}
		if err != nil {
			return b.String(), sizes, err
		}
		switch e.Kind {
		case recording.Output:
			b.Write(e.Data)
		case recording.Resize:
			sizes++
		}
	}
}

// What a rule requires to be recorded is, sealed to the auditor, with each piece on record: shells with what they showed and the
// terminal's sizes, commands with their output. Passwords that are typed are not in it (P9, P10).
func TestRecorded(t *testing.T) {
	o := proxied(t, nil)
	o.record()
	o.change(func(r *policy.Rule) { r.Record = true })
	x := o.terminal("alice@core-sw1")
	x.typeIn("stty -echo; read PW; stty echo; echo rea''dy\n")
	x.typeIn("hunter2\n")
	x.shows("ready")
	if err := x.session.WindowChange(30, 120); err != nil {
		t.Fatal(err)
	}
	x.typeIn("stty size; printf '\\377\\376raw'; exit 3\n")
	<-x.done
	end := o.awaitEnd(1)
	if detail(end, recording.DetailState) != string(recording.Complete) || detail(end, "exit_status") != "3" {
		t.Errorf("end %+v", end)
	}
	text, sizes, err := o.played(o.last("session.start"))
	if err != nil || !strings.Contains(text, "ready") || !strings.Contains(text, "30 120") || !strings.Contains(text, "\xff\xferaw") || sizes != 1 {
		t.Errorf("%v, %d sizes: %q", err, sizes, text)
	}
	if strings.Contains(text, "hunter2") {
		t.Error("a password is in the recording")
	}
	if r := o.through("", "ssh", "gw", "echo out; echo err >&2"); r.stdout != "out\n" {
		t.Fatalf("%+v", r)
	}
	o.awaitEnd(2)
	if text, _, err := o.played(o.last("session.start")); err != nil || !strings.Contains(text, "out\n") || !strings.Contains(text, "err\n") {
		t.Errorf("a command: %v: %q", err, text)
	}
	// An altered piece is found out.
	path := filepath.Join(o.path("recordings"), detail(o.last("session.start"), recording.DetailRecording))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.played(o.last("session.start")); err == nil {
		t.Error("an altered recording plays")
	}
}

// Where a recording is required and cannot be started, nothing starts; when it fails midway, the session ends (P10).
func TestUnrecordable(t *testing.T) {
	o := proxied(t, nil)
	o.change(func(r *policy.Rule) { r.Record = true })
	if r := o.through("", "ssh", "gw", "echo in"); r.stdout != "" || r.status != 1 || !strings.Contains(r.stderr, "has to be recorded") {
		t.Fatalf("without recordings: %+v", r)
	}
	if rec := o.last("access"); rec.Reason != string(login.ReasonRecording) || rec.Result != audit.Reject || len(o.find("session.start")) != 0 {
		t.Errorf("record %+v", rec)
	}
	o.record()
	cfg := o.srv.settings.Load().Config
	cfg.Recordings.Options.MaxBytes = 64 << 10
	if err := o.srv.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	r := o.through("", "ssh", "gw", "head -c 20000000 /dev/urandom | base64; echo done")
	if strings.HasSuffix(r.stdout, "\ndone\n") { // within, it may stand by chance
		t.Error("the session went on without its recording")
	}
	if end := o.awaitEnd(1); end.Reason != string(endRecorder) || detail(end, recording.DetailState) == string(recording.Complete) {
		t.Errorf("end %+v", end)
	}
	// Where no rule requires it, the settings may say that the session goes on.
	o.change(func(r *policy.Rule) { r.Record = false })
	cfg.Recordings.StopAtLimit = true
	cfg.Targets[0].Jump = Recorded
	if err := o.srv.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	o.jumper()
	r = o.run(alicePassword, o.code(), "", "ssh", "-F", o.path("ssh_config"), "-J", "gw", "core-sw1", "head -c 2000000 /dev/urandom | base64; echo done")
	if !strings.HasSuffix(r.stdout, "\ndone\n") {
		t.Errorf("stopped: %d bytes, status %d, %s", len(r.stdout), r.status, r.stderr)
	}
	if end := o.awaitEnd(2); end.Reason != string(endExit) || detail(end, recording.DetailState) != string(recording.Stopped) {
		t.Errorf("end %+v", end)
	}
}

// What is moved by files is on record, file by file, with its hash (P11).
func TestTransfersAreOnRecord(t *testing.T) {
	o := proxied(t, nil)
	o.file("file", 0o600, "some content")
	const sum = "290f493c44f5d63d06b374d0a5abd292fae38b92cab2fae5efefe1b0e9347f56"
	for _, x := range []struct {
		name, operation string
		run             func() result
	}{
		{"sftp up", "upload", func() result { return o.through("", "scp", o.path("file"), "gw:"+o.path("copy")) }},
		{"sftp down", "download", func() result { return o.through("", "scp", "gw:"+o.path("file"), o.path("copy")) }},
		{"scp up", "upload", func() result { return o.through("", "scp", "-O", o.path("file"), "gw:"+o.path("copy")) }},
		{"scp down", "download", func() result { return o.through("", "scp", "-O", "gw:"+o.path("file"), o.path("copy")) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := len(o.find("session.end"))
			if r := x.run(); r.status != 0 {
				t.Fatalf("%+v", r)
			}
			end := o.awaitEnd(n + 1)
			found := false
			for _, rec := range o.find("transfer") {
				if rec.Session == end.Session && detail(rec, "operation") == x.operation && detail(rec, "sha256") == sum && detail(rec, "bytes") == "12" {
					found = true
				}
			}
			if !found {
				t.Errorf("no record of it among %+v", o.find("transfer"))
			}
		})
	}
	// With the right of one direction, the other is refused before anything happens.
	o.setMay(policy.Download)
	os.Remove(o.path("copy"))
	if r := o.through("", "scp", o.path("file"), "gw:"+o.path("copy")); r.status == 0 {
		t.Errorf("an upload without the right: %+v", r)
	}
	if _, err := os.Stat(o.path("copy")); err == nil {
		t.Error("it is there")
	}
	if r := o.through("", "scp", "gw:"+o.path("file"), o.path("copy")); r.status != 0 {
		t.Errorf("a download with the right: %+v", r)
	}
}
