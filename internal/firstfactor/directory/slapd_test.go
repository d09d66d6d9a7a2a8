package directory

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

const (
	suffix     = "dc=example,dc=org"
	people     = "ou=people," + suffix
	rootDN     = "cn=root," + suffix
	rootPW     = "root-Passwort"
	searchDN   = "cn=gateway,ou=services," + suffix
	searchPW   = "such-Passwort"
	alicePW    = "Alice-Passwort"
	slapdHint  = "slapd is not installed; hint: apt-get install slapd"
	schemaPath = "/etc/ldap/schema"
	modulePath = "/usr/lib/ldap"
)

// slapd is a real OpenLDAP server, ended with the test.
type slapd struct {
	plain, ldaps string // URLs; plain also does StartTLS
	process      *os.Process
	ended        chan struct{}
}

// slapdOptions is how a slapd is set up.
type slapdOptions struct {
	cert     pair
	overlays string // lines after the database
	global   string // lines before the database
	access   string // instead of the usual
	noData   bool
}

const usualAccess = `access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="` + searchDN + `" read by * none
`

func lookFor(t *testing.T, hint string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal(hint)
	return ""
}

func startSlapd(t *testing.T, o slapdOptions) *slapd {
	t.Helper()
	program := lookFor(t, slapdHint, "slapd", "/usr/sbin/slapd")
	dir := t.TempDir()
	if o.access == "" {
		o.access = usualAccess
	}
	var c strings.Builder
	for _, schema := range []string{"core", "cosine", "inetorgperson", "nis"} {
		fmt.Fprintf(&c, "include %s/%s.schema\n", schemaPath, schema)
	}
	fmt.Fprintf(&c, "pidfile %[1]s/pid\nargsfile %[1]s/args\nmodulepath %[2]s\n", dir, modulePath)
	c.WriteString("moduleload back_mdb\nmoduleload memberof\nmoduleload ppolicy\n")
	fmt.Fprintf(&c, "TLSCertificateFile %s\nTLSCertificateKeyFile %s\n", o.cert.certFile, o.cert.keyFile)
	c.WriteString(o.global)
	fmt.Fprintf(&c, "database mdb\nsuffix %q\nrootdn %q\nrootpw %s\ndirectory %s\nmaxsize 33554432\ndbnosync\n", suffix, rootDN, rootPW, dir)
	c.WriteString("index objectClass,uid,member,memberUid eq\n" + o.access + o.overlays)
	config := filepath.Join(dir, "slapd.conf")
	if err := os.WriteFile(config, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	// Somebody may take a port between its choice and its use: then slapd ends, and others are tried.
	var out bytes.Buffer
	for range 5 {
		s := &slapd{ended: make(chan struct{})}
		plain, secure := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
		s.plain, s.ldaps = "ldap://"+plain, "ldaps://"+secure
		out.Reset()
		cmd := exec.Command(program, "-d", "0", "-f", config, "-h", s.plain+" "+s.ldaps)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.process = cmd.Process
		go func() {
			_ = cmd.Wait()
			close(s.ended)
		}()
		t.Cleanup(s.kill)
		await(t, "slapd", func() bool { return s.dead() || answers(plain) && answers(secure) })
		if !s.dead() {
			if !o.noData {
				s.add(t, theUsual()...)
			}
			return s
		}
	}
	t.Fatalf("slapd does not start: %s", &out)
	return nil
}

func (s *slapd) dead() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// kill ends slapd at once, and waits for that.
func (s *slapd) kill() {
	_ = s.process.Kill()
	<-s.ended
}

// entry is what is added to a directory.
type entry struct {
	dn         string
	attributes map[string][]string
}

func (s *slapd) admin(t *testing.T, do func(*ldap.Conn) error) {
	t.Helper()
	c, err := ldap.DialURL(s.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(rootDN, rootPW); err != nil {
		t.Fatal(err)
	}
	if err := do(c); err != nil {
		t.Fatal(err)
	}
}

func (s *slapd) add(t *testing.T, entries ...entry) {
	t.Helper()
	s.admin(t, func(c *ldap.Conn) error { return addAll(c, entries) })
}

func addAll(c *ldap.Conn, entries []entry) error {
	for _, e := range entries {
		r := ldap.NewAddRequest(e.dn, []ldap.Control{ldap.NewControlManageDsaIT(true)})
		for name, values := range e.attributes {
			r.Attribute(name, values)
		}
		if err := c.Add(r); err != nil {
			return fmt.Errorf("add %s: %w", e.dn, err)
		}
	}
	return nil
}

func unit(dn string) entry {
	return entry{dn, map[string][]string{"objectClass": {"organizationalUnit"}}}
}

func human(uid, password string) entry {
	return entry{"uid=" + uid + "," + people, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "uid": {uid}, "cn": {uid}, "sn": {uid}, "userPassword": {password},
	}}
}

func groupOf(cn string, members ...string) entry {
	return entry{groupDN(cn), map[string][]string{"objectClass": {"groupOfNames"}, "cn": {cn}, "member": members}}
}

func personDN(uid string) string { return "uid=" + uid + "," + people }
func groupDN(cn string) string   { return "cn=" + cn + ",ou=groups," + suffix }

// theUsual is a small directory: alice is in network, which is in all-it, which is in everybody; loop and network
// are in each other; posix has alice by name.
func theUsual() []entry {
	return []entry{
		{suffix, map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"example"}, "o": {"example"}}},
		unit("ou=services," + suffix), unit(people), unit("ou=groups," + suffix),
		{searchDN, map[string][]string{"objectClass": {"organizationalRole", "simpleSecurityObject"}, "cn": {"gateway"}, "userPassword": {searchPW}}},
		human("alice", alicePW), human("bob", "Bob-Passwort"), human("Carol", "Carol-Passwort"),
		groupOf("network", personDN("alice"), groupDN("loop")),
		groupOf("all-it", groupDN("network")),
		groupOf("everybody", groupDN("all-it"), personDN("bob")),
		groupOf("loop", groupDN("network")),
		groupOf("strangers", personDN("nobody")),
	}
}

// options for this server, over LDAPS.
func (s *slapd) options(a *authority) Options {
	return Options{
		URLs: []string{s.ldaps}, CAs: a.pool, Base: people, GroupBase: suffix,
		BindDN: searchDN, BindPassword: login.NewSecret(searchPW),
	}
}
