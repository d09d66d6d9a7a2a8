package config

import (
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"

	"sallyport/internal/config/strict"
)

// Alerts are who is told what needs a person's look. Alerts are kept whether or not anybody is told.
type Alerts struct {
	Minimum  string // severity from which on somebody is told: info, notice, warning, critical
	Webhooks []Webhook
	Mail     *Mail
}

// Webhook is told by HTTP.
type Webhook struct {
	Pos    `key:"-"`
	Name   string
	URL    string   `key:"url"`
	Secret Secret   // of the signature
	CA     string   `key:"ca"` // file; empty: the system's
	Kinds  []string // empty: all
}

// How a mail server is spoken to.
const (
	MailStartTLS = "starttls"
	MailTLS      = "tls"
	MailPlain    = "none"
)

// Mail is told by SMTP.
type Mail struct {
	Pos        `key:"-"`
	Server     string // host:port
	From       string
	To         []string
	TLS        string `key:"tls"` // MailStartTLS, MailTLS, MailPlain
	CA         string `key:"ca"`  // file; empty: the system's
	ServerName string
	User       string
	Secret     Secret
	Kinds      []string // empty: all
}

func alerts(b *strict.Block) Alerts {
	defer b.End()
	a := Alerts{Minimum: strict.Word(b, "minimum", "warning", "info", "notice", "warning", "critical")}
	lines := map[string]int{}
	for _, item := range b.Items("webhooks") {
		w := webhook(item)
		if first, taken := lines[w.Name]; taken && w.Name != "" {
			item.Bad("name", "what was told to whom is kept by name", "%s is the name of the webhook in line %d", strict.Show(w.Name), first)
		}
		lines[w.Name] = item.Pos.Line
		a.Webhooks = append(a.Webhooks, w)
	}
	a.Mail = mailServer(b.Block("mail"))
	return a
}

func webhook(b *strict.Block) Webhook {
	defer b.End()
	w := Webhook{Pos: b.Pos, Name: b.Name("name"), Secret: b.Secret("secret", true), CA: b.Path("ca", ""), Kinds: strict.Values(b.Texts("kinds"))}
	if w.Name == "mail" {
		b.Bad("name", "take another", "is what mail is called")
	}
	v, ok := b.Needed("url")
	if ok {
		w.URL = b.Reader.URL(strict.Text{Value: v, Pos: b.At("url")}, "https", "http")
	}
	if strings.HasPrefix(w.URL, "http:") && !loopback(hostOf(w.URL)) {
		b.Bad("url", "https://, or http:// to this machine itself", "would tell the network who does what")
	}
	if n := w.Secret.Len(); n > 0 && n < 16 {
		b.Bad("secret_file", "openssl rand -base64 24", "the secret of the signature has %d bytes: 16 are the least", n)
	}
	return w
}

// hostOf needs a URL that was read before.
func hostOf(v string) string {
	u, err := url.Parse(v)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func mailServer(b *strict.Block) *Mail {
	defer b.End()
	m := &Mail{
		Pos: b.Pos, TLS: strict.Word(b, "tls", MailStartTLS, MailStartTLS, MailTLS, MailPlain), CA: b.Path("ca", ""),
		ServerName: b.Printable("server_name", "", 255), User: b.Printable("user", "", 255), Secret: b.Secret("secret", b.Has("user")),
		Kinds: strict.Values(b.Texts("kinds")), From: mailbox(b.Reader, textAt(b, "from")),
	}
	for _, t := range b.TextOrTexts("to") {
		if v := mailbox(b.Reader, t); v != "" {
			m.To = append(m.To, v)
		}
	}
	if !b.Given {
		b.Value("server")
		return nil
	}
	port := map[string]int{MailStartTLS: 587, MailTLS: 465, MailPlain: 25}[m.TLS] // RFC 8314 section 7.3, RFC 6409
	m.Server = b.HostPort("server", port)
	b.Require("from", "to")
	if host, _, err := net.SplitHostPort(m.Server); err == nil && m.TLS == MailPlain && !loopback(host) {
		if m.User != "" {
			b.Bad("tls", "starttls or tls", "none would send the password in the clear")
		} else {
			b.Reader.Warn(b.At("tls"), "starttls or tls", "mail crosses the network in the clear, with names of people and systems")
		}
	}
	return m
}

func textAt(b *strict.Block, key string) strict.Text {
	v, _ := b.Text(key)
	return strict.Text{Value: v, Pos: b.At(key)}
}

// mailbox reads the address of a mailbox, without a name beside it.
func mailbox(r *strict.Reader, t strict.Text) string {
	if t.Value == "" {
		return ""
	}
	a, err := mail.ParseAddress(t.Value)
	if err != nil || a.Address != t.Value || len(t.Value) > 254 { // RFC 5321 section 4.5.3.1.3
		r.Bad(t.Pos, "somebody@example.nhs.uk", "%s is not a mail address", strict.Show(t.Value))
		return ""
	}
	return t.Value
}
