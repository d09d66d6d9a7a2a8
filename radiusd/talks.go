package radiusd

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"sallyport/internal/login"
	"sallyport/radiusd/eap"
)

const (
	// maxTalks bounds the EAP conversations that are open at once. Each may hold a TLS handshake: some 50 kB.
	maxTalks = 1024
	// talkFor is how long a person may think, and a device be silent, until a conversation is forgotten.
	talkFor = 2 * time.Minute

	talkIDSize    = 16
	talkStateSize = talkIDSize + 4
)

type talkID [talkIDSize]byte

// talk is one EAP conversation. Whoever has taken it from the talks has it alone.
type talk struct {
	id      talkID
	round   uint32 // of the State that is good for the next packet
	with    *eap.Conversation
	judge   *eapJudge
	touched time.Time
	// Guarded by the table's lock.
	gone bool // taken, or forgotten; what order still holds of it is skipped
}

// talks are the conversations that wait for their person, in this node's memory: the halves of TLS cannot travel. At another
// node, or after a restart, the person begins anew. It is safe for concurrent use; its zero value is empty.
type talks struct {
	mu    sync.Mutex
	by    map[talkID]*talk
	order []*talk // longest untouched first
	shut  bool
}

func newTalk(with *eap.Server, judge *eapJudge) *talk {
	t := &talk{judge: judge, with: with.Begin(judge)}
	_, _ = rand.Read(t.id[:]) // never fails
	return t
}

// state is what the NAS is to give back: which conversation, and which of its rounds, so that none is heard twice.
func (t *talk) state() []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, talkStateSize), t.id[:]...), t.round)
}

// put keeps a conversation until the next packet. Of too many, that which waited longest is forgotten.
func (k *talks) put(t *talk, now time.Time) {
	k.mu.Lock()
	if k.shut {
		k.mu.Unlock()
		t.with.Close()
		return
	}
	if k.by == nil {
		k.by = make(map[talkID]*talk)
	}
	waiting := &talk{id: t.id, round: t.round, with: t.with, judge: t.judge, touched: now}
	k.by[t.id] = waiting
	k.order = append(k.order, waiting)
	old := k.forget(now)
	k.mu.Unlock()
	for _, t := range old {
		t.with.Close()
	}
}

// forget takes out what is too old or too much. The caller holds mu, and closes what it gets.
func (k *talks) forget(now time.Time) (old []*talk) {
	for len(k.order) > 0 {
		first := k.order[0]
		if !first.gone {
			if len(k.by) <= maxTalks && now.Sub(first.touched) < talkFor {
				break
			}
			first.gone = true
			delete(k.by, first.id)
			old = append(old, first)
		}
		k.order[0] = nil
		k.order = k.order[1:]
	}
	return old
}

// take gets the conversation of a State, for its next round.
func (k *talks) take(state []byte, now time.Time) *talk {
	if len(state) != talkStateSize {
		return nil
	}
	id, round := talkID(state[:talkIDSize]), binary.BigEndian.Uint32(state[talkIDSize:])
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.by[id]
	if t == nil || t.round != round || now.Sub(t.touched) >= talkFor {
		return nil
	}
	t.gone = true
	delete(k.by, id)
	return t
}

// open begins to keep conversations, and close forgets all, with those that come back later.
func (k *talks) open() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shut = false
}

func (k *talks) close() {
	k.mu.Lock()
	k.shut = true
	all := k.by
	k.by, k.order = nil, nil
	k.mu.Unlock()
	for _, t := range all {
		t.with.Close()
	}
}

// eapJudge asks the Gate for one conversation. What it is asked about depends on the client's mode, as with passwords.
type eapJudge struct {
	s       *Server
	attempt string   // its id, for all rounds
	r       *request // whose packet is heard
	round   login.Progress
	second  bool // round holds
	outcome login.Outcome
	judged  bool // outcome holds
	name    string
}
