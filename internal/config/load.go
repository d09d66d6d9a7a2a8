package config

import (
	"fmt"
	"path/filepath"

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
