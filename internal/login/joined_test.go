package login

import (
	"testing"
	"time"

	"sallyport/otp"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		typed, password, code string
		digits                int
	}{
		{"secret123456", "secret", "123456", 6},
		{"secret12345678", "secret", "12345678", 8},
		{"secret12345678", "secret12", "345678", 6},
		{"123456", "", "123456", 6},
		{"12345", "12345", "", 6},
		{"", "", "", 6},
		{"secret12345a", "secret12345a", "", 6},
		{"secret１２３", "secret１２３", "", 6},
		{"pass 12 345", "pass 12 345", "", 6},
	} {
		if p, code := (Joint{}).split(c.typed, c.digits); p != c.password || code != c.code {
			t.Errorf("split(%q, %d) = %q, %q", c.typed, c.digits, p, code)
		}
	}
}

// Password and code in one field are parted by the length of the person's own codes, also where there are two lengths,
// and a wrong password burns no code.
func TestJoined(t *testing.T) {
	b := newBench(t)
	eight := b.people[1].PutToken.Params
	eight.Digits = 8
	eightSeed := []byte("abcdefghijklmnopqrst")
	code8 := func() string { return otp.Code(eightSeed, eight, eight.StepAt(b.now())) }
	join := func(text string) Attempt {
		a := b.attempt()
		a.Password, a.Code, a.Joined = Secret{}, Secret{}, NewSecret(text)
		return a
	}
	code6 := b.code(0).Reveal()
	b.want(b.decide(join("wrong"+code6)), ReasonPasswordWrong)
	b.want(b.decide(join("open sesame")), ReasonCodeMissing)
	b.want(b.decide(join("open sesame"+code6)), ReasonOK)
	b.want(b.decide(join("open sesame"+code6)), ReasonCodeReused)

	b.gate.Apply(Change{PutToken: &Token{ID: "tk-eight", Person: "alice", State: TokenActive, Seed: eightSeed, Params: eight}})
	b.want(b.decide(join("open sesame"+code8())), ReasonOK)
	b.want(b.decide(join("open sesame"+code8())), ReasonCodeReused)
	b.advance(time.Minute)
	b.want(b.decide(join("open sesame"+b.code(0).Reveal())), ReasonOK)

	stranger := join("open sesame" + code6)
	stranger.Name = "mallory"
	b.want(b.decide(stranger), ReasonUnknownPerson)
	b.restart()
}
