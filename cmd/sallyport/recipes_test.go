package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRecipes: what the recipes tell people to write is a configuration, and each has all that a recipe has.
func TestRecipes(t *testing.T) {
	files, err := filepath.Glob("../../docs/radius/*.md")
	if err != nil || len(files) < 16 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	block := regexp.MustCompile("(?s)```yaml\n# sallyport.yaml\n(.*?)```")
	secret := regexp.MustCompile(`keys/[a-z0-9-]+\.secret`)
	for _, file := range files {
		name := filepath.Base(file)
		if name == "README.md" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			text := string(mustRead(t, file))
			for _, section := range []string{"What works", "Sallyport", "The device", "Timeouts", "Attributes", "Check it", "Sources"} {
				if !strings.Contains(text, "\n## "+section+"\n") {
					t.Errorf("no section %q", section)
				}
			}
			if status := strings.SplitN(text, "\n", 4)[2]; !strings.Contains(status, "ested with") {
				t.Errorf("does not say whether it was tested: %q", status)
			}
			found := block.FindStringSubmatch(text)
			if found == nil {
				t.Fatal("no configuration")
			}
			dir := filepath.Join(t.TempDir(), "gw")
			r := &rig{TB: t, config: filepath.Join(dir, "sallyport.yaml")}
			r.ok("init", dir)
			if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
				t.Fatal(err)
			}
			write := func(name, text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, s := range secret.FindAllString(found[1], -1) {
				write(s, "a-secret-of-good-length-1\n")
			}
			if strings.Contains(found[1], "keys/eap.crt") {
				cert, key := newAuthority(t).issue("radius.example.org")
				write("keys/eap.crt", string(mustRead(t, cert)))
				write("keys/eap.key", string(mustRead(t, key)))
			}
			write("sallyport.yaml", found[1])
			r.ok("config", "check")
		})
	}
}
