package audit

import (
	"context"
	"time"
)

const (
	// checkpointWithin is how long after a record the stored checkpoint may still leave it out. Until then a process
	// that is killed, and whose last records are then cut off, looks like one that was killed a moment earlier.
	checkpointWithin = 150 * time.Millisecond
	// syncEvery is how long a checkpoint may be in the page cache only.
	syncEvery = 3 * time.Second
)

// CheckpointStatus tells how far the stored checkpoint reaches.
type CheckpointStatus struct {
	Size uint64    // records that it signs
	Time time.Time // when it was written
	Err  error     // why the newest could not be written; it is tried again
}

// CheckpointStatus tells how far the stored checkpoint reaches. What it does not reach is Next minus Size.
func (l *Log) CheckpointStatus() CheckpointStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Checkpoint signs the tree of all durable records now, stores the checkpoint through to the disk, and returns it: a
// signed note as C2SP tlog-checkpoint has it, to be given to whoever shall be able to prove a truncation later.
func (l *Log) Checkpoint() (string, error) {
	if next := l.journal.Next(); next > 0 {
		if err := l.await(context.Background(), next-1); err != nil {
			return "", err
		}
	}
	return l.publish(true)
}

func (l *Log) publish(sync bool) (string, error) {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	var t tree
	l.mu.Lock()
	closed := l.closed
	t.set(&l.durable)
	fresh := l.waiting.take(t.size)
	l.mu.Unlock()
	if closed {
		return "", ErrClosed // another process may own the file by now
	}
	l.keepHashes(&t, fresh)
	msg, err := t.head().sign(l.o.Signer)
	if err == nil {
		err = l.file.store(msg, sync)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status.Err = err; err != nil {
		return "", err
	}
	l.status.Size, l.status.Time = t.size, l.o.Now()
	return msg, nil
}

// keep writes checkpoints until Close. Most are not synced: that would make the disk's log compete with the
// journal's own writes.
func (l *Log) keep() {
	defer close(l.kept)
	timer := time.NewTimer(syncEvery)
	defer timer.Stop()
	synced := time.Now()
	unsynced := false
	for {
		var due <-chan time.Time
		if unsynced {
			timer.Reset(time.Until(synced.Add(syncEvery)))
			due = timer.C
		}
		select {
		case <-l.stop:
			return
		case <-due:
		case <-l.dirty:
			timer.Reset(checkpointWithin)
			select {
			case <-l.stop:
				return
			case <-timer.C:
			}
		}
		sync := time.Since(synced) >= syncEvery
		if _, err := l.publish(sync); err != nil { // the status holds it
			unsynced, synced = true, time.Now()
			continue
		}
		if unsynced = !sync; sync {
			synced = time.Now()
		}
	}
}
