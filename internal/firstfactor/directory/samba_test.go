package directory

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

const (
	sambaHint  = "samba is not installed; hint: apt-get install samba samba-ad-dc samba-ad-provision samba-dsdb-modules"
	domain     = "DC=example,DC=test"
	adUsers    = "CN=Users," + domain
	adAdmin    = "administrator@example.test"
	adAdminPW  = "Verwalter-Passwort.1"
	adSearch   = "svc-gateway@example.test"
	adSearchPW = "Such-Passwort.1"
	adPW       = "Sommer-Regen.77"
)

// samba is a real Active Directory domain controller, ended with the test.
type samba struct {
	host string // an address of 127.0.0.0/8 of its own: Samba's ports cannot be chosen
	ca   *authority
}

func startSamba(t *testing.T) *samba {
	t.Helper()
	tool := lookFor(t, sambaHint, "samba-tool")
	program := lookFor(t, sambaHint, "samba", "/usr/sbin/samba")
	if os.Getuid() != 0 {
		t.Fatal("Samba listens on ports 389 and 636 only; hint: run the tests as root")
	}
	s := &samba{host: ownAddress(t), ca: newAuthority(t)}
	// Samba binds sockets in its folders, whose paths must be short.
	dir, err := os.MkdirTemp("", "ad")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	provision := exec.Command(tool, "domain", "provision", "--realm=EXAMPLE.TEST", "--domain=EXAMPLE", "--adminpass="+adAdminPW,
		"--server-role=dc", "--dns-backend=NONE", "--use-rfc2307", "--targetdir="+dir, "--host-name=dc1", "--host-ip="+s.host)
	if out, err := provision.CombinedOutput(); err != nil {
		t.Fatalf("samba-tool: %v\n%s\nhint: %s", err, out, sambaHint)
	}
	cert := s.ca.issue(t, tomorrow(), "dc1.example.test", s.host)
	config := filepath.Join(dir, "gateway-test.conf")
	text := fmt.Sprintf(`[global]
	netbios name = DC1
	realm = EXAMPLE.TEST
	workgroup = EXAMPLE
	server role = active directory domain controller
	server services = ldap
	interfaces = %[2]s/8
	bind interfaces only = yes
	private dir = %[1]s/private
	state directory = %[1]s/state
	cache directory = %[1]s/cache
	lock directory = %[1]s
	pid directory = %[1]s
	ncalrpc dir = %[1]s/ncalrpc
	binddns dir = %[1]s/bind-dns
	winbindd socket directory = %[1]s/winbindd
	ntp signd socket directory = %[1]s/ntp
	tls certfile = %[3]s
	tls keyfile = %[4]s
	tls cafile =
	idmap_ldb:use rfc2307 = yes
`, dir, s.host, cert.certFile, cert.keyFile)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(program, "-F", "--debug-stdout", "--no-process-group", "-M", "single", "-s", config)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	await(t, "samba", func() bool {
		select {
		case <-ended:
			t.Fatalf("samba does not start: %s", &out)
		default:
		}
		return answers(net.JoinHostPort(s.host, "636")) && answers(net.JoinHostPort(s.host, "389"))
	})
	return s
}

// ownAddress picks an address of this machine that no other test has.
func ownAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		var b [3]byte
		_, _ = rand.Read(b[:])
		ip := net.IPv4(127, b[0]|1, b[1], b[2]|1).String()
		l, err := net.Listen("tcp", net.JoinHostPort(ip, "636"))
		if err == nil {
			_ = l.Close()
			return ip
		}
	}
	t.Fatal("no address of 127.0.0.0/8 can be listened on")
	return ""
}

// quoted is a password as unicodePwd takes it (MS-ADTS section 3.1.1.3.1.5.1).
func quoted(password string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

func adUser(name string, more map[string][]string) entry {
	e := entry{"CN=" + ldap.EscapeDN(name) + "," + adUsers, map[string][]string{
		"objectClass": {"user"}, "sAMAccountName": {name}, "userPrincipalName": {name + "@example.test"},
		"unicodePwd": {quoted(adPW)}, "userAccountControl": {"512"},
	}}
	for k, v := range more {
		e.attributes[k] = v
	}
	return e
}

func adGroup(name string, more map[string][]string, members ...string) entry {
	e := entry{"CN=" + ldap.EscapeDN(name) + "," + adUsers, map[string][]string{"objectClass": {"group"}, "sAMAccountName": {name}}}
	for _, m := range members {
		e.attributes["member"] = append(e.attributes["member"], "CN="+ldap.EscapeDN(m)+","+adUsers)
	}
	for k, v := range more {
		e.attributes[k] = v
	}
	return e
}

func (s *samba) admin(t *testing.T, do func(*ldap.Conn) error) {
	t.Helper()
	c, err := ldap.DialURL("ldaps://"+s.host, ldap.DialWithTLSConfig(&tls.Config{RootCAs: s.ca.pool}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(adAdmin, adAdminPW); err != nil {
		t.Fatal(err)
	}
	if err := do(c); err != nil {
		t.Fatal(err)
	}
}

func (s *samba) set(t *testing.T, dn, attribute, value string) {
	t.Helper()
	s.admin(t, func(c *ldap.Conn) error {
		r := ldap.NewModifyRequest(dn, nil)
		r.Replace(attribute, []string{value})
		return c.Modify(r)
	})
}

func (s *samba) options() Options {
	return Options{
		URLs: []string{"ldaps://" + s.host}, CAs: s.ca.pool, Base: domain,
		BindDN: adSearch, BindPassword: login.NewSecret(adSearchPW),
	}
}

// TestActiveDirectory asks a Samba domain controller, which behaves as Windows does where it matters here.
func TestActiveDirectory(t *testing.T) {
	t.Parallel()
	s := startSamba(t)
	yesterday := fmt.Sprint((time.Now().Add(-24*time.Hour).Unix() + filetimeToUnix) * 1e7)
	s.admin(t, func(c *ldap.Conn) error {
		return addAll(c, []entry{
			adUser("svc-gateway", map[string][]string{"unicodePwd": {quoted(adSearchPW)}}),
			adUser("alice", nil), adUser("bob", map[string][]string{"userPrincipalName": {"robert@nhs.example"}}),
			adUser("gone", map[string][]string{"userAccountControl": {"514"}}),
			adUser("late", map[string][]string{"accountExpires": {yesterday}}),
			adUser("fresh", map[string][]string{"pwdLastSet": {"0"}}),
			adUser("guessed", nil), adUser("spared", nil), adUser("primary", nil),
			adUser("Sommer, Rita (IT)*", map[string][]string{"sAMAccountName": {"rita"}, "userPrincipalName": {"rita@example.test"}}),
			{"CN=pc1,CN=Computers," + domain, map[string][]string{
				"objectClass": {"computer"}, "sAMAccountName": {"pc1$"}, "userPrincipalName": {"pc1"}, "userAccountControl": {"4096"}, "unicodePwd": {quoted(adPW)},
			}},
			adGroup("network", nil, "alice"), adGroup("all-it", nil, "network"), adGroup("everybody", nil, "all-it", "bob"),
			adGroup("loop", nil, "everybody"), adGroup("mail", map[string][]string{"groupType": {"2"}}, "alice"),
			adGroup("vpn", nil, "primary"),
			adGroup("Team (Nord)", nil, "Sommer, Rita (IT)*"),
		})
	})
	// A circle of groups, and a person for whom a group is not a membership but the primary one.
	s.admin(t, func(c *ldap.Conn) error {
		r := ldap.NewModifyRequest("CN=network,"+adUsers, nil)
		r.Add("member", []string{"CN=loop," + adUsers})
		return c.Modify(r)
	})
	s.set(t, "CN=primary,"+adUsers, "primaryGroupID", s.relativeID(t, "CN=vpn,"+adUsers))
	s.set(t, domain, "lockoutThreshold", "3")

	t.Run("passwords", func(t *testing.T) {
		d := open(t, s.options(), adPW, "falsch-falsch")
		if err := d.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		for range 2 { // the second time from the pool
			wantPass(t, d, "alice", adPW)
			wantPass(t, d, "robert@nhs.example", adPW)
			wantPass(t, d, "rita", adPW)
			wantWrong(t, d, "alice", "falsch-falsch", "wrong password (data 52e)")
			wantPass(t, d, "alice", adPW) // or she would be locked
		}
		wantWrong(t, d, "zoe", adPW, "no entry has this name")
		wantWrong(t, d, "pc1", adPW, "no entry has this name")
		wantWrong(t, d, "pc1$", adPW, "no entry has this name")
		wantWrong(t, d, "gone", adPW, "account disabled")
		wantWrong(t, d, "late", adPW, "account expired")
		wantWrong(t, d, "fresh", adPW, "password must be changed first")
		for _, name := range hostileNames() {
			wantWrong(t, d, name, adPW, "no entry has this name")
		}
	})
	t.Run("lockout", func(t *testing.T) {
		d := open(t, s.options(), adPW)
		for range 4 {
			_ = check(t, d, "guessed", "falsch-falsch")
			_, err := d.Check(t.Context(), login.Question{Name: "spared", Password: login.NewSecret("falsch-falsch")})
			wantError(t, err, login.ErrWrong)
		}
		wantWrong(t, d, "guessed", adPW, "account locked (data 775)")
		wantPass(t, d, "spared", adPW)
	})
	t.Run("list", func(t *testing.T) { listAD(t, s) })
	t.Run("starttls", func(t *testing.T) {
		o := s.options()
		o.URLs, o.StartTLS = []string{"ldap://" + s.host}, true
		d := open(t, o)
		wantPass(t, d, "alice", adPW)
		wantGroups(t, d, "bob", "Domain Users", "Users", "everybody", "loop", "network", "all-it")
	})
	t.Run("plaintext is refused by the server", func(t *testing.T) {
		o := s.options()
		o.URLs, o.InsecurePlaintext = []string{"ldap://" + s.host}, true
		wantError(t, check(t, open(t, o), "alice", adPW), login.ErrUnavailable, "hint: use an ldaps:// URL or StartTLS")
	})
	t.Run("anonymous search is refused by the server", func(t *testing.T) {
		o := s.options()
		o.BindDN, o.BindPassword = "", login.Secret{}
		err := check(t, open(t, o), "alice", adPW)
		wantError(t, err, login.ErrUnavailable, "hint: ")
	})

	circle := []string{"network", "all-it", "everybody", "loop"}
	for source, c := range map[GroupSource]struct{ alice, primary []string }{
		GroupsAuto:     {append([]string{"Domain Users", "Users"}, circle...), []string{"vpn", "Domain Users", "Users"}},
		GroupsTokens:   {append([]string{"Domain Users", "Users"}, circle...), []string{"vpn", "Domain Users", "Users"}},
		GroupsInChain:  {append([]string{"mail"}, circle...), []string{"Domain Users", "Users"}},
		GroupsMemberOf: {append([]string{"mail"}, circle...), []string{"Domain Users", "Users"}},
		GroupsFilter:   {append([]string{"mail"}, circle...), []string{"Domain Users", "Users"}},
	} {
		t.Run("groups "+string(source), func(t *testing.T) {
			o := s.options()
			o.Groups = source
			d := open(t, o)
			wantGroups(t, d, "alice", c.alice...)
			wantGroups(t, d, "primary", c.primary...)
			for _, nobody := range []string{"zoe", "", "gone", "late"} {
				wantGroups(t, d, nobody)
			}
			groups, err := d.Groups(t.Context(), "rita")
			if err != nil || !strings.Contains(strings.Join(groups, "|"), "Team (Nord)") {
				t.Errorf("rita: %q, %v", groups, err)
			}
		})
	}
	t.Run("groups below a base", func(t *testing.T) {
		for _, source := range []GroupSource{GroupsTokens, GroupsMemberOf, GroupsInChain} {
			o := s.options()
			o.Groups, o.GroupBase = source, "CN=network,"+adUsers
			wantGroups(t, open(t, o), "alice", "network")
		}
	})
}

// relativeID is the last part of an entry's SID.
func (s *samba) relativeID(t *testing.T, dn string) (rid string) {
	t.Helper()
	s.admin(t, func(c *ldap.Conn) error {
		r, err := c.Search(&ldap.SearchRequest{BaseDN: dn, Filter: "(objectClass=*)", Attributes: []string{"objectSid"}})
		if err != nil {
			return err
		}
		sid := r.Entries[0].GetRawAttributeValue("objectSid")
		rid = fmt.Sprint(binary.LittleEndian.Uint32(sid[len(sid)-4:]))
		return nil
	})
	return rid
}
