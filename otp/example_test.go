package otp_test

import (
	"fmt"
	"time"

	"sallyport/otp"
)

// A code is accepted once: the caller keeps the step that matched.
func ExampleMatch() {
	seed, params := []byte("12345678901234567890"), otp.Default()
	now, last := time.Unix(59, 0), int64(-1)

	for range 2 {
		code, ok := otp.CleanCode("287 082")
		if !ok {
			fmt.Println("not a code")
			return
		}
		step, ok := otp.Match(seed, params, code, params.Around(now, 1))
		switch {
		case !ok:
			fmt.Println("wrong")
		case step <= last:
			fmt.Println("used already")
		default:
			last = step
			fmt.Println("accepted for step", step)
		}
	}
	// Output:
	// accepted for step 1
	// used already
}
