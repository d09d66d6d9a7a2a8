package directory

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// stateAttributes tell whether an account may be used. Some servers accept the bind of one that may not.
func stateAttributes() []string {
	return []string{
		"userAccountControl", "accountExpires", "msDS-UserAccountDisabled", // Active Directory, AD LDS
		"shadowExpire",                     // RFC 2307
		"pwdAccountLockedTime", "pwdReset", // OpenLDAP's password policy
		"nsAccountLock", // 389 Directory Server, FreeIPA
		"loginDisabled", // eDirectory
	}
}

const (
	// accountDisable is in userAccountControl (MS-ADTS section 2.2.16).
	accountDisable = 0x2
	// lockedForGood is in pwdAccountLockedTime when only an administrator can end it (slapo-ppolicy(5)). Of a lock
	// that ends by itself nobody but the server knows the end.
	lockedForGood = "000001010000Z"
	// neverExpires is in accountExpires, as is 0 (MS-ADA1 section 2.1).
	neverExpires = 1<<63 - 1
	// filetimeToUnix is the seconds from 1601 to 1970; accountExpires counts in steps of 100 ns from 1601.
	filetimeToUnix = 11644473600
	secondsADay    = 86400
)

// barred returns why an account must not be used, going by its own attributes, or nothing. A value that nobody can
// read bars.
func barred(e *ldap.Entry, now time.Time) string {
	number := func(attribute string) (n int64, present bool, bad string) {
		text := e.GetEqualFoldAttributeValue(attribute)
		if text == "" {
			return 0, false, ""
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, true, fmt.Sprintf("%s is %s, which is no number", attribute, foreign(text))
		}
		return n, true, ""
	}
	if control, _, bad := number("userAccountControl"); bad != "" {
		return bad
	} else if control&accountDisable != 0 {
		return "account disabled (userAccountControl)"
	}
	if expires, _, bad := number("accountExpires"); bad != "" {
		return bad
	} else if expires != 0 && expires != neverExpires && expires/1e7-filetimeToUnix <= now.Unix() {
		return "account expired (accountExpires)"
	}
	// 0 is a day in 1970, and what `chage -E 0` writes to bar an account; only what is negative means never.
	if day, set, bad := number("shadowExpire"); bad != "" {
		return bad
	} else if set && day >= 0 && day <= now.Unix()/secondsADay {
		return "account expired (shadowExpire)"
	}
	for _, value := range e.GetEqualFoldAttributeValues("pwdAccountLockedTime") {
		if value == lockedForGood {
			return "account locked until an administrator unlocks it (pwdAccountLockedTime)"
		}
	}
	for _, attribute := range []string{"msDS-UserAccountDisabled", "nsAccountLock", "loginDisabled"} {
		if isSet(e, attribute) {
			return "account disabled (" + attribute + ")"
		}
	}
	if isSet(e, "pwdReset") {
		return "password must be changed first (pwdReset)"
	}
	return ""
}

// isSet reads a boolean (RFC 4517 section 3.3.3); whatever is not false is true.
func isSet(e *ldap.Entry, attribute string) bool {
	value := e.GetEqualFoldAttributeValue(attribute)
	return value != "" && !strings.EqualFold(value, "false")
}

// diagnose reads Active Directory's reason for a refused bind: `..., comment: AcceptSecurityContext error, data 52e,
// v1db1`. The code is a Windows error in hexadecimal. Both are empty when there is none; the meaning also for a code
// that is unknown here.
func diagnose(diagnostic string) (code, meaning string) {
	_, after, found := strings.Cut(diagnostic, ", data ")
	if !found {
		return "", ""
	}
	code, _, _ = strings.Cut(after, ",")
	code = strings.ToLower(strings.TrimRight(code, " \x00"))
	if _, err := strconv.ParseUint(code, 16, 32); err != nil {
		return "", ""
	}
	switch code {
	case "525":
		meaning = "no such user"
	case "52e":
		meaning = "wrong password"
	case "52f":
		meaning = "account restriction"
	case "530":
		meaning = "not permitted to log on at this time"
	case "531":
		meaning = "not permitted to log on from here"
	case "532":
		meaning = "password expired"
	case "533":
		meaning = "account disabled"
	case "534":
		meaning = "this kind of logon is not permitted"
	case "701":
		meaning = "account expired"
	case "773":
		meaning = "password must be changed first"
	case "775":
		meaning = "account locked"
	}
	return code, meaning
}

// policyError returns what a password policy response control says, or nothing (draft-behera-ldap-password-policy-10
// section 6.2), and the same in the older control of 389 Directory Server (draft-vchu-ldap-pwd-policy-00).
func policyError(controls []ldap.Control) string {
	for _, c := range controls {
		switch c := c.(type) {
		case *ldap.ControlBeheraPasswordPolicy:
			if c.Error >= 0 {
				return strings.ToLower(c.ErrorString)
			}
		case *ldap.ControlVChuPasswordMustChange:
			if c.MustChange {
				return "password must be changed first"
			}
		}
	}
	return ""
}

// refused reads the result of a person's bind: why the password does not count, or, when it says nothing about the
// person, an error.
func refused(r *result, controls []ldap.Control) (why string, err error) {
	said := r.Error()
	if policy := policyError(controls); policy != "" {
		said += " (password policy: " + policy + ")"
	}
	switch r.code {
	case ldap.LDAPResultInvalidCredentials:
		if code, meaning := diagnose(r.diagnostic); code != "" {
			return strings.TrimSpace(meaning + " (data " + code + ")"), nil
		}
		return said, nil
	case ldap.LDAPResultNoSuchObject, // 389 Directory Server, of a name that is not there
		ldap.LDAPResultUnwillingToPerform,  // 389 Directory Server and eDirectory, of an account that is disabled or has expired
		ldap.LDAPResultConstraintViolation, // 389 Directory Server, after too many wrong passwords
		ldap.LDAPResultInvalidDNSyntax:
		return said, nil
	case ldap.LDAPResultStrongAuthRequired, ldap.LDAPResultConfidentialityRequired:
		return "", unusable{fmt.Errorf("bind: %w", r), hintTLS}
	case ldap.LDAPResultReferral:
		return "", unusable{fmt.Errorf("bind: %w", r), hintReferral}
	}
	return "", unusable{fmt.Errorf("bind: %w", r), ""}
}
