package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"sallyport/internal/config/strict"
)

// maxSecretInput bounds what is read of a secret from standard input.
const maxSecretInput = 4096

// readSecret reads all of standard input, less one newline at its end.
func (c *cli) readSecret(what string) (string, error) {
	b, err := io.ReadAll(io.LimitReader(c.stdin, maxSecretInput+1))
	if err != nil {
		return "", fmt.Errorf("%s from standard input: %w", what, err)
	}
	if len(b) > maxSecretInput {
		return "", fmt.Errorf("%s from standard input is longer than %d bytes", what, maxSecretInput)
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if s == "" {
		return "", hintf("for example: printf %s \"$SECRET\" | sallyport ...", "%s: standard input is empty", what)
	}
	return s, nil
}

// askSecret asks at the terminal, without echo; where standard input is none, it reads a line of that.
func (c *cli) askSecret(prompt string) (string, error) {
	if !terminal(c.stdin) {
		return c.readLine(prompt)
	}
	fmt.Fprint(c.stderr, prompt)
	b, err := term.ReadPassword(int(c.stdin.(*os.File).Fd()))
	fmt.Fprintln(c.stderr)
	return string(b), err
}

// readLine reads a line of standard input, after a prompt if somebody is there to see it.
func (c *cli) readLine(prompt string) (string, error) {
	if terminal(c.stdin) {
		fmt.Fprint(c.stderr, prompt)
	}
	if _, ok := c.stdin.(*bufio.Reader); !ok {
		c.stdin = bufio.NewReaderSize(c.stdin, maxSecretInput) // kept, so that a second line is not lost in it
	}
	line, err := c.stdin.(*bufio.Reader).ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		if errors.Is(err, io.EOF) {
			return "", hintf("give one line for each prompt", "standard input ended at the prompt %q", strings.TrimSpace(prompt))
		}
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// parseWhen reads a point in time: RFC 3339, a day (UTC), or how long ago.
func parseWhen(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d).UTC(), nil
	}
	return time.Time{}, usageError{hintf("2026-06-30, 2026-06-30T09:00:00Z, or 24h for a day ago", "--%s %q is no time", flag, s)}
}

// span is a flag for a length of time, in the words of the configuration: 90s, 15m, 12h, 30d.
type span time.Duration

func (s *span) String() string {
	if *s == 0 {
		return ""
	}
	return strict.Span(time.Duration(*s))
}

func (s *span) Type() string { return "span" }

func (s *span) Set(text string) error {
	d, err := strict.ParseDuration(text)
	*s = span(d)
	return err
}
