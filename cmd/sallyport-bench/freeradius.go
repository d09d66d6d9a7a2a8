package main

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The peer is FreeRADIUS as Debian packs it, in its foreground mode with the thread pool of Debian's radiusd.conf, and
// with as little else as the work needs: one listener, one client, users by rlm_files, codes by rlm_totp. All that is
// left out would only make it slower.
//
// Its receive buffer is raised as far as the kernel allows, since with the default a burst of 512 loses packets.
const radiusdHead = `prefix = /usr
libdir = %[1]s
raddbdir = %[2]s
confdir = ${raddbdir}
logdir = ${raddbdir}
run_dir = ${raddbdir}
pidfile = ${run_dir}/freeradius.pid
name = freeradius
max_request_time = 30
cleanup_delay = 5
max_requests = 16384
hostname_lookups = no
proxy_requests = no
log {
	destination = stdout
	auth = no
}
security {
	allow_core_dumps = no
	max_attributes = 200
	reject_delay = 0
	status_server = no
}
client bench {
	ipaddr = 127.0.0.1
	secret = %[3]s
	require_message_authenticator = yes
}
thread pool {
	start_servers = 5
	max_servers = 32
	min_spare_servers = 3
	max_spare_servers = 10
	max_requests_per_server = 0
	auto_limit_acct = no
}
`

// radiusdPAP answers with codes by TOTP.
const radiusdPAP = `modules {
	files {
		filename = ${confdir}/users
	}
	totp {
	}
}
server bench {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[1]d
		recv_buff = %[2]d
	}
	authorize {
		files
		update request {
			TOTP-Password := &User-Password
		}
		totp.authenticate
		if (ok) {
			update control {
				Auth-Type := Accept
			}
		}
	}
}
`

var errNoFreeRADIUS = errors.New("FreeRADIUS is not installed: apt-get install freeradius (Debian 12 has 3.2.1); or measure with -side sallyport")

// peerVersion finds FreeRADIUS and says which it is.
func peerVersion(ctx context.Context) (path, version string, err error) {
	for _, name := range []string{"freeradius", "/usr/sbin/freeradius", "radiusd"} {
		if path, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return "", "", errNoFreeRADIUS
	}
	out, err := exec.CommandContext(ctx, path, "-v").Output()
	if err != nil {
		return "", "", fmt.Errorf("%s -v: %w", path, err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "FreeRADIUS Version") {
			return path, strings.TrimSpace(line), nil
		}
	}
	return path, "FreeRADIUS of unknown version", nil
}

// libraryDir is where Debian's rlm_totp is.
func libraryDir() (string, error) {
	const dir = "/usr/lib/freeradius"
	for _, module := range []string{"rlm_totp.so", "rlm_files.so"} {
		if _, err := os.Stat(filepath.Join(dir, module)); err != nil {
			return "", fmt.Errorf("%w (its package freeradius brings rlm_totp and rlm_files)", err)
		}
	}
	return dir, nil
}

// receiveBuffer is the most that the kernel gives without privileges.
func receiveBuffer() int {
	const want = 4 << 20
	b, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		return 212992
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 212992
	}
	return min(want, most)
}

// startPeer runs FreeRADIUS in dir for so many people.
func startPeer(ctx context.Context, path, dir, secret string, people int) (*server, error) {
	lib, err := libraryDir()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{name: "FreeRADIUS", addr: fmt.Sprintf("127.0.0.1:%d", port), secret: secret, crowd: inventCrowd(people, secret)}
	var users bytes.Buffer
	for _, p := range s.crowd.people {
		fmt.Fprintf(&users, "%s TOTP-Secret := \"%s\"\n", p.name, base32.StdEncoding.EncodeToString(p.seed))
	}
	conf := fmt.Sprintf(radiusdHead, lib, dir, secret) + fmt.Sprintf(radiusdPAP, port, receiveBuffer())
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "radiusd.conf"), []byte(conf), 0o600),
		os.WriteFile(filepath.Join(dir, "users"), users.Bytes(), 0o600),
	)
	if err != nil {
		return nil, err
	}
	return s, s.startRadiusd(ctx, path, dir)
}

// startRadiusd runs FreeRADIUS with the files in dir.
func (s *server) startRadiusd(ctx context.Context, path, dir string) error {
	cmd := exec.Command(path, "-f", "-d", dir, "-l", "stdout")
	if err := s.launch(cmd, dir); err != nil {
		return err
	}
	ready := func(line string) bool { return strings.Contains(line, "Ready to process requests") }
	if err := s.await(ctx, ready); err != nil {
		s.abandon()
		return err
	}
	return nil
}
