package house

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const module = "sallyport"

// room is a package's row in the table of who may import whom.
type room struct {
	may []string // packages of ours, below the module's path
	why string   // why nothing else
}

// rooms is the design's table. A package below one of these has that one's row, unless it has its own, and may import
// within it. cmd isn't here: it wires everything together.
func rooms() map[string]room {
	return map[string]room{
		"otp":               {nil, "one-time codes are arithmetic: usable without the gateway, and testable with vectors alone"},
		"otp/pskc":          {[]string{"otp"}, "a file of tokens is read from bytes: whoever stores them comes to it, and hostile files are tried without a gateway"},
		"otp/tokencsv":      {[]string{"otp"}, "as otp/pskc"},
		"internal/policy":   {nil, "a decision by the rules is a function of data, so that `explain` and the gateway can't differ"},
		"internal/throttle": {nil, "lock-out replays from records: it depends on (now, state) and on nothing else"},
		"internal/seal":     {nil, "whoever seals needn't know what; secrets have one small door"},
		"internal/journal":  {nil, "the journal keeps bytes; what they mean changes, and its files must stay readable"},
		"internal/audit":    {[]string{"internal/journal", "internal/seal"}, "the proof must be checkable without the gateway: the log knows nothing of login"},
		"internal/siem":     {[]string{"internal/audit"}, "copying records out needs the records, and nothing of who is let in: it reads the log like any outsider"},
		"internal/alert":    {[]string{"internal/audit"}, "what needs a look follows from the records alone, so that it can be made from them again"},
		"internal/login": {
			[]string{"otp", "internal/policy", "internal/throttle", "internal/audit"},
			"the domain owns its interfaces: stores, adapters and first factors come to it, and it goes to none of them",
		},
		"internal/firstfactor": {
			[]string{"internal/login", "radiusd/wire", "radiusd/exchange"},
			"a first factor answers login's question and sees nothing of adapters or stores; one that asks a RADIUS server speaks the protocol",
		},
		"internal/store":     {[]string{"internal/login", "internal/audit", "internal/alert", "otp", "internal/seal"}, "the store stands behind login's and alert's interfaces, so that it can be replaced"},
		"internal/recording": {[]string{"internal/seal"}, "recordings are written and read without a gateway"},
		"radiusd":            {[]string{"internal/login", "internal/seal"}, "an adapter turns bytes into attempts and outcomes into bytes: it has no way to people, codes or records but the gate (P11)"},
		"radiusd/wire":       {nil, "RADIUS as bytes is a function of bytes: usable by server and client alike, and testable with vectors alone"},
		"radiusd/attr":       {[]string{"radiusd/wire"}, "what attributes are called is a table: settings and upstream servers are checked against it without a server"},
		"radiusd/exchange":   {[]string{"radiusd/wire"}, "asking a RADIUS server needs the protocol and a socket, and nothing of ours that decides"},
		"radiusd/dynauth":    {[]string{"radiusd/exchange", "radiusd/wire"}, "ending a session at a NAS is a question to it: no server of ours is needed"},
		"radiusd/mschap":     {nil, "proving a password is a function of bytes"},
		"radiusd/ledger":     {nil, "what was seen of clients, and what follows from it, is a function of counts and times"},
		"radiusd/probe":      {[]string{"radiusd/wire", "radiusd/mschap"}, "a test client must not believe the server's own code about what is right"},
		"radiusd/capture":    {[]string{"radiusd/wire"}, "a captured packet is read by whoever has the file, without a server"},
		"radiusd/eap":        {[]string{"radiusd/mschap"}, "an EAP conversation is a function of messages; who is let in is asked through its caller"},
		"sshgw":              {[]string{"internal/login", "internal/recording"}, "an adapter turns bytes into attempts and outcomes into bytes: it has no way to people, codes or records but the gate (P11)"},
		"sshgw/door":         {nil, "who may knock, and how often, is arithmetic on sources and times"},
		"sshgw/route":        {[]string{"sshgw/outbound"}, "what a user name or an address means is a function of text and the list of targets"},
		"sshgw/relay":        {nil, "passing a session through decides nothing"},
		"sshgw/joined":       {nil, "fewer system calls for the same bytes: nothing of SSH but the length of its packets"},
		"sshgw/outbound":     {[]string{"sshgw/joined"}, "logging in at a target needs its address, its keys and a credential, and nothing of ours that decides"},
		"sshgw/transfer":     {nil, "what a file transfer does is a function of the bytes that pass: it needs no gateway, and decides nothing but what its rights say"},
		"internal/guessable": {nil, "which passwords are tried first is a list and a function of text"},
		"internal/roll":      {[]string{"internal/login"}, "what a list of people comes to is a function of the list and of people"},
		"internal/admin":     {[]string{"internal/guessable", "internal/roll", "internal/login", "otp", "otp/pskc", "otp/tokencsv", "internal/audit", "internal/recording", "internal/alert"}, "the verbs are the same whoever calls them: they know neither sockets of protocols nor the store's SQL"},
		"internal/report":    {[]string{"internal/audit", "internal/login"}, "data in, document out"},
		"internal/console":   {[]string{"internal/admin", "internal/report", "internal/login"}, "pages have no logic of their own, so every door is the same door (P11)"},
		// Nobody but cmd imports config: each package has its own options, checked by itself, and tests don't write YAML.
		"internal/config":        {[]string{"internal/policy", "internal/throttle"}, "reading settings must not need what they set up"},
		"internal/audit/witness": {[]string{"internal/audit"}, "a witness vouches for sizes and roots, of any log: it sees neither records nor journals"},
		"internal/config/strict": {nil, "reading YAML strictly needs nothing of what the keys mean"},
		"internal/house":         {nil, "it reads sources"},
	}
}

// adapters never import each other, not even in tests: what two of them share belongs into login.
func adapters() []string {
	return []string{"radiusd", "sshgw", "internal/console", "internal/store"}
}

// under reports whether pkg is root or below it.
func under(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }

// rowOf finds the row that holds for a package: its own or the nearest above.
func rowOf(table map[string]room, pkg string) (string, bool) {
	best := ""
	for name := range table {
		if under(pkg, name) && len(name) > len(best) {
			best = name
		}
	}
	return best, best != ""
}

// verdict returns why pkg may not import imported, or nothing. Both are paths below the module's.
func verdict(table map[string]room, pkg, imported string, inTest bool) string {
	if under(imported, "cmd") {
		return "nobody imports a command"
	}
	if under(pkg, "cmd") {
		return ""
	}
	for _, a := range adapters() {
		for _, b := range adapters() {
			if a != b && under(pkg, a) && under(imported, b) {
				return "adapters and the store never import each other: what they share belongs into internal/login"
			}
		}
	}
	if inTest {
		return ""
	}
	row, known := rowOf(table, pkg)
	if !known {
		return "the package has no row in the table of internal/house: give it one, with what it may import and why"
	}
	target, known := rowOf(table, imported)
	if !known {
		target = imported
	}
	if target == row || slices.Contains(table[row].may, target) || under(target, row) {
		return ""
	}
	return fmt.Sprintf("%s may import %v of ours: %s", row, table[row].may, table[row].why)
}

// TestImportGraph holds the rooms apart (design, section 4).
func TestImportGraph(t *testing.T) {
	table := rooms()
	seen := 0
	for _, f := range sources(t) {
		for _, imported := range f.imports {
			ours, found := strings.CutPrefix(imported, module+"/")
			if !found {
				continue
			}
			seen++
			if why := verdict(table, f.pkg, ours, f.isTest); why != "" && ours != f.pkg {
				t.Errorf("%s imports %s\n  because it must not: %s", f.path, imported, why)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no import of our own packages was found: the test reads nothing")
	}
}

// TestVerdict breaks each kind of edge once: a graph test that accepts everything looks just as green.
func TestVerdict(t *testing.T) {
	table := rooms()
	for _, c := range []struct {
		pkg, imported string
		inTest        bool
		allowed       bool
	}{
		{"radiusd", "internal/login", false, true},
		{"radiusd", "internal/audit", false, false},
		{"radiusd", "internal/audit", true, true},
		{"radiusd", "sshgw", false, false},
		{"radiusd", "sshgw", true, false},
		{"radiusd/cache", "radiusd", false, true},
		{"radiusd", "radiusd/cache", false, true},
		{"radiusd/cache", "internal/store", true, false},
		{"sshgw", "internal/config", false, false},
		{"internal/login", "internal/store", false, false},
		{"internal/config", "internal/config/strict", false, true},
		{"internal/config/strict", "internal/policy", false, false},
		{"otp", "internal/policy", false, false},
		{"internal/audit", "internal/login", false, false},
		{"internal/util", "otp", false, false},
		{"otpx", "otp", false, false},
		{"cmd/sallyport", "radiusd", false, true},
		{"internal/admin", "cmd/sallyport", true, false},
	} {
		why := verdict(table, c.pkg, c.imported, c.inTest)
		if (why == "") != c.allowed {
			t.Errorf("%s -> %s (test: %v): allowed %v, want %v: %s", c.pkg, c.imported, c.inTest, why == "", c.allowed, why)
		}
	}
}
