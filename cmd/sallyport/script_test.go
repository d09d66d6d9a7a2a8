package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"sallyport/otp"
)

// TestScripts runs what other programs may rely on (design, section 8), each in a folder of its own. Beside the
// built-in commands the scripts have:
//
//	exits STATUS COMMAND...  runs a command that must exit with just this status
//	code FILE                reads the object that token enrol --json printed, and writes the token's present code to code.txt
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("SALLYPORT_CONFIG", e.WorkDir+"/gw/sallyport.yaml")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": scriptExits, "code": scriptCode},
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	exit := (*exec.ExitError)(nil)
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: code FILE")
	}
	var enrolled struct {
		URI string
		otp.Params
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &enrolled))
	_, query, _ := strings.Cut(enrolled.URI, "secret=")
	secret, _, _ := strings.Cut(query, "&")
	seed, err := seedEncoding.DecodeString(secret)
	ts.Check(err)
	step := int64(0)
	if enrolled.Type == otp.TypeTOTP {
		step = enrolled.StepAt(time.Now())
	}
	out := ts.MkAbs("code.txt")
	ts.Check(os.WriteFile(out, []byte(otp.Code(seed, enrolled.Params, step)+"\n"), 0o600))
}

// TestEveryCommandHelps walks all commands: each says in a line what it does, and each that does something has an
// example, which begins as it would be typed.
func TestEveryCommandHelps(t *testing.T) {
	c := &cli{env: func(string) (string, bool) { return "", false }, stdin: strings.NewReader("")}
	count := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if cmd.Hidden || cmd.HasParent() && cmd.Parent().Hidden {
			return
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: its short text is %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.HasSubCommands() && cmd.HasParent() {
			return
		}
		count++
		examples := 0
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example %q is not indented", cmd.CommandPath(), line)
			}
			if strings.Contains(line, strings.TrimPrefix(cmd.CommandPath(), "sallyport")) && strings.Contains(line, "sallyport ") {
				examples++
			}
		}
		if examples == 0 {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	}
	walk(c.root())
	if count < 30 {
		t.Errorf("only %d commands were found", count)
	}
}
