package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookAgain is how often the files of certificates are looked at, when they are used: a renewed certificate serves the
// next handshake after that, without a reload.
const lookAgain = 5 * time.Second

// fresh keeps what was made of some files, and makes it anew when one of them has changed. What cannot be made leaves the
// old one in use, and is said once. It is safe for concurrent use.
type fresh[T any] struct {
	files []string
	read  func() (T, error)
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	value  T         // guarded by mu
	marks  string    // guarded by mu: sizes and times of the files when they were read
	looked time.Time // guarded by mu
}

// newFresh reads the files once, so that a start with wrong ones fails.
func newFresh[T any](log *slog.Logger, read func() (T, error), files ...string) (*fresh[T], error) {
	f := &fresh[T]{files: files, read: read, log: log, now: time.Now}
	f.marks = f.mark()
	var err error
	f.value, err = read()
	f.looked = f.now()
	return f, err
}

func (f *fresh[T]) mark() string {
	marks := ""
	for _, name := range f.files {
		info, err := os.Stat(name)
		if err != nil {
			marks += err.Error()
			continue
		}
		marks += fmt.Sprint(info.Size(), info.ModTime().UnixNano(), " ")
	}
	return marks
}

// get returns the newest that could be read.
func (f *fresh[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.looked) >= lookAgain || now.Before(f.looked) {
		f.looked = now
		if marks := f.mark(); marks != f.marks {
			f.marks = marks
			value, err := f.read()
			if err != nil {
				f.log.Error("a certificate was changed and cannot be used; the old one stays", "files", f.files, "error", err)
			} else {
				f.log.Info("a certificate was changed and is used from now on", "files", f.files)
				f.value = value
			}
		}
	}
	return f.value
}

// keyPair reads a certificate with its chain, and its key.
func keyPair(cert, key string) func() (*tls.Certificate, error) {
	return func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
		}
		return &pair, nil
	}
}

// authorities reads certificates of authorities.
func authorities(file string) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: %w", file, errNoCertificate)
		}
		return pool, nil
	}
}

var errNoCertificate = errors.New("there is no certificate in PEM in it")
