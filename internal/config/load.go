package config

import (
	"fmt"
	"path/filepath"

	"go.yaml.in/yaml/v4"

	"sallyport/internal/config/strict"
)

// MaxFile bounds, in bytes, a configuration that is read at all: some 50,000 clients.
const MaxFile = 8 << 20

// Load reads the file at path. What is wrong with its contents comes as Problems; where it can't be read at all, the
// error wraps the system's (os.ErrNotExist). env is asked only for the names that secret_env gives.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("folder of the configuration %s: %w", path, err)
	}
	data, mode, err := strict.ReadRegular(path, MaxFile)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	r := &strict.Reader{File: path, Dir: dir, Env: env, ReadFile: strict.ReadSecretFile}
	cfg, err := read(r, data)
	if err != nil {
		return nil, err
	}
	if mode&0o004 != 0 && len(r.Inline) > 0 {
		cfg.Warnings = append(cfg.Warnings, r.Inline[0].Problem("is a secret in a file that everybody on this machine can read",
			"chmod 0640 "+path+", or use secret_file"))
	}
	return cfg, nil
}

// Parse reads data as Load reads a file. The name is what errors call it; relative paths are relative to dir; readFile
// reads the files of secrets, and decides who may be able to read them.
func Parse(name string, data []byte, dir string, env func(string) (string, bool), readFile func(path string) ([]byte, error)) (*Config, error) {
	r := &strict.Reader{File: name, Dir: dir, Env: env, ReadFile: readFile}
	return read(r, data)
}

func read(r *strict.Reader, data []byte) (*Config, error) {
	if len(data) > MaxFile {
		return nil, Problems{{File: r.File, Text: fmt.Sprintf("is larger than %d bytes", MaxFile), Hint: "is it the right file?"}}
	}
	tree := r.Tree(data)
	if len(r.Problems) > 0 {
		return nil, Problems(r.Problems)
	}
	cfg := root(r, tree)
	check(r, cfg)
	if len(r.Problems) > 0 {
		return nil, Problems(strict.InOrder(r.Problems))
	}
	cfg.Warnings = strict.InOrder(r.Warnings)
	return cfg, nil
}

// DataOf finds the data folder that a configuration names, even when much else is wrong with it: a running gateway is
// reached through that folder, and its commands must work while somebody edits the file. Empty: it can't be told.
func DataOf(path string) string {
	raw, _, err := strict.ReadRegular(path, MaxFile)
	if err != nil {
		return ""
	}
	var doc yaml.Node // which takes also what no Config can be read from, as keys given twice
	if yaml.Unmarshal(raw, &doc) != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return ""
	}
	data := "data"
	for pairs := doc.Content[0].Content; len(pairs) > 1; pairs = pairs[2:] {
		if pairs[0].Value != "data" {
			continue
		}
		if pairs[1].Kind != yaml.ScalarNode {
			return ""
		}
		data = pairs[1].Value
		break
	}
	if filepath.IsAbs(data) {
		return data
	}
	return filepath.Join(filepath.Dir(path), data)
}
