package audit

import "testing"

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		`plain "quoted" \ é`: `plain "quoted" \ é`,
		"a\nb\x1b[2J":        `a\u000ab\u001b[2J`,
		"\xff\u202eevil":     `\u00ff\u00e2\u0080\u00aeevil`,
	} {
		if got := Visible(in); got != want {
			t.Errorf("Visible(%q) = %q, want %q", in, got, want)
		}
	}
}
