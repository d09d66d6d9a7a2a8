package pskc_test

import (
	"errors"
	"fmt"
	"os"

	"sallyport/otp"
	"sallyport/otp/pskc"
)

// A file that is encrypted with a password. Nothing is done with the tokens before Read has returned.
func ExampleRead() {
	file, err := os.Open("testdata/rfc6030-figure7.xml")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer file.Close()
	var tokens []otp.Hardware
	err = pskc.Read(file, pskc.Key{Password: "qwerty"}, func(h otp.Hardware) error {
		tokens = append(tokens, h)
		return nil
	})
	var faults *otp.Faults
	if errors.As(err, &faults) {
		for _, f := range faults.List {
			fmt.Println(f)
		}
		return
	}
	for _, h := range tokens {
		fmt.Println(h.Serial, h.Maker, h.Params.Type, otp.Code(h.Seed, h.Params, h.Counter))
	}
	// Output: 987654321 TokenVendorAcme hotp 84755224
}
