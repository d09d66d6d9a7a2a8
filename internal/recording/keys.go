package recording

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"filippo.io/age"
)

// MaxRecipients bounds what a chunk costs: each recipient is a key exchange.
const MaxRecipients = 32

// ParseRecipients reads public keys of age: age1..., and age1pq1... of its post-quantum kind. Each stands once.
func ParseRecipients(texts []string) ([]age.Recipient, error) {
	if len(texts) == 0 {
		return nil, errors.New("no recipient is given")
	}
	if len(texts) > MaxRecipients {
		return nil, fmt.Errorf("%d recipients are given: %d at most", len(texts), MaxRecipients)
	}
	seen := make(map[string]bool, len(texts))
	var all []age.Recipient
	for _, text := range texts {
		if strings.HasPrefix(text, "AGE-SECRET-KEY-") {
			return nil, errors.New("a secret key stands where a public one, age1..., is wanted") // and is not repeated
		}
		if seen[text] {
			return nil, fmt.Errorf("recipient %q stands twice", text)
		}
		seen[text] = true
		var one age.Recipient
		var err error
		if strings.HasPrefix(text, "age1pq1") {
			one, err = age.ParseHybridRecipient(text)
		} else {
			one, err = age.ParseX25519Recipient(text)
		}
		if err != nil {
			return nil, fmt.Errorf("recipient %.80q is no public key of age", text)
		}
		all = append(all, one)
	}
	return all, nil
}

// NewIdentity makes a key for an auditor: the text of an identity file, as age-keygen writes it, and the recipient that
// goes with it.
func NewIdentity(now time.Time) (file []byte, recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, "", err
	}
	recipient = id.Recipient().String()
	return fmt.Appendf(nil, `# created: %s
# Move this file off the gateway, to where the auditors keep theirs: whoever has it can read session recordings.
# The gateway needs only the public key, which stands in its configuration under recording.recipients.
# public key: %s
%s
`, now.UTC().Format(time.RFC3339), recipient, id), recipient, nil
}

// parseIdentities reads the text of an identity file. Its errors repeat nothing of the text.
func parseIdentities(text []byte) ([]age.Identity, error) {
	all, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("it is no identity file of age: lines AGE-SECRET-KEY-..., and comments")
	}
	return all, nil
}
