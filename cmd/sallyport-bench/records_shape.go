package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// recordsName is the word of -shapes for a log of many records.
const recordsName = "records"

// Of -many: what a run takes when nothing is said, and the bounds. Fewer than leastRecords tell nothing.
const (
	defaultRecords = 200_000
	leastRecords   = 10_000
	mostRecords    = 100_000_000
)

// bytesOfRecord is more than journal, hashes, index and export together take of the disk for one record.
const bytesOfRecord = 2500

// cutRecords takes the word out of the list of -shapes, whose others are chosen's.
func cutRecords(list string) (rest string, on bool) {
	var others []string
	for name := range strings.SplitSeq(list, ",") {
		switch strings.TrimSpace(name) {
		case recordsName:
			on = true
			continue
		case "all":
			on = true
		}
		others = append(others, name)
	}
	return strings.Join(others, ","), on
}

// stageRun is what one stage did. Each is a process of its own, so that its CPU time and memory are its own too.
type stageRun struct {
	Stage   string  `json:"stage"`
	Records uint64  `json:"records"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_us"` // of all its threads, for a record
	Anon    int64   `json:"memory"` // most of its own memory that was seen, bytes
	Idle    float64 `json:"machine_idle"`
	Bytes   int64   `json:"bytes,omitempty"` // that the stage has left on the disk
	// Hashed is the CPU time in us that hashing alone takes for one record, on one core.
	Hashed float64      `json:"hashing_cpu_us,omitempty"`
	Finds  []findFigure `json:"searches,omitempty"`
}

// findFigure is one kind of search.
type findFigure struct {
	What string  `json:"what"`
	N    int     `json:"searches"`
	Hits float64 `json:"hits"` // in the mean
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
	CPU  float64 `json:"cpu_ms"` // in the mean
}

// measureRecords makes a log of many records, and does with it whatever a gateway and an auditor do.
func (b *bench) measureRecords(ctx context.Context) error {
	dir := filepath.Join(b.dir, recordsName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, s := range stages {
		b.say("records: %s, %s records", s.says, thousands(b.records))
		cmd := exec.CommandContext(ctx, self, recordsWord, s.name, dir, strconv.Itoa(b.records), b.profile)
		cmd.Stderr = b.progress
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("records, %s: %w", s.name, err)
		}
		var r stageRun
		if err := json.Unmarshal(out, &r); err != nil {
			return fmt.Errorf("records, %s: %w", s.name, err)
		}
		b.Records = append(b.Records, r)
	}
	return nil
}
