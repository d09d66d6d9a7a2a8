package recording

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// EventChunk is the event of the audit record that is made for each chunk. It belongs to the session, its result is info,
// and its details are ChunkDetails.
const EventChunk = "recording.chunk"

// Keys of details in audit records.
const (
	DetailChunk  = "chunk" // of EventChunk
	DetailOffset = "offset"
	DetailLength = "length"
	DetailSHA256 = "sha256"
	DetailFirst  = "first"
	DetailLast   = "last"

	DetailRecording = "recording" // of session.start: the file, below the folder of recordings

	DetailChunks = "recording_chunks" // of session.end
	DetailSum    = "recording_sha256"
	DetailState  = "recording_state"
)

// State is how a recording ended.
type State string

// The states.
const (
	Complete State = "complete"
	Failed   State = "failed"  // it broke off: disk, sealing or audit log
	Stopped  State = "stopped" // it reached a limit of size or space
)

// Chunk is one sealed chunk that is on the disk.
type Chunk struct {
	Number int       `json:"number"` // from 0
	Offset int64     `json:"offset"` // of the age file in the recording
	Length int64     `json:"length"` // of the age file
	SHA256 string    `json:"sha256"` // of the age file, lower-case hex
	First  time.Time `json:"first"`  // event in it
	Last   time.Time `json:"last"`
}

// Summary is what a recording came to.
type Summary struct {
	Path   string // below the folder of recordings
	State  State
	Chunks int    // that are on the disk and were told
	Bytes  int64  // of the file
	SHA256 string // hex SHA-256 over the 32-byte sums of the chunks, in order
}

const detailTime = "2006-01-02T15:04:05.000Z07:00"

// ChunkDetails are the details of an EventChunk record, as key and value.
func ChunkDetails(c Chunk) [][2]string {
	return [][2]string{
		{DetailChunk, strconv.Itoa(c.Number)},
		{DetailOffset, strconv.FormatInt(c.Offset, 10)},
		{DetailLength, strconv.FormatInt(c.Length, 10)},
		{DetailSHA256, c.SHA256},
		{DetailFirst, c.First.UTC().Format(detailTime)},
		{DetailLast, c.Last.UTC().Format(detailTime)},
	}
}

// StartDetails are the details that session.start has of a recording.
func StartDetails(w *Writer) [][2]string { return [][2]string{{DetailRecording, w.Path()}} }

// SummaryDetails are the details that session.end has of a recording.
func SummaryDetails(s Summary) [][2]string {
	return [][2]string{
		{DetailChunks, strconv.Itoa(s.Chunks)},
		{DetailSum, s.SHA256},
		{DetailState, string(s.State)},
	}
}

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ParseChunk reads a chunk back from the details of a record; get gives a detail's value, or nothing.
func ParseChunk(get func(key string) string) (c Chunk, err error) {
	number := func(key string) (n int64) {
		v := get(key)
		n, e := strconv.ParseInt(v, 10, 64)
		if (e != nil || n < 0) && err == nil {
			err = fmt.Errorf("detail %s is %.40q", key, v)
		}
		return n
	}
	c.Number, c.Offset, c.Length = int(number(DetailChunk)), number(DetailOffset), number(DetailLength)
	c.SHA256 = get(DetailSHA256)
	if err == nil && !hexSum.MatchString(c.SHA256) {
		err = fmt.Errorf("detail %s is %.80q", DetailSHA256, c.SHA256)
	}
	c.First, _ = time.Parse(detailTime, get(DetailFirst)) // for people only
	c.Last, _ = time.Parse(detailTime, get(DetailLast))
	return c, err
}

// File joins the folder of recordings and a path below it, as a record has it. A path that leads out is refused.
func File(dir, path string) (string, error) {
	if !filepath.IsLocal(path) {
		return "", fmt.Errorf("%.200q is no path below the folder of recordings", path)
	}
	return filepath.Join(dir, path), nil
}
