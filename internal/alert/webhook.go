package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// SignatureHeader is "t=SECONDS,v1=HEX": HEX is the HMAC-SHA256, under the webhook's secret, of SECONDS, a full stop, and the body. A
// receiver compares it in constant time, and refuses times that are more than a few minutes off.
const SignatureHeader = "X-Sallyport-Signature"

// maxAnswer bounds what is read of an answer, only so that the connection can be used again.
const maxAnswer = 64 << 10

// Webhook tells by POST of the Message as JSON. Any status of 2xx means that it was taken; redirects are not followed: the body is for
// the one that was named.
type Webhook struct {
	url    string
	secret []byte
	now    func() time.Time
	client *http.Client
}

// NewWebhook makes one. The TLS settings may be nil.
func NewWebhook(url string, secret []byte, t *tls.Config, now func() time.Time) *Webhook {
	transport := &http.Transport{
		TLSClientConfig: t, ForceAttemptHTTP2: true, MaxIdleConns: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second,
		ResponseHeaderTimeout: 20 * time.Second, MaxResponseHeaderBytes: 32 << 10,
	}
	return &Webhook{url: url, secret: secret, now: now, client: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Send implements Sender.
func (w *Webhook) Send(ctx context.Context, m Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be used") // which the error repeats, and URLs hold keys
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "sallyport")
	req.Header.Set(SignatureHeader, Sign(w.secret, w.now(), body))
	resp, err := w.client.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // without the URL
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the webhook answers %d", resp.StatusCode)
	}
	return nil
}

// Sign makes the value of SignatureHeader.
func Sign(secret []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
