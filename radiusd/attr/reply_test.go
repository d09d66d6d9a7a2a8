package attr

import (
	"encoding/hex"
	"strings"
	"testing"

	"layeh.com/radius"
)

func TestCompile(t *testing.T) {
	for _, c := range []struct {
		name  string
		attrs map[string][]string
		want  string // hex
	}{
		{"nothing", nil, ""},
		{"text", map[string][]string{"Filter-Id": {"admins"}}, "0b0861646d696e73"},
		{"octets as text", map[string][]string{"Class": {"ou=vpn;"}}, "19096f753d76706e3b"},
		{"octets as hex", map[string][]string{"Class": {"0x00ff"}}, "190400ff"},
		{"several, in their order", map[string][]string{"Class": {"b", "a"}}, "190362190361"},
		{"integer", map[string][]string{"Session-Timeout": {"3600"}}, "1b0600000e10"},
		{"integer in hex", map[string][]string{"Egress-VLANID": {"0x3100000a"}}, "38063100000a"},
		{"integer by name, any case", map[string][]string{"service-type": {"nas-prompt-user"}}, "060600000007"},
		{"v4", map[string][]string{"Framed-IP-Address": {"10.0.0.7"}}, "08060a000007"},
		{"v6", map[string][]string{"Framed-IPv6-Address": {"2001:db8::1"}}, "a81220010db8000000000000000000000001"},
		{"v6 prefix", map[string][]string{"Framed-IPv6-Prefix": {"2001:db8::/33"}}, "6109002120010db800"},
		{"interface id", map[string][]string{"Framed-Interface-Id": {"0011:2233:4455:6677"}}, "600a0011223344556677"},
		{
			"VLAN",
			map[string][]string{"Tunnel-Type": {"VLAN"}, "Tunnel-Medium-Type": {"IEEE-802"}, "Tunnel-Private-Group-Id": {"42"}},
			"410600000006" + "51043432" + "40060000000d",
		},
		{"VLAN with tag", map[string][]string{"Tunnel-Type:1": {"VLAN"}, "Tunnel-Private-Group-Id:1": {"42"}}, "5105013432" + "40060100000d"},
		{"Cisco", map[string][]string{"Cisco-AVPair": {"shell:priv-lvl=15"}}, "1a1900000009" + "0113" + hex.EncodeToString([]byte("shell:priv-lvl=15"))},
		{"Juniper", map[string][]string{"Juniper-Local-User-Name": {"su"}}, "1a0a00000a4c" + "01047375"},
		{"Fortinet", map[string][]string{"Fortinet-Group-Name": {"a"}}, "1a0900003044" + "010361"},
		{"Palo Alto", map[string][]string{"PaloAlto-Admin-Role": {"a"}}, "1a0900006375" + "010361"},
		{"Microsoft", map[string][]string{"MS-Primary-DNS-Server": {"10.0.0.1"}}, "1a0c00000137" + "1c060a000001"},
		{"Aruba", map[string][]string{"Aruba-Priv-Admin-User": {"1"}}, "1a0c000039e7" + "030600000001"},
		{"Mikrotik", map[string][]string{"Mikrotik-Group": {"full"}}, "1a0c00003a8c" + "030666756c6c"},
		{"F5", map[string][]string{"F5-LTM-User-Role": {"Administrator"}, "F5-LTM-User-Shell": {"tmsh"}}, "1a0c00000d2f" + "010600000000" + "1a0c00000d2f" + "0506746d7368"},
		{"Citrix", map[string][]string{"Citrix-User-Groups": {"a"}}, "1a0900000f05" + "100361"},
		{"Check Point", map[string][]string{"CP-Gaia-User-Role": {"a"}, "CP-Gaia-SuperUser-Access": {"yes"}}, "1a0c00000a3c" + "e60600000001" + "1a0900000a3c" + "e50361"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, errs := Compile(c.attrs)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			if got := hex.EncodeToString(r.wire); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			if _, err := radius.ParseAttributes(r.wire); err != nil || r.Len() != len(c.want)/2 {
				t.Errorf("layeh's parser: %v", err)
			}
		})
	}
}

// Every mistake is found when the configuration is loaded, and says what to do.
func TestCompileErrors(t *testing.T) {
	for _, c := range []struct {
		name, value, want string
	}{
		{"Message-Authenticator", "0x00", "the server sets it by itself"},
		{"State", "x", "the server sets it by itself"},
		{"proxy-state", "x", "the server sets it by itself"},
		{"User-Password", "x", "belongs in requests"},
		{"NAS-Identifier", "x", "belongs in requests"},
		{"Tunnel-Password", "x", "secrets"},
		{"MS-MPPE-Send-Key", "x", "secrets"},
		{"Cisco-AV-Pair", "x", "did you mean Cisco-AVPair"},
		{"AVPair", "x", "did you mean Cisco-AVPair"},
		{"Sesion-Timeout", "1", "did you mean Session-Timeout"},
		{"quite-something-else-that-nobody-knows", "1", "is not a known reply attribute"},
		{strings.Repeat("long", 100), "1", "is not a known reply attribute"},
		{"", "1", "is not a known reply attribute"},
		{"Session-Timeout", "soon", "is no number"},
		{"Session-Timeout", "-1", "is no number"},
		{"Session-Timeout", "4294967296", "is no number"},
		{"Service-Type", "God", "nor one of"},
		{"Framed-IP-Address", "2001:db8::1", "is no IPv4 address"},
		{"Framed-IPv6-Address", "10.0.0.1", "is no IPv6 address"},
		{"Framed-IPv6-Address", "fe80::1%eth0", "is no IPv6 address"},
		{"Framed-IPv6-Prefix", "10.0.0.0/8", "is no IPv6 prefix"},
		{"Framed-Interface-Id", "0011", "is no interface identifier"},
		{"Class", "0xzz", "hexadecimal"},
		{"Class", "0x", "is empty"},
		{"Filter-Id", "", "is empty"},
		{"Reply-Message", strings.Repeat("m", 254), "253 is the most"},
		{"Cisco-AVPair", strings.Repeat("m", 248), "247 is the most"},
		{"Tunnel-Private-Group-Id:1", strings.Repeat("m", 253), "253 is the most"},
		{"Filter-Id", "\xff", "UTF-8"},
		{"Filter-Id", "a\x00b", "UTF-8"},
		{"Filter-Id:1", "a", "only tunnel attributes take a tag"},
		{"Tunnel-Type:0", "VLAN", "only tunnel attributes take a tag"},
		{"Tunnel-Type:32", "VLAN", "only tunnel attributes take a tag"},
		{"Tunnel-Type:x", "VLAN", "only tunnel attributes take a tag"},
		{"Tunnel-Type:1", "16777216", "more than 24 bits"},
	} {
		_, errs := Compile(map[string][]string{c.name: {c.value}})
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), c.want) {
			t.Errorf("%s = %q: %v, want %q", c.name, c.value, errs, c.want)
		}
	}
	for name, c := range map[string]struct {
		attrs map[string][]string
		want  string
		n     int
	}{
		"twice what may stand once": {map[string][]string{"Session-Timeout": {"1", "2"}}, "only once", 1},
		"two Filter-Id":             {map[string][]string{"Filter-Id": {"a", "b"}}, "only once", 1},
		"two spellings":             {map[string][]string{"Class": {"a"}, "class": {"b"}}, "same attribute", 1},
		"no value":                  {map[string][]string{"Class": {}}, "no value", 1},
		"too much together":         {map[string][]string{"Class": repeat(strings.Repeat("c", 253), 9)}, "2048 is the most", 1},
		"every mistake":             {map[string][]string{"Nonsense": {"a"}, "Session-Timeout": {"x"}, "Idle-Timeout": {"y", "z"}}, "", 5},
	} {
		r, errs := Compile(c.attrs)
		if len(errs) != c.n || r != nil || !strings.Contains(errs[0].Error(), c.want) {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func repeat(s string, n int) (list []string) {
	for range n {
		list = append(list, s)
	}
	return list
}

// The dictionary holds the vendors that the documentation promises, and nothing that a reply must not carry.
func TestDictionary(t *testing.T) {
	all, err := readDictionary(dictionaryText)
	if err != nil {
		t.Fatal(err)
	}
	vendors := make(map[uint32]int)
	for lower, k := range all {
		vendors[k.vendor]++
		if len(k.OID) != 1 || k.OID[0] < 1 || k.OID[0] > 255 || k.FlagEncrypt.Valid || serverOwned(lower) != "" {
			t.Errorf("%s: number %v, flags %v", k.Name, k.OID, k.FlagEncrypt)
		}
	}
	for _, v := range []uint32{0, 9, 2636, 12356, 25461, 311, 14823, 14988, 3375, 3845, 2620} {
		if vendors[v] == 0 {
			t.Errorf("vendor %d has no attributes", v)
		}
	}
}
