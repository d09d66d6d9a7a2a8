package main

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"sallyport/otp"
)

// radiusdShapes has a virtual server for each shape, with no more in it than the shape needs. CHAP and MS-CHAPv2 check a
// fixed password, since rlm_totp needs the code in clear. The accounting is Debian's detail module in its simplest form.
const radiusdShapes = `modules {
	files {
		filename = ${confdir}/users
	}
	totp {
	}
	chap {
	}
	mschap {
	}
	detail {
		filename = ${confdir}/detail
		escape_filenames = no
		permissions = 0600
		header = "%%t"
	}
	eap {
		default_eap_type = ttls
		timer_expire = 60
		ignore_unknown_eap_types = no
		max_sessions = ${max_requests}
		tls-config common {
			private_key_file = %[1]s
			certificate_file = %[2]s
			ca_file = %[3]s
			cipher_list = "DEFAULT"
			cipher_server_preference = no
			tls_min_version = "1.2"
			tls_max_version = "1.2"
			ecdh_curve = ""
			cache {
				enable = no
			}
		}
		ttls {
			tls = common
			default_eap_type = md5
			copy_request_to_tunnel = no
			use_tunneled_reply = no
			virtual_server = inner
		}
	}
}
server chap {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[4]d
		recv_buff = %[9]d
	}
	authorize {
		files
		chap
	}
	authenticate {
		Auth-Type CHAP {
			chap
		}
	}
}
server mschapv2 {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[5]d
		recv_buff = %[9]d
	}
	authorize {
		files
		mschap
	}
	authenticate {
		Auth-Type MS-CHAP {
			mschap
		}
	}
}
server eap {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[6]d
		recv_buff = %[9]d
	}
	authorize {
		eap
	}
	authenticate {
		eap
	}
}
server inner {
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
server accounting {
	listen {
		type = acct
		ipaddr = 127.0.0.1
		port = %[7]d
		recv_buff = %[9]d
	}
	accounting {
		detail
	}
}
clients radsec {
	client nas {
		ipaddr = 127.0.0.1
		proto = tls
		secret = radsec
		require_message_authenticator = yes
		limit {
			max_connections = 0
			lifetime = 0
			idle_timeout = 0
		}
	}
}
server radsec {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[8]d
		proto = tcp
		clients = radsec
		limit {
			max_connections = 0
			lifetime = 0
			idle_timeout = 0
		}
		tls {
			private_key_file = %[1]s
			certificate_file = %[2]s
			ca_file = %[3]s
			fragment_size = 8192
			cipher_list = "DEFAULT"
			cipher_server_preference = no
			tls_min_version = "1.2"
			tls_max_version = "1.3"
			ecdh_curve = ""
			cache {
				enable = no
			}
			require_client_cert = yes
		}
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

// gatewayDoors is what the gateway opens beside its first port.
const gatewayDoors = `  accounting: [127.0.0.1:%[1]d]
  tls: {listen: ["127.0.0.1:%[2]d"], cert: %[3]s, key: %[4]s, client_ca: %[5]s}
  eap: {cert: %[3]s, key: %[4]s, methods: [ttls]}
`

// gatewayOverTLS is the client that comes through RADIUS over TLS.
const gatewayOverTLS = `    - name: bench-tls
      certificate: ` + clientName + `
      mode: code
      class: remote
`

// startShapesGateway runs a gateway that takes all shapes.
func startShapesGateway(ctx context.Context, binary, dir, secret string, people, lookAhead int, certs *certificates) (*server, error) {
	acct, err1 := freePort()
	overTLS, err2 := freeTCPPort()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	doors := fmt.Sprintf(gatewayDoors, acct, overTLS, certs.serverCert, certs.serverKey, certs.ca)
	s, err := startGateway(ctx, binary, dir, secret, people, otp.TypeHOTP, lookAhead, doors, gatewayOverTLS)
	if err != nil {
		return nil, err
	}
	s.name, s.doors = "Sallyport", map[string]string{"accounting": loopback(acct), "radsec": loopback(overTLS)}
	return s, nil
}

// startShapesPeer runs a FreeRADIUS that takes all shapes.
func startShapesPeer(ctx context.Context, path, dir, secret string, people int, certs *certificates) (*server, error) {
	lib, err := libraryDir()
	if err != nil {
		return nil, err
	}
	s := &server{name: "FreeRADIUS", secret: secret, crowd: inventCrowd(people, secret), doors: map[string]string{}}
	args := []any{certs.serverKey, certs.serverCert, certs.ca}
	for _, name := range []string{"chap", "mschapv2", "eap", "accounting", "radsec"} {
		find := freePort
		if name == "radsec" {
			find = freeTCPPort
		}
		port, err := find()
		if err != nil {
			return nil, err
		}
		s.doors[name] = loopback(port)
		args = append(args, port)
	}
	args = append(args, receiveBuffer())
	var users bytes.Buffer
	for _, p := range s.crowd.people {
		fmt.Fprintf(&users, "%s TOTP-Secret := \"%s\", Cleartext-Password := \"%s\"\n", p.name, base32.StdEncoding.EncodeToString(p.seed), p.password())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "radiusd.conf"), []byte(fmt.Sprintf(radiusdHead, lib, dir, secret)+fmt.Sprintf(radiusdShapes, args...)), 0o600),
		os.WriteFile(filepath.Join(dir, "users"), users.Bytes(), 0o600),
	)
	if err != nil {
		return nil, err
	}
	return s, s.startRadiusd(ctx, path, dir)
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// freeTCPPort finds a TCP port on loopback that nobody uses now.
func freeTCPPort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// door is a generator of what a shape asks of the server.
func (s *server) door(how *shape, certs *certificates) generator {
	g := s.generator()
	if addr := s.doors[how.name]; addr != "" {
		g.addr = addr
	}
	if how.secret != "" {
		g.secret = how.secret
	}
	switch {
	case how.codeless: // an Accounting-Response has no Message-Authenticator
		g.strict, g.good = false, accountingResponse
	case how.tls:
		g.tls = certs.radsec()
	case how.talk:
		g.ttls = certs.ttls()
	}
	return g
}
