package recording

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// EventErase is the event of a record that says that a session's recording was removed, since its time was over.
const EventErase = "recording.erase"

// Old is a recording that has not been written to since a time.
type Old struct {
	Path    string // below the folder of recordings, as records name it
	Session string
	Day     time.Time // of the session's start
	Last    time.Time // when it was last written to
	Bytes   int64
}

// WalkOld calls fn for each recording below dir that was begun, and last written to, before a time. Files and folders of other
// names are left alone.
func WalkOld(dir string, before time.Time, fn func(Old) error) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // removed meanwhile, or there are none
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." || d.IsDir() {
			return err
		}
		folder, name := filepath.Split(rel)
		session, ok := strings.CutSuffix(name, ".rec")
		day, err := time.Parse("2006/01/02/", filepath.ToSlash(folder))
		if !ok || err != nil || !sessionName.MatchString(session) || !d.Type().IsRegular() {
			return nil
		}
		const oneDay = 24 * time.Hour
		if day.Add(oneDay).After(before) {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !info.ModTime().Before(before) {
			return err
		}
		return fn(Old{Path: rel, Session: session, Day: day, Last: info.ModTime(), Bytes: info.Size()})
	})
	if err != nil {
		return fmt.Errorf("looking for old recordings: %w", err)
	}
	return nil
}

// Remove removes a recording for good, and the folders of its day, month and year that are empty then.
func Remove(dir string, o Old) error {
	path, err := File(dir, o.Path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a recording: %w", err)
	}
	folder := filepath.Dir(path)
	if err := syncFolder(folder); err != nil {
		return fmt.Errorf("removing a recording: %w", err)
	}
	for range 3 {
		if os.Remove(folder) != nil { // not empty, most likely
			break
		}
		folder = filepath.Dir(folder)
	}
	return nil
}
