package witness

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Log is a log that a witness knows.
type Log struct {
	Origin string
	Keys   []note.Verifier
}

// LogListHeader begins a list of logs.
const LogListHeader = "logs/v0"

// maxLogs bounds a list: each log has a file, and a place on the page.
const maxLogs = 10_000

var errLogList = errors.New("not a list of logs")

// WriteLogs replaces the file of a list of logs. When it returns without an error, the list is on the disk.
func WriteLogs(path, list string) error { return replace(path, list, 0o644) }

// ParseLogs reads a list of logs as the public witness network has it: the line "logs/v0", then for each log a line
// "vkey <key>", perhaps "origin <origin>" where that is not the key's name, and others that mean nothing here. Empty
// lines and those that begin with # are passed over. A log with several keys is listed once for each.
func ParseLogs(list string) ([]Log, error) {
	var logs []Log
	at := make(map[string]int)
	var key note.Verifier
	var origin string
	header := false
	finish := func() error {
		if key == nil {
			return nil
		}
		if origin == "" {
			origin = key.Name()
		}
		i, again := at[origin]
		if !again {
			i = len(logs)
			at[origin] = i
			logs = append(logs, Log{Origin: origin})
		}
		for _, k := range logs[i].Keys {
			if k.Name() == key.Name() && k.KeyHash() == key.KeyHash() {
				return fmt.Errorf("the key %s+%08x is listed twice for %.100q: %w", key.Name(), key.KeyHash(), origin, errLogList)
			}
		}
		logs[i].Keys = append(logs[i].Keys, key)
		key, origin = nil, ""
		if len(logs) > maxLogs {
			return fmt.Errorf("more than %d logs: %w", maxLogs, errLogList)
		}
		return nil
	}
	n := 0
	for line := range strings.Lines(list) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !header {
			if line != LogListHeader {
				return nil, fmt.Errorf("line %d: want %q: %w", n, LogListHeader, errLogList)
			}
			header = true
			continue
		}
		word, value, _ := strings.Cut(line, " ")
		switch {
		case word == "vkey":
			err := finish()
			if err == nil {
				if key, err = note.NewVerifier(value); err != nil {
					err = fmt.Errorf("key %.100q: %w: %w", value, err, errLogList)
				}
			}
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
		case key == nil:
			return nil, fmt.Errorf("line %d: want a line \"vkey KEY\" first: %w", n, errLogList)
		case word == "origin":
			if value == "" || len(value) > maxName || origin != "" {
				return nil, fmt.Errorf("line %d: origin %.100q: %w", n, value, errLogList)
			}
			origin = value
		}
	}
	if !header {
		return nil, fmt.Errorf("want a first line %q: %w", LogListHeader, errLogList)
	}
	if err := finish(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n, err)
	}
	return logs, nil
}
