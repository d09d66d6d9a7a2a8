package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// secretsIn lists what the file gives as the values of `secret`.
func secretsIn(n *yaml.Node) []string {
	var all []string
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "secret" && n.Content[i+1].Kind == yaml.ScalarNode {
				all = append(all, n.Content[i+1].Value)
			}
		}
	}
	for _, c := range n.Content {
		all = append(all, secretsIn(c)...)
	}
	return all
}

// FuzzParse: no file makes it panic; a file is either wrong or gives a whole configuration; and no secret, from
// the file or beside it, is in what it prints (P9).
func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(Sample(SampleValues{}))
	const beside = "c2VjcmV0LWJlc2lkZQ"
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		cfg, err := Parse("x.yaml", data, "/etc/sallyport",
			func(string) (string, bool) { return beside, true },
			func(string) ([]byte, error) { return []byte(beside), nil })
		var problems Problems
		if (cfg == nil) == (err == nil) || err != nil && (!errors.As(err, &problems) || len(problems) == 0) {
			t.Fatalf("config %v, error %v", cfg != nil, err)
		}
		said := ""
		if err != nil {
			said = err.Error()
		} else {
			for _, w := range cfg.Warnings {
				said += w.String() + "\n"
			}
			for _, s := range settingsOf(cfg).all {
				said += s.path + s.text + "\n"
			}
			if again, err := Parse("x.yaml", data, "/etc/sallyport", func(string) (string, bool) { return beside, true },
				func(string) ([]byte, error) { return []byte(beside), nil }); err != nil || Hash(again) != Hash(cfg) || len(Diff(cfg, again)) > 0 {
				t.Fatalf("the same file is different the second time: %v", err)
			}
			for _, r := range cfg.Policy().Validate() {
				t.Fatalf("rules: %v", r)
			}
			for _, c := range cfg.RADIUS.Clients {
				if c.Certificate == "" && (c.Secret.Empty() || !c.Prefix.IsValid()) || c.Name == "" || c.Line == 0 {
					t.Fatalf("an unfinished client: %+v", c)
				}
			}
		}
		if strings.Contains(said, beside) && !strings.Contains(string(data), beside) {
			t.Fatalf("the secret beside the file is repeated in:\n%s", said)
		}
		var doc yaml.Node
		if yaml.Unmarshal(data, &doc) != nil {
			return
		}
		for _, secret := range secretsIn(&doc) {
			// One that is short, or stands elsewhere in the file too, may be there for another reason.
			if len(secret) >= 12 && strings.Count(string(data), secret) == 1 && strings.Contains(said, secret) {
				t.Fatalf("the secret %q is repeated in:\n%s", secret, said)
			}
		}
	})
}
