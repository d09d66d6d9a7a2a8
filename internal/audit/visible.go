package audit

// Visible returns s as it may be shown anywhere: what the canonical JSON escapes as harmful (controls, invisible and turning
// characters, bytes that are no UTF-8) is written as there, \u00XX for each byte. Quotes and backslashes stay as they are: they
// are for each format to escape.
func Visible(s string) string {
	harmless := true
	for i := 0; i < len(s); {
		size, escaped := unit(s[i:])
		if escaped >= maxEscape {
			harmless = false
			break
		}
		i += size
	}
	if harmless {
		return s
	}
	out := make([]byte, 0, len(s)+4*maxEscape)
	for i := 0; i < len(s); {
		size, escaped := unit(s[i:])
		if escaped < maxEscape {
			out = append(out, s[i:i+size]...)
		} else {
			for _, b := range []byte(s[i : i+size]) {
				out = append(out, '\\', 'u', '0', '0', lowerHex[b>>4], lowerHex[b&15])
			}
		}
		i += size
	}
	return string(out)
}
