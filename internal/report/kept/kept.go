// Package kept is the folder in which reports are kept as they were made, so that in July one can show what was signed in June. A report's
// name begins with its day and kind, and ends with the first digits of the SHA-256 of its JSON; the whole SHA-256 is in the audit record of
// its making, which whoever can write the folder cannot change.
package kept

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// MaxFile bounds what is read of one file, in bytes.
const MaxFile = 1 << 30

// MaxFolder bounds the folder, in bytes: reports that fill the disk would close the gateway.
const MaxFolder = 4 << 30

// ErrFull: the folder has its fill.
var ErrFull = fmt.Errorf("the kept reports have %d GiB, and no more are kept", MaxFolder>>30)

// digits of the hash that are in a name.
const digits = 16

// Folder is a folder of kept reports. It is made when the first is put in. Its methods may be called concurrently.
type Folder string

// ID names a kept report: 2026-06-30-mfa-3f2a9c1b7d0e8f11.
type ID string

var idForm = regexp.MustCompile(`^([0-9]{4}-[0-9]{2}-[0-9]{2})-([a-z][a-z-]{0,30})-([0-9a-f]{16})$`)

// ParseID refuses whatever is no name of a kept report, so that none leads out of the folder.
func ParseID(s string) (ID, error) {
	if !idForm.MatchString(s) {
		return "", fmt.Errorf("%.80q is no report's name: want one like 2026-06-30-mfa-3f2a9c1b7d0e8f11", s)
	}
	return ID(s), nil
}

// Day, Kind and Hash are the parts of a name.
func (id ID) Day() string  { return id.part(1) }
func (id ID) Kind() string { return id.part(2) }
func (id ID) Hash() string { return id.part(3) }

func (id ID) part(n int) string {
	m := idForm.FindStringSubmatch(string(id))
	if m == nil {
		return ""
	}
	return m[n]
}

// Name gives a report's name.
func Name(day time.Time, kind string, sum [sha256.Size]byte) ID {
	return ID(day.UTC().Format(time.DateOnly) + "-" + kind + "-" + hex.EncodeToString(sum[:])[:digits])
}

// Put keeps a form of a report, durably. The same bytes may be put again.
func (f Folder) Put(id ID, format string, content []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keeping report %s: %w", id, err)
		}
	}()
	if err := f.Room(int64(len(content))); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(string(f), ".report-*")
	if err != nil {
		return err
	}
	if _, err = tmp.Write(content); err != nil {
		return errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
	}
	return f.Adopt(id, format, tmp)
}

// Room makes the folder, and tells whether so many bytes more may be kept.
func (f Folder) Room(n int64) error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(string(f))
	if err != nil {
		return err
	}
	for _, file := range files {
		if info, err := file.Info(); err == nil { // else it is gone
			n += info.Size()
		}
	}
	if n > MaxFolder {
		return ErrFull
	}
	return nil
}

// Adopt keeps a file that was written in the folder under another name, and closes it. Where that fails it is removed.
func (f Folder) Adopt(id ID, format string, tmp *os.File) error {
	defer os.Remove(tmp.Name()) // it is gone by then, if all is well
	err := errors.Join(tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), f.path(id, format))
	}
	if err != nil {
		return err
	}
	d, err := os.Open(string(f))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f Folder) path(id ID, format string) string {
	return filepath.Join(string(f), string(id)+"."+format)
}

// ErrNone: there is no such report in the folder.
var ErrNone = errors.New("no such report is kept")

// Read gives a kept form back. That it is what it was is for the caller to find out, by its SHA-256.
func (f Folder) Read(id ID, format string) ([]byte, error) {
	path := f.path(id, format)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("report %s as %s: %w", id, format, ErrNone)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > MaxFile:
		return nil, fmt.Errorf("report %s: %s is no file of at most %d bytes", id, path, MaxFile)
	}
	return os.ReadFile(path)
}

// Entry is a kept report.
type Entry struct {
	ID      ID       `json:"id"`
	Formats []string `json:"formats"`
	Bytes   int64    `json:"bytes"` // of all its forms
}

// List lists the kept reports, the oldest first. Files that are no reports are passed over.
func (f Folder) List() ([]Entry, error) {
	files, err := os.ReadDir(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Entry
	place := make(map[ID]int)
	for _, file := range files {
		name, format, _ := strings.Cut(file.Name(), ".")
		id, err := ParseID(name)
		info, ierr := file.Info()
		if err != nil || ierr != nil || !info.Mode().IsRegular() {
			continue
		}
		at, seen := place[id]
		if !seen {
			at = len(list)
			place[id], list = at, append(list, Entry{ID: id})
		}
		list[at].Formats = append(list[at].Formats, format)
		list[at].Bytes += info.Size()
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list, nil
}
