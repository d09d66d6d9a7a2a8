package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/audit"
)

// patience bounds every wait. Nothing takes it unless it hangs.
const patience = 60 * time.Second

// until waits for what no channel tells of.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// memory is a log and a store. It asserts what a store is promised: how far the log was read never goes back.
type memory struct {
	t testing.TB

	mu         sync.Mutex
	records    []*audit.Record
	more       chan struct{}
	next       uint64
	alerts     map[string]Alert
	deliveries map[deliveryKey]Delivery
	fail       error
}

func newMemory(t testing.TB) *memory {
	return &memory{t: t, more: make(chan struct{}), alerts: make(map[string]Alert), deliveries: make(map[deliveryKey]Delivery)}
}

func (m *memory) add(records ...*audit.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = append(m.records, records...)
	close(m.more)
	m.more = make(chan struct{})
}

func (m *memory) Next() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.records))
}

func (m *memory) Scan(from uint64, fn func(*audit.Record) error) error {
	m.mu.Lock()
	list := m.records[from:]
	m.mu.Unlock()
	for _, rec := range list {
		if err := fn(rec); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Follow(ctx context.Context, from uint64, fn func(*audit.Record) error) error {
	for {
		m.mu.Lock()
		more := m.more
		m.mu.Unlock()
		if m.Next() > from {
			return m.Scan(from, fn)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

func (m *memory) Alerts(_ context.Context, fn func(Alert) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.alerts {
		if err := fn(a.clone()); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) AlertsNext(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.next, nil
}

func (m *memory) SaveAlerts(_ context.Context, next uint64, put []Alert, gone []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if next < m.next {
		m.t.Errorf("the log was read up to %d, and is now up to %d", m.next, next)
	}
	m.next = next
	for _, a := range put {
		m.alerts[a.ID] = a
	}
	for _, id := range gone {
		delete(m.alerts, id)
	}
	return nil
}

func (m *memory) Deliveries(_ context.Context, fn func(Delivery) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.deliveries {
		if err := fn(d); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) SaveDeliveries(_ context.Context, list []Delivery) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range list {
		m.deliveries[d.key()] = d
	}
	return nil
}

// box is a destination.
type box struct {
	mu       sync.Mutex
	messages []Message
	fail     error
}

func (b *box) Send(_ context.Context, m Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	b.messages = append(b.messages, m)
	return nil
}

func (b *box) count() (messages, alerts int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.messages {
		alerts += len(m.Alerts) + m.More
	}
	return len(b.messages), alerts
}

func (b *box) failing(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// serve runs a follower and a notifier until the test, or stop, ends them.
func serve(t testing.TB, m *memory, now func() time.Time, o NotifierOptions) (f *Follower, n *Notifier, stop func()) {
	t.Helper()
	f = NewFollower(m, m, now)
	o.Follower, o.Now, o.Node = f, now, "gw1"
	n = NewNotifier(o)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, run := range []func(context.Context) error{f.Run, n.Run} {
		all.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(stop)
	return f, n, stop
}

func still() time.Time { return noon.Add(time.Minute) }

// TestNotify tells each destination what it wants, once over a restart, and again after it could not.
func TestNotify(t *testing.T) {
	m := newMemory(t)
	every, some, broken := &box{}, &box{}, &box{fail: errors.New("no route to nowhere")}
	o := NotifierOptions{
		Minimum: Warning, Pause: time.Millisecond, Refill: time.Hour, Burst: 100,
		Destinations: []Destination{{Name: "every", Sender: every}, {Name: "some", Kinds: []Kind{LockoutHard}, Sender: some}, {Name: "broken", Sender: broken}},
	}
	m.add(replay(0, "alice"), record(1, func(r *audit.Record) { r.Reason = "locked" }), record(2, func(r *audit.Record) { r.Reason = "locked_hard" }))
	f, n, stop := serve(t, m, still, o)
	until(t, "those that answer are told", func() bool { _, a := every.count(); _, b := some.count(); return a == 2 && b == 1 })
	until(t, "the broken one was tried again", func() bool { return n.Standings()[2].Failures > 2 })
	_, told, ok, err := f.Find(t.Context(), "AL-0")
	if err != nil || !ok || len(told) != 2 || told[0].Destination != "broken" || told[0].State != Waiting || told[0].Attempts == 0 || told[0].Error != "no route to nowhere" ||
		told[1].State != Sent || told[1].Attempts != 1 {
		t.Errorf("alert show says %+v, %v", told, err)
	}
	stop()
	m.add(replay(3, "bob"))
	broken.failing(nil)
	serve(t, m, still, o)
	until(t, "the rest is told", func() bool { _, a := every.count(); _, b := broken.count(); return a == 3 && b == 3 })
	if messages, _ := some.count(); messages != 1 {
		t.Errorf("the one that wants little got %d messages", messages)
	}
}

// TestFlood: an attack on many people is a few messages, and none of its alerts is left out of them.
func TestFlood(t *testing.T) {
	m := newMemory(t)
	b := &box{}
	var storm []*audit.Record
	const people = 150
	for seq := range uint64(10 * people) {
		storm = append(storm, replay(seq%people, fmt.Sprintf("p%d", seq%people)))
		storm[seq].Seq = seq
	}
	m.add(storm...)
	_, n, _ := serve(t, m, still, NotifierOptions{Destinations: []Destination{{Name: "box", Sender: b}}, Burst: 3, Refill: time.Hour})
	until(t, "all are told", func() bool { _, alerts := b.count(); return alerts == people })
	if messages, _ := b.count(); messages > 3 {
		t.Errorf("it took %d messages", messages)
	}
	// When the allowance is used up, what comes waits for the next, however much it is.
	for i := range 4 {
		m.add(replay(uint64(10*people+i), fmt.Sprintf("q%d", i)))
		until(t, "it is told or waits", func() bool { _, alerts := b.count(); return n.Standings()[0].Waiting > 0 || alerts == people+i+1 })
	}
	until(t, "some wait", func() bool { return n.Standings()[0].Waiting > 0 })
	if messages, _ := b.count(); messages > 3 {
		t.Errorf("beyond the allowance there are %d messages", messages)
	}
}

// TestGivesUp after a day, and says so.
func TestGivesUp(t *testing.T) {
	m := newMemory(t)
	m.add(replay(0, "alice"))
	var late atomic.Bool
	now := func() time.Time {
		if late.Load() {
			return noon.Add(25 * time.Hour)
		}
		return still()
	}
	f, n, _ := serve(t, m, now, NotifierOptions{Destinations: []Destination{{Name: "box", Sender: &box{fail: errors.New("down")}}}, Burst: 1 << 20, Pause: time.Millisecond})
	until(t, "it was tried", func() bool { return n.Standings()[0].Failures > 0 })
	late.Store(true)
	until(t, "it is given up", func() bool {
		_, told, _, err := f.Find(t.Context(), "AL-0")
		return err == nil && len(told) == 1 && told[0].State == GivenUp
	})
}

// TestStoreFails: what could not be stored is read again, and counted once.
func TestStoreFails(t *testing.T) {
	m := newMemory(t)
	f := NewFollower(m, m, still)
	m.add(replay(0, "alice"))
	m.fail = errors.New("disk full")
	if err := f.CatchUp(t.Context()); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("CatchUp says %v", err)
	}
	m.fail = nil
	m.add(replay(1, "alice"))
	list, err := f.List(t.Context(), false)
	if err != nil || len(list) != 1 || list[0].Count != 2 {
		t.Errorf("the list is %+v, %v", list, err)
	}
}

// TestRaise: where no record can be made there is an alert all the same.
func TestRaise(t *testing.T) {
	m := newMemory(t)
	f := NewFollower(m, m, still)
	if err := f.Raise(t.Context(), Signal{Kind: LogTrouble}, "no space left on device", "gw1"); err != nil {
		t.Fatal(err)
	}
	list, err := NewFollower(m, m, still).List(t.Context(), false)
	if err != nil || len(list) != 1 || list[0].Kind != LogTrouble || list[0].Text != "no space left on device" || list[0].Told.IsZero() {
		t.Errorf("the list is %+v, %v", list, err)
	}
}

func TestTestMessage(t *testing.T) {
	m := newMemory(t)
	good := &box{}
	_, n, _ := serve(t, m, still, NotifierOptions{Destinations: []Destination{{Name: "good", Sender: good}, {Name: "bad", Sender: &box{fail: errors.New("down")}}}})
	tried := n.Test(t.Context())
	if len(tried) != 2 || tried[0].Error != "" || tried[1].Error != "down" || !good.messages[0].Test {
		t.Errorf("tried %+v", tried)
	}
}

// TestWebhook speaks to a real HTTP server.
func TestWebhook(t *testing.T) {
	var got atomic.Value
	var elsewhere atomic.Bool
	secret := []byte("a secret of the webhook")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "/elsewhere":
			elsewhere.Store(true)
		case "/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/silent":
			_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that the other end has gone
			<-r.Context().Done()
		default:
			body, err := io.ReadAll(r.Body)
			if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get(SignatureHeader) != Sign(secret, noon, body) {
				t.Errorf("%s %v, %v", r.Method, r.Header, err)
			}
			got.Store(body)
		}
	}))
	defer server.Close()
	trusting := server.Client().Transport.(*http.Transport).TLSClientConfig
	b := NewBook(nil)
	b.Apply(replay(1, "alice"), noon)
	m := Message{Node: "gw1", Sent: noon, Alerts: b.List(true)}
	send := func(path string, trusted bool) error {
		c := trusting
		if !trusted {
			c = nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return NewWebhook(server.URL+path, secret, c, func() time.Time { return noon }).Send(ctx, m)
	}
	if err := send("/", true); err != nil {
		t.Fatal(err)
	}
	var back Message
	if err := json.Unmarshal(got.Load().([]byte), &back); err != nil || back.Node != "gw1" || len(back.Alerts) != 1 || back.Alerts[0].Kind != CodeReplay || back.Alerts[0].Severity != Warning {
		t.Errorf("it got %s, %v", got.Load(), err)
	}
	for path, want := range map[string]string{"/moved?key=Marker": "answers 307", "/down?key=Marker": "answers 503", "/silent?key=Marker": "deadline"} {
		if err := send(path, true); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Marker") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if elsewhere.Load() {
		t.Error("a redirect was followed")
	}
	if err := send("/", false); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server whose CA nobody knows: %v", err)
	}
}

// TestSign holds the bytes that receivers compute.
func TestSign(t *testing.T) {
	// printf %s '1782820800.{}' | openssl dgst -sha256 -hmac key
	const want = "t=1782820800,v1=38ce8f446ab5868b3111f81881e4b109b7a7cb2a432a1a25975a84a91efa3cc4"
	if got := Sign([]byte("key"), noon, []byte("{}")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
