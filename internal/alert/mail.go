package alert

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

// MailSecurity is how a mail server is spoken to.
type MailSecurity uint8

// The ways. Nothing falls back to a weaker one.
const (
	StartTLS MailSecurity = iota
	ImplicitTLS
	Plain
)

// Mail tells by SMTP.
type Mail struct {
	Host       string
	Port       int
	Security   MailSecurity
	TLS        *tls.Config // nil: the system's CAs, and Host
	From       string
	To         []string
	User       string // empty: no authentication
	Password   string
	Timeout    time.Duration // of connecting; 0: 15 s
	LocalNames string        // what HELO says; empty: this machine's name
}

// Send implements Sender.
func (m *Mail) Send(ctx context.Context, msg Message) error {
	client, err := m.client()
	if err != nil {
		return fmt.Errorf("mail server %s: %w", m.Host, err)
	}
	letter := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := letter.From(m.From); err != nil {
		return fmt.Errorf("sender %q: %w", m.From, err)
	}
	if err := letter.To(m.To...); err != nil {
		return fmt.Errorf("recipients %q: %w", m.To, err)
	}
	letter.Subject(msg.Subject())
	letter.SetDateWithValue(msg.Sent)
	letter.SetMessageID()
	letter.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office answers
	letter.SetGenHeader("X-Sallyport-Node", msg.Node)
	letter.SetBodyString(mail.TypeTextPlain, Letter(msg))
	if err := client.DialAndSendWithContext(ctx, letter); err != nil {
		return fmt.Errorf("mail by %s: %w", m.Host, err)
	}
	return nil
}

func (m *Mail) client() (*mail.Client, error) {
	timeout := m.Timeout
	if timeout == 0 {
		timeout = 15 * time.Second
	}
	o := []mail.Option{mail.WithPort(m.Port), mail.WithTimeout(timeout), mail.WithoutNoop()}
	t := m.TLS
	if t == nil {
		t = &tls.Config{}
	}
	t = t.Clone()
	t.MinVersion = max(t.MinVersion, tls.VersionTLS12)
	if t.ServerName == "" {
		t.ServerName = m.Host
	}
	switch m.Security {
	case ImplicitTLS:
		o = append(o, mail.WithSSL(), mail.WithTLSConfig(t))
	case Plain:
		o = append(o, mail.WithTLSPolicy(mail.NoTLS))
	default:
		o = append(o, mail.WithTLSPolicy(mail.TLSMandatory), mail.WithTLSConfig(t))
	}
	if m.User != "" {
		o = append(o, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(m.User), mail.WithPassword(m.Password))
	}
	if m.LocalNames != "" {
		o = append(o, mail.WithHELO(m.LocalNames))
	}
	return mail.NewClient(m.Host, o...)
}

// Letter is a message as people read it.
func Letter(m Message) string {
	var b strings.Builder
	if m.Test {
		b.WriteString("This is a test: somebody ran `sallyport alert test` at gateway " + m.Node + ".\nAlerts get here.\n")
		return b.String()
	}
	for i := range m.Alerts {
		a := &m.Alerts[i]
		means := a.Means()
		fmt.Fprintf(&b, "%s\n%s\n\n  what to do  %s\n  newest      %s\n  seen        %d times, from %s to %s\n  records     %s\n  state       %s\n  look        sallyport alert show %s\n\n",
			a.line(), means.Means, means.Do, a.Text, a.Count, a.First.UTC().Format(time.RFC3339), a.Last.UTC().Format(time.RFC3339), numbers(a.Records), a.State, a.ID)
	}
	if m.More > 0 {
		fmt.Fprintf(&b, "And %d more: sallyport alert list\n\n", m.More)
	}
	b.WriteString("-- \ngateway " + m.Node + "\n")
	return b.String()
}

func numbers(list []uint64) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, ", ")
}
