package transfer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string]string{
		"scp -t /tmp/x":                               "scp upload /tmp/x",
		"scp -t -- -x":                                "scp upload -x",
		"scp -v -r -p -d -t .":                        "scp upload .",
		"scp -qrt 'a b'":                              "scp upload a b",
		"scp -f /etc/passwd /etc/group":               "scp download /etc/passwd|/etc/group",
		"scp -f /tmp/*.txt":                           "scp download /tmp/*.txt",
		"scp -f -- *.txt":                             "scp download *.txt",
		"scp -f ~/x":                                  "scp download ~/x",
		"/usr/bin/scp -f 'it'\\''s'":                  "scp download it's",
		"scp -f 'a (1)'":                              "scp download a (1)",
		"rsync --server -vlogDtpre.iLsfxCIvu . /path": "rsync upload /path",
		"rsync --server --sender -vlogDtpre.iLsfxCIvu . a b":                "rsync download a|b",
		"rsync --server -logDtpre.iLsfxCIvu --delete --partial . 'my dir/'": "rsync upload my dir/",
		"rsync --server -vlogDtpre.iLsfxCIvu --log-format=%i . .":           "rsync upload .",
		"/usr/lib/openssh/sftp-server":                                      "sftp-server  ",

		"":                                    "",
		"scp":                                 "",
		"scp /a /b":                           "",
		"scp -t":                              "",
		"scp -t /a /b":                        "",
		"scp -t -f /a":                        "",
		"scp -S evil -t /a":                   "",
		"scp -Sevil -t /a":                    "",
		"scp -oProxyCommand=x -t /a":          "",
		"scp -t /a -S x":                      "",
		"scp -f *":                            "",
		"scp -f [-]S*":                        "",
		"scp -* /a":                           "",
		"/tmp/scp -t /a":                      "",
		"./scp -t /a":                         "",
		"'scp' -t /a; id":                     "",
		"scp -t /a;id":                        "",
		"scp -t /a|id":                        "",
		"scp -t /a&id":                        "",
		"scp -t /a\nid":                       "",
		"scp -t /a\rid":                       "",
		"scp -t `id`":                         "",
		"scp -t $(id)":                        "",
		"scp -t '$(id)'":                      "",
		"scp -t \"$(id)\"":                    "",
		"scp -t '/a & calc'":                  "",
		"scp -t 'x'\\''(calc)'":               "",
		"scp -t /a >/b":                       "",
		"scp -t {a,b}":                        "",
		"scp -t /a #b":                        "",
		"scp -t 'a":                           "",
		"scp -t a\\":                          "",
		"X=1 scp -t /a":                       "",
		"PATH=/tmp scp -t /a":                 "",
		"scp=x -t /a":                         "",
		"sudo scp -t /a":                      "",
		"git-upload-pack 'x'":                 "",
		"git-receive-pack 'x'":                "",
		"rsync -a /a /b":                      "",
		"rsync --server . /a":                 "rsync upload /a",
		"rsync --server -se.Lsf":              "",
		"rsync --server -slogDtpre.iLsfxCIvu": "",
		"rsync --server --sender --remove-source-files -re.iLsf . /a": "",
		"rsync --server --sender -re.iLsf --log-file=/etc/x . /a":     "",
		"rsync --server --sender -re.iLsf --files-from=/etc/x . /a":   "",
		"rsync --server -re.iLsf --sender . /a":                       "",
		"rsync --server -e'sh' . /a":                                  "",
		"rsync --server --rsh=sh . /a":                                "",
		"rsync --server --daemon .":                                   "",
		"rsync --server -re.iLsf --delete . /a --sender":              "",
		"rsync --server --sender -re.iLsf --delete . /a":              "",
		"rsync --server --config=/x --daemon . /a":                    "",
		"/usr/lib/openssh/sftp-server -l DEBUG":                       "",
		"/tmp/sftp-server":                                            "",
		"scp -t " + strings.Repeat("x", maxCommand):                   "",
	} {
		got := ""
		if c, ok := ParseCommand(line); ok {
			got = string(c.Kind) + " " + c.Direction.word() + " " + strings.Join(c.Paths, "|")
		}
		if got != want {
			t.Errorf("%.80s:\n got %q\nwant %q", line, got, want)
		}
	}
}

// TestOpenSSHOldSCP has scp -O move files and trees both ways, through the test binary as its ssh.
func TestOpenSSHOldSCP(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(there, name) }
	data := large()
	writeFile(t, filepath.Join(here, "a b"), data)
	must(t, os.MkdirAll(filepath.Join(here, "tree", "sub"), 0o755))
	writeFile(t, filepath.Join(here, "tree", "one"), []byte("one"))
	writeFile(t, filepath.Join(here, "tree", "sub", "empty"), nil)
	sum := hexSum(data)

	out, seen, err := openSSH(t, "ud", "", "scp", "-O", "-p", filepath.Join(here, "a b"), "host:"+at("up"))
	if err != nil {
		t.Fatalf("scp: %v\n%s", err, out)
	}
	wantFile(t, at("up"), data)
	wantEvent(t, seen.find(t, OpUpload, at("up")), Event{Op: OpUpload, Path: at("up"), Name: "a b", Bytes: int64(len(data)), SHA256: sum, Result: "ok", Detail: "size=8400953 mode=0600"})

	out, seen, err = openSSH(t, "d", "", "scp", "-O", "host:"+at("up"), filepath.Join(here, "down"))
	if err != nil {
		t.Fatalf("scp: %v\n%s", err, out)
	}
	wantFile(t, filepath.Join(here, "down"), data)
	wantEvent(t, seen.find(t, OpDownload, at("up")), Event{Op: OpDownload, Path: at("up"), Name: "up", Bytes: int64(len(data)), SHA256: sum, Result: "ok", Detail: "size=8400953 mode=0600"})

	out, seen, err = openSSH(t, "u", "", "scp", "-O", "-r", "-p", filepath.Join(here, "tree"), "host:"+at("copy"))
	if err != nil {
		t.Fatalf("scp: %v\n%s", err, out)
	}
	wantFile(t, at("copy/one"), []byte("one"))
	wantFile(t, at("copy/sub/empty"), nil)
	for _, want := range []Event{
		{Op: OpMkdir, Path: at("copy"), Name: "tree", Result: "ok"},
		{Op: OpMkdir, Path: at("copy"), Name: "tree/sub", Result: "ok"},
		{Op: OpUpload, Path: at("copy"), Name: "tree/one", Bytes: 3, SHA256: hexSum([]byte("one")), Result: "ok", Detail: "size=3 mode=0600"},
		{Op: OpUpload, Path: at("copy"), Name: "tree/sub/empty", SHA256: hexSum(nil), Result: "ok", Detail: "size=0 mode=0600"},
	} {
		if !slices.Contains(seen.list, want) {
			t.Errorf("no %+v in %s", want, seen)
		}
	}

	out, seen, err = openSSH(t, "d", "", "scp", "-O", "-r", "host:"+at("copy"), filepath.Join(here, "back"))
	if err != nil {
		t.Fatalf("scp: %v\n%s", err, out)
	}
	wantFile(t, filepath.Join(here, "back", "one"), []byte("one"))
	if len(seen.list) != 4 {
		t.Errorf("%s", seen)
	}

	if _, seen, err = openSSH(t, "d", "", "scp", "-O", "host:"+at("none"), here); err == nil || len(seen.list) != 1 || seen.list[0].Result != "error_1" {
		t.Errorf("copying nothing: %v %s", err, seen)
	}
	if _, seen, err = openSSH(t, "u", "", "scp", "-O", filepath.Join(here, "tree", "one"), "host:"+at("no/such/folder")); err == nil || len(seen.list) != 1 || seen.list[0].Result != "error_1" {
		t.Errorf("copying to nowhere: %v %s", err, seen)
	}
	if _, _, err = openSSH(t, "d", "", "scp", "-O", filepath.Join(here, "tree", "one"), "host:"+at("denied")); err == nil {
		t.Error("an upload without the right")
	}
}

// TestSCPSenderMustWait: content that is sent before its file was accepted would be lines to a receiver that refused it.
func TestSCPSenderMustWait(t *testing.T) {
	hidden := "C0644 5 evil\nhello\x00"
	for name, rights := range map[string]Rights{"limited": upload, "full": both} {
		t.Run(name, func(t *testing.T) {
			seen := &events{}
			s := NewSCP(Command{Kind: KindSCP, Direction: Upload, Paths: []string{"/x"}}, rights, seen.emit)
			var passed strings.Builder
			forward := func(p []byte) error { passed.Write(p); return nil }
			must(t, s.FromTarget([]byte{0}, discard))
			must(t, s.FromClient([]byte("C0644 19 decoy\n"), forward, discard))
			err := s.FromClient([]byte(hidden), forward, discard)
			s.End()
			if rights.Full() {
				if err != nil || !strings.HasSuffix(passed.String(), hidden) {
					t.Errorf("%v, passed %q", err, passed.String())
				}
				last := seen.list[len(seen.list)-1]
				if last.Detail != detailUnwatched || last.Bytes != int64(len(hidden)) {
					t.Errorf("%s", seen)
				}
			} else if err == nil || strings.Contains(passed.String(), "hello") {
				t.Errorf("%v, passed %q", err, passed.String())
			}
		})
	}
}

func TestRsync(t *testing.T) {
	seen := &events{}
	c, ok := ParseCommand("rsync --server --sender -re.iLsf . /a")
	if !ok {
		t.Fatal("not recognised")
	}
	r := NewRsync(c, seen.emit)
	must(t, r.FromClient([]byte("ab"), discard, discard))
	must(t, r.FromTarget([]byte("abc"), discard))
	r.End()
	wantEvent(t, seen.list[0], Event{
		Op: OpRsync, Path: "/a", Bytes: 3, SHA256: hexSum([]byte("abc")), Result: "ok", Partial: true,
		Detail: "stream download back_bytes=2 back_sha256=" + hexSum([]byte("ab")),
	})
}
