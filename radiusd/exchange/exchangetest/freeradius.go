package exchangetest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// conf is FreeRADIUS with as little as the tests need: no files of the system's but modules and dictionaries, ports for access
// and accounting, Disconnect and CoA.
//
// Debian 12 has 3.2.1, which is older than CVE-2024-3596 and signs no answer by itself. To put a Message-Authenticator of any
// value into the reply makes it do so; it then stands last, where 3.2.5 and later have it first.
const conf = `prefix = /usr
libdir = /usr/lib/freeradius
raddbdir = %[1]s
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
	status_server = yes
}
client test {
	ipaddr = 127.0.0.1
	secret = "%[2]s"
	require_message_authenticator = yes
}
thread pool {
	start_servers = 2
	max_servers = 8
	min_spare_servers = 1
	max_spare_servers = 4
	max_requests_per_server = 0
	auto_limit_acct = no
}
modules {
	always ok {
		rcode = ok
	}
	always handled {
		rcode = handled
	}
	files {
		filename = ${confdir}/users
	}
	pap {
	}
	chap {
	}
	mschap {
		use_mppe = yes
		require_encryption = yes
		require_strong = yes
	}
}
policy {
	challenge {
		update control {
			&Response-Packet-Type = Access-Challenge
		}
		handled
	}
	sign {
		update reply {
			&Message-Authenticator := 0x00
		}
	}
}
server test {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[3]d
	}
	listen {
		type = acct
		ipaddr = 127.0.0.1
		port = %[4]d
	}
	listen {
		type = coa
		ipaddr = 127.0.0.1
		port = %[5]d
	}
	authorize {
		%[6]s
		Autz-Type Status-Server {
			%[6]s
			ok
		}
%[7]s
		files
		chap
		mschap
		pap
	}
	authenticate {
		Auth-Type PAP {
			pap
		}
		Auth-Type CHAP {
			chap
		}
		Auth-Type MS-CHAP {
			mschap
		}
%[8]s
	}
	post-auth {
		Post-Auth-Type REJECT {
			%[6]s
		}
	}
	preacct {
		ok
	}
	accounting {
		ok
	}
	recv-coa {
		if (&User-Name == "nobody") {
			update control {
				&Response-Packet-Type = Disconnect-NAK
			}
			handled
		}
		ok
	}
	send-coa {
		ok
	}
}
`

// Config is what a test wants of a FreeRADIUS.
type Config struct {
	Secret       string
	Users        string // the file of rlm_files
	Authorize    string // unlang before the users are looked up
	Authenticate string // further Auth-Types
	Unsigned     bool   // answers have no Message-Authenticator, as of a server without its updates
}

// FreeRADIUS is a running one.
type FreeRADIUS struct {
	Auth, Acct, CoA string // addresses

	t    testing.TB
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
}

// output keeps what a process prints, and tells when that holds what somebody waits for.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wants string
	found chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	if o.wants != "" && strings.Contains(o.text.String(), o.wants) {
		o.wants = ""
		close(o.found)
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// StartFreeRADIUS starts one on free ports, and waits until it answers. It ends with the test.
func StartFreeRADIUS(t testing.TB, c Config) *FreeRADIUS {
	t.Helper()
	path, err := exec.LookPath("freeradius")
	if err != nil {
		path = "/usr/sbin/freeradius"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("freeradius is needed: apt-get install --no-install-recommends freeradius: %v", err)
	}
	dir := t.TempDir()
	sign := "sign"
	if c.Unsigned {
		sign = "ok"
	}
	// A port that was free may be taken before FreeRADIUS binds it: then it says so and ends, and gets others.
	for try := 1; ; try++ {
		ports := freePorts(t, 3)
		text := fmt.Sprintf(conf, dir, c.Secret, ports[0], ports[1], ports[2], sign, c.Authorize, c.Authenticate)
		for name, content := range map[string]string{"radiusd.conf": text, "users": c.Users} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f := launch(t, path, dir)
		if f == nil && try < 3 {
			continue
		}
		if f == nil {
			t.Fatal("FreeRADIUS did not start")
		}
		at := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
		f.Auth, f.Acct, f.CoA = at(ports[0]), at(ports[1]), at(ports[2])
		return f
	}
}

// launch runs it, and returns nil when it could not have its ports.
func launch(t testing.TB, path, dir string) *FreeRADIUS {
	t.Helper()
	f := &FreeRADIUS{
		t: t, done: make(chan struct{}),
		cmd: exec.Command(path, "-f", "-d", dir, "-l", "stdout"),
		out: &output{wants: "Ready to process requests", found: make(chan struct{})},
	}
	f.cmd.Stdout, f.cmd.Stderr = f.out, f.out
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that dies takes it along
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = f.cmd.Wait()
		close(f.done)
	}()
	t.Cleanup(f.Stop)
	select {
	case <-f.out.found:
		return f
	case <-f.done:
		if strings.Contains(f.out.String(), "Address already in use") {
			return nil
		}
		t.Fatalf("FreeRADIUS ended:\n%s", f.out)
	case <-time.After(time.Minute):
		t.Fatalf("FreeRADIUS is not ready after a minute:\n%s", f.out)
	}
	return nil
}

// Stop ends it, and waits until it has ended. It may be called more than once.
func (f *FreeRADIUS) Stop() {
	_ = f.cmd.Process.Kill()
	<-f.done
}

// Freeze stops it where it stands: it keeps its ports, and is silent.
func (f *FreeRADIUS) Freeze() { f.signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (f *FreeRADIUS) Thaw() { f.signal(syscall.SIGCONT) }

func (f *FreeRADIUS) signal(s syscall.Signal) {
	if err := f.cmd.Process.Signal(s); err != nil {
		f.t.Error(err)
	}
}

// freePorts finds ports that are free now.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ports = append(ports, conn.LocalAddr().(*net.UDPAddr).Port)
	}
	return ports
}
