package tokencsv

import (
	"strings"
)

// field is what a column tells.
type field int

const (
	serial field = iota + 1
	secret
	secretHex
	secretBase32
	person
	kind
	algorithm
	digits
	period
	counter
	drift
	maker
	model
	start
	expiry
)

func (f field) String() string {
	return [...]string{
		"nothing", "the serial number", "the secret", "the secret", "the secret", "the person", "the type", "the algorithm", "the digits", "the period", "the counter",
		"the drift", "the maker", "the model", "the start", "the expiry",
	}[f]
}

// columns are the names of columns, in small letters and digits alone: "Serial No." is serialno. upn, serialnumber, secretkey, timeinterval,
// manufacturer and model are those of Microsoft's table for Entra ID, which Token2, Feitian, Deepnet and others ship.
func columns(name string) field {
	switch plainName(name) {
	case "serial", "serialnumber", "serialno", "serialnr", "sn", "tokenserial", "tokenserialnumber", "tokenserialno", "tokenid", "token", "deviceserial",
		"deviceserialnumber", "deviceid", "oathtokenidentifier":
		return serial
	case "secret", "secretkey", "seed", "key", "otpkey", "hmackey", "tokenkey", "tokenseed", "oathseed", "oathsecret", "sharedsecret", "secretseed":
		return secret
	case "secrethex", "secretkeyhex", "seedhex", "hexseed", "hexsecret", "keyhex", "hexkey":
		return secretHex
	case "secretbase32", "secretkeybase32", "seedbase32", "base32seed", "base32secret", "keybase32", "base32key":
		return secretBase32
	case "upn", "userprincipalname", "user", "username", "userid", "login", "loginname", "assignedto", "owner", "person", "email", "mail":
		return person
	case "type", "tokentype", "otptype", "mode", "otpmode", "oathtype":
		return kind
	case "algorithm", "hash", "hashfunction", "hashalgorithm", "hmacalgorithm", "hmac", "suite":
		return algorithm
	case "digits", "otplength", "otplen", "length", "codelength", "numberofdigits", "otpdigits":
		return digits
	case "timeinterval", "interval", "period", "timestep", "step", "timeperiod", "otpinterval":
		return period
	case "counter", "movingfactor", "initialcounter", "eventcounter", "startcounter":
		return counter
	case "drift", "timedrift", "clockdrift":
		return drift
	case "manufacturer", "maker", "vendor", "brand":
		return maker
	case "model", "product", "productname", "tokenmodel":
		return model
	case "start", "startdate", "validfrom":
		return start
	case "expiry", "expirydate", "expirationdate", "expires", "expiration", "validuntil", "enddate":
		return expiry
	}
	return 0
}

func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, name)
}

// header is which column tells what: a field for each, 0 for those that are passed over.
type header []field

func (h header) has(want field) bool {
	for _, f := range h {
		if f == want || want == secret && (f == secretHex || f == secretBase32) {
			return true
		}
	}
	return false
}

func headerOf(record []string) header {
	h := make(header, len(record))
	for i, name := range record {
		h[i] = columns(name)
	}
	return h
}
