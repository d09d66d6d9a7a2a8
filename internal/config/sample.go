package config

import (
	"bytes"
	_ "embed"
	"strconv"
	"text/template"
)

// SampleValues are what differs from one sample to the next. Empty fields stand for the loopback addresses and files of
// a first try.
type SampleValues struct {
	Node       string // empty: the key is commented out, and the machine's name is used
	RADIUS     string // address to listen on
	SSH        string
	Metrics    string
	SecretFile string // of the RADIUS client on this machine, relative to the configuration
	HostKey    string // of the SSH gateway, relative to the configuration
	Recipient  string // of recordings; empty: none are made
}

//go:embed sample.yaml
var sampleText string

// Sample is the commented configuration that `sallyport init` writes. It loads without a warning once the files that it
// names are there.
func Sample(v SampleValues) []byte {
	for _, d := range []struct {
		field    *string
		fallback string
	}{
		{&v.RADIUS, "127.0.0.1:1812"},
		{&v.SSH, "127.0.0.1:2222"},
		{&v.Metrics, "127.0.0.1:9464"},
		{&v.SecretFile, "keys/radius-local.secret"},
		{&v.HostKey, "data/keys/ssh_host_ed25519_key"},
	} {
		if *d.field == "" {
			*d.field = d.fallback
		}
	}
	t := template.Must(template.New("sample").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(sampleText))
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		panic("config: the sample is broken: " + err.Error()) // only by whoever edits it; a test runs it
	}
	return b.Bytes()
}
