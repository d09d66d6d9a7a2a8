package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// saveEvery is the most that a crash loses.
	saveEvery = time.Minute
	// forgetAfter is when a client that is not configured any more is forgotten. Until then, its name may come back.
	forgetAfter = 90 * 24 * time.Hour
	// maxFile bounds what a start reads: some 4 kB for each of four thousand clients.
	maxFile = 16 << 20
	// version is the file's form. What has another one is not read.
	version = 1
	// damagedSuffix marks a file that could not be read.
	damagedSuffix = ".damaged"
)

// file is the Book's form on disk.
type file struct {
	Version int                 `json:"version"`
	Clients map[string]*History `json:"clients"`
}

// Book is what is known of all clients, and its file. It is safe for concurrent use.
type Book struct {
	path string
	now  func() time.Time
	log  *slog.Logger

	mu      sync.Mutex // guards the rest
	clients map[string]*History
	last    map[string]Counts // what the server's counts were when they were taken last
	changed bool              // since it was written
	saved   time.Time
	failing bool // writing failed the last time, and was said
}

// Open reads the book at path. It never fails: what cannot be read is said and set aside, and counting begins anew.
func Open(path string, now func() time.Time, log *slog.Logger) *Book {
	b := &Book{path: path, now: now, log: log, last: make(map[string]Counts), saved: now()}
	clients, err := Read(path)
	if err != nil {
		aside := path + damagedSuffix
		if e := os.Rename(path, aside); e != nil {
			aside = e.Error()
		}
		log.Warn("what was seen of RADIUS clients before cannot be read, and is counted anew", "file", path, "err", err, "kept_as", aside)
	}
	if b.clients = clients; clients == nil {
		b.clients = make(map[string]*History)
	}
	return b
}

// Read returns what a book's file holds, for who has no gateway to ask. Where there is none, there is nothing in it.
func Read(path string) (map[string]*History, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]*History{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return parse(raw)
}

func parse(raw []byte) (map[string]*History, error) {
	if len(raw) > maxFile {
		return nil, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	var in file
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if in.Version != version {
		return nil, fmt.Errorf("it has version %d, and this program reads %d", in.Version, version)
	}
	for name, h := range in.Clients {
		if h == nil || len(h.Days) > recentDays {
			return nil, fmt.Errorf("it is damaged at client %q", name)
		}
	}
	if in.Clients == nil {
		in.Clients = make(map[string]*History)
	}
	return in.Clients, nil
}

// Take adds what is new in the counts of the configured clients, which the server has from its start.
func (b *Book) Take(live map[string]Counts) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for name, counts := range live {
		h := b.clients[name]
		if h == nil {
			h = &History{Since: now, Updated: now}
			b.clients[name] = h
			b.changed = true
		}
		if more := counts.since(b.last[name]); !more.nothing() {
			h.add(more, now)
			b.changed = true
		}
		b.last[name] = counts
	}
	for name := range b.last {
		if _, configured := live[name]; !configured {
			delete(b.last, name) // should it come back, its counts begin at zero
		}
	}
	for name, h := range b.clients {
		if _, configured := live[name]; !configured && now.Sub(h.Updated) > forgetAfter {
			delete(b.clients, name)
			b.changed = true
		}
	}
}

// nothing reports whether nothing was counted.
func (c *Counts) nothing() bool {
	for _, n := range c.numbers() {
		if *n > 0 {
			return false
		}
	}
	return len(c.Drops) == 0
}

// Of tells of one client. What it returns is the caller's.
func (b *Book) Of(name string) (History, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.clients[name]
	if h == nil {
		return History{}, false
	}
	own := *h
	own.Total.Drops = maps.Clone(h.Total.Drops)
	own.Days = make([]Day, len(h.Days))
	for i, d := range h.Days {
		own.Days[i] = d
		own.Days[i].Drops = maps.Clone(d.Drops)
	}
	return own, true
}

// SaveWhenDue writes the book when something has changed and the last writing is long enough ago.
func (b *Book) SaveWhenDue() {
	b.mu.Lock()
	defer b.mu.Unlock()
	age := b.now().Sub(b.saved)
	if b.changed && (age >= saveEvery || age < 0) {
		b.save()
	}
}

// Save writes the book, if something has changed.
func (b *Book) Save() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed {
		b.save()
	}
}

// save says an error once, until it works again. The caller holds mu, so that a slow disk keeps those waiting who ask for
// reports, and nobody else.
func (b *Book) save() {
	b.saved = b.now()
	raw, err := json.Marshal(file{Version: version, Clients: b.clients})
	if err == nil {
		err = replace(b.path, raw)
	}
	if err != nil && !b.failing {
		b.log.Warn("what is seen of RADIUS clients cannot be kept for the next start", "file", b.path, "err", err)
	}
	b.failing = err != nil
	b.changed = err != nil
}

// replace writes a file under another name and puts it in the place of the old one, so that a crash leaves one of both.
func replace(path string, raw []byte) error {
	const unfinished = ".new"
	f, err := os.OpenFile(path+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+unfinished, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
