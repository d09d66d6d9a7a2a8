package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file starts programs of others that stand before or behind a gateway.

// authority issues certificates, as files.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	a.key = a.newKey()
	a.file = a.sign("ca", a.cert, a.key)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) sign(name string, c *x509.Certificate, key *ecdsa.PrivateKey) (file string) {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	file = filepath.Join(a.dir, name+".crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// issue makes a certificate for a DNS name and 127.0.0.1, and its key.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	k := a.newKey()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	cert = a.sign(name, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, k)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	key = filepath.Join(a.dir, name+".key")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// other is a program of somebody else's, ended with the test.
type other struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu   sync.Mutex
	said bytes.Buffer // guarded by mu
}

func (o *other) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.Write(p)
}

func (o *other) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.String()
}

// over reports whether it has ended.
func (o *other) over() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

func (o *other) end() {
	_ = o.cmd.Process.Kill() // an error means that it has ended
	<-o.ended
}

// startOther starts a program, and returns when ready says so. One that ends before fails the test.
func startOther(t testing.TB, ready func(*other) bool, name string, args ...string) *other {
	t.Helper()
	o := &other{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	o.cmd.Stdout, o.cmd.Stderr = o, o
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = o.cmd.Wait()
		close(o.ended)
	}()
	t.Cleanup(o.end)
	until(t, name, func() bool {
		ok := ready(o)
		if !ok && o.over() {
			t.Fatalf("%s ended: %s", name, o.text())
		}
		return ok
	})
	return o
}

// freeUDPPort is a UDP port that was free a moment ago.
func freeUDPPort(t testing.TB) int {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

func answersTCP(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Who may change the directory.
const ldapRoot, ldapRootPW = "cn=root,dc=example,dc=org", "root-of-the-directory"

// startSlapd starts OpenLDAP over TLS with people, each in the group network.
func startSlapd(t testing.TB, a *authority, passwords map[string]string) (url string, slapd *other) {
	t.Helper()
	program, adder := tool(t, "slapd", "slapd"), tool(t, "slapadd", "slapd")
	dir := t.TempDir()
	cert, key := a.issue("ldap.example.org")
	config := filepath.Join(dir, "slapd.conf")
	var c strings.Builder
	for _, schema := range []string{"core", "cosine", "inetorgperson", "nis"} {
		fmt.Fprintf(&c, "include /etc/ldap/schema/%s.schema\n", schema)
	}
	fmt.Fprintf(&c, "pidfile %[1]s/pid\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\nTLSCertificateFile %[2]s\nTLSCertificateKeyFile %[3]s\n", dir, cert, key)
	fmt.Fprintf(&c, "database mdb\nsuffix dc=example,dc=org\nrootdn %s\nrootpw %s\ndirectory %s\nmaxsize 33554432\n", ldapRoot, ldapRootPW, dir)
	c.WriteString("access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n")
	data := "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n"
	members := ""
	for name, password := range passwords {
		data += fmt.Sprintf("\ndn: uid=%[1]s,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: %[1]s\ncn: %[1]s\nsn: %[1]s\nuserPassword: %[2]s\n", name, password)
		members += fmt.Sprintf("member: uid=%s,dc=example,dc=org\n", name)
	}
	data += "\ndn: cn=network,dc=example,dc=org\nobjectClass: groupOfNames\ncn: network\n" + members
	if err := os.WriteFile(config, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, status := runTool(t, data, nil, adder, "-f", config); status != 0 {
		t.Fatalf("slapadd: %s%s", stdout, stderr)
	}
	address := "127.0.0.1:" + freePort(t)
	slapd = startOther(t, func(*other) bool { return answersTCP(address) }, program, "-d", "0", "-f", config, "-h", "ldaps://"+address)
	return "ldaps://" + address, slapd
}

// startRadsecproxy starts a proxy that takes RADIUS over UDP and hands it on over TLS, and returns where it listens.
func startRadsecproxy(t testing.TB, a *authority, server, client string) (address string) {
	t.Helper()
	program := tool(t, "radsecproxy", "radsecproxy")
	cert, key := a.issue(client)
	port := freeUDPPort(t)
	host, tlsPort, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "radsecproxy.conf")
	text := fmt.Sprintf(`ListenUDP 127.0.0.1:%d
LogLevel 2
tls default {
	CACertificateFile %s
	CertificateFile %s
	CertificateKeyFile %s
}
client 127.0.0.1 {
	type udp
	secret %s
}
server gateway {
	host %s
	port %s
	type tls
	secret radsec
	statusServer on
}
realm * {
	server gateway
}
`, port, a.file, cert, key, radiusSecret, host, tlsPort)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	startOther(t, func(o *other) bool { return strings.Contains(o.text(), "up") || strings.Contains(o.text(), "connect") }, program, "-f", "-c", config)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// startOcserv starts an AnyConnect server that asks by RADIUS from an address of loopback, and returns its port.
func startOcserv(t testing.TB, a *authority, auth, acct, from string) (port string) {
	t.Helper()
	program := tool(t, "ocserv", "ocserv")
	dir, err := os.MkdirTemp("", "ocserv") // the path of a Unix socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cert, key := a.issue("vpn.example.org")
	port = freePort(t)
	files := map[string]string{
		"servers": fmt.Sprintf("127.0.0.1 %s\n", radiusSecret),
		"radiusclient.conf": fmt.Sprintf("nas-identifier ocserv\nauthserver %s\nacctserver %s\nservers %s/servers\ndictionary /etc/radcli/dictionary\n"+
			"default_realm\nradius_timeout 10\nradius_retries 1\nbindaddr %s\n", auth, acct, dir, from),
		"ocserv.conf": fmt.Sprintf(`auth = "radius[config=%[1]s/radiusclient.conf]"
acct = "radius[config=%[1]s/radiusclient.conf]"
listen-host = 127.0.0.1
tcp-port = %[2]s
socket-file = %[1]s/s
pid-file = %[1]s/pid
occtl-socket-file = %[1]s/occtl
run-as-user = root
run-as-group = root
server-cert = %[3]s
server-key = %[4]s
isolate-workers = false
max-clients = 8
max-same-clients = 8
max-ban-score = 0
rekey-time = 172800
device = vpns
ipv4-network = 10.77.0.0
ipv4-netmask = 255.255.255.0
cisco-client-compat = true
dtls-legacy = false
use-occtl = false
try-mtu-discovery = false
`, dir, port, cert, key),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := startOther(t, func(*other) bool { return answersTCP("127.0.0.1:" + port) }, program, "-f", "-d", "3", "-c", filepath.Join(dir, "ocserv.conf"))
	t.Cleanup(func() { t.Log(o.text()) })
	return port
}

// startTTLSProxy starts a FreeRADIUS that ends EAP-TTLS, and hands what is within on to a gateway as plain RADIUS, and returns
// where it listens. It asks from an address of loopback.
func startTTLSProxy(t testing.TB, a *authority, gateway, from string) (address string) {
	t.Helper()
	program := tool(t, "freeradius", "freeradius")
	dir := t.TempDir()
	cert, key := a.issue("wifi.example.org")
	port := freeUDPPort(t)
	_, gatewayPort, err := net.SplitHostPort(gateway)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`prefix = /usr
libdir = /usr/lib/freeradius
raddbdir = %[1]s
confdir = ${raddbdir}
logdir = ${raddbdir}
run_dir = ${raddbdir}
pidfile = ${run_dir}/freeradius.pid
name = freeradius
max_request_time = 30
cleanup_delay = 5
max_requests = 1024
hostname_lookups = no
proxy_requests = yes
log {
	destination = stdout
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
}
thread pool {
	start_servers = 2
	max_servers = 4
	min_spare_servers = 1
	max_spare_servers = 2
}
proxy server {
	default_fallback = no
}
home_server sallyport {
	type = auth
	ipaddr = 127.0.0.1
	port = %[3]s
	secret = "%[2]s"
	src_ipaddr = %[4]s
	response_window = 20
	zombie_period = 40
	status_check = none
}
home_server_pool sallyport {
	type = fail-over
	home_server = sallyport
}
realm sallyport {
	auth_pool = sallyport
	nostrip
}
modules {
	eap {
		default_eap_type = ttls
		timer_expire = 60
		ignore_unknown_eap_types = no
		max_sessions = 1024
		tls-config common {
			private_key_file = %[5]s
			certificate_file = %[6]s
			ca_file = %[7]s
			tls_min_version = "1.2"
			tls_max_version = "1.2"
			cipher_list = "DEFAULT"
			ecdh_curve = "prime256v1"
		}
		ttls {
			tls = common
			default_eap_type = md5
			copy_request_to_tunnel = no
			use_tunneled_reply = yes
			virtual_server = inner
		}
		md5 {
		}
	}
}
server outer {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[8]d
	}
	authorize {
		eap
	}
	authenticate {
		eap
	}
	pre-proxy {
		update proxy-request {
			&Message-Authenticator := 0x00
		}
	}
	post-proxy {
		eap
	}
}
server inner {
	authorize {
		update control {
			&Proxy-To-Realm := "sallyport"
		}
	}
	authenticate {
		eap
	}
}
`, dir, radiusSecret, gatewayPort, from, key, cert, a.file, port)
	if err := os.WriteFile(filepath.Join(dir, "radiusd.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	startOther(t, func(o *other) bool { return strings.Contains(o.text(), "Ready to process requests") }, program, "-f", "-l", "stdout", "-d", dir)
	return fmt.Sprintf("127.0.0.1:%d", port)
}
