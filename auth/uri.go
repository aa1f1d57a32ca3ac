package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// charset is a set of ASCII characters, with percent-encoding where it says so.
type charset struct {
	chars   [128]bool
	escapes bool // "%" and two hexadecimal digits count as a character
}

func charsetOf(escapes bool, parts ...string) *charset {
	set := &charset{escapes: escapes}
	for _, part := range parts {
		for i := range len(part) {
			set.chars[part[i]] = true
		}
	}
	return set
}

func (s *charset) has(c byte) bool { return c < 128 && s.chars[c] }

// check reports the first character that is not in the set.
func (s *charset) check(text string) error {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case s.has(c):
		case c == '%' && s.escapes && i+2 < len(text) && hexadecimal.has(text[i+1]) && hexadecimal.has(text[i+2]):
			i += 2
		default:
			r, _ := utf8.DecodeRuneInString(text[i:])
			return fmt.Errorf("must keep to RFC 3986, which has no %q here", r)
		}
	}
	return nil
}

const (
	digits    = "0123456789"
	letters   = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	marks     = "-._~"
	subDelims = "!$&'()*+,;="
	genDelims = ":/?#[]@"
)

// The character sets of RFC 3986, sections 2 and 3.
var (
	hexadecimal  = charsetOf(false, digits, "abcdefABCDEF")
	schemeChars  = charsetOf(false, digits, letters, "+-.")
	portChars    = charsetOf(false, digits)
	futureChars  = charsetOf(false, digits, letters, marks, subDelims, ":")
	userChars    = charsetOf(true, digits, letters, marks, subDelims, ":")
	regNameChars = charsetOf(true, digits, letters, marks, subDelims)
	pathChars    = charsetOf(true, digits, letters, marks, subDelims, ":@")
	segmentChars = charsetOf(true, digits, letters, marks, subDelims, ":@/")
	siteChars    = charsetOf(false, digits, letters, "-._:[]") // of hosts as they are named in practice
	textChars    = charsetOf(false, digits, letters, marks, subDelims, genDelims, " ")
	queryChars   = charsetOf(true, digits, letters, marks, subDelims, ":@/?")
)

func isNotAlphanumeric(r rune) bool {
	return r >= 128 || !strings.ContainsRune(digits+letters, r)
}

func checkScheme(text string) error {
	if text == "" {
		return errEmpty
	}
	if !strings.ContainsRune(letters, rune(text[0])) {
		return errors.New("must begin with a letter")
	}
	return schemeChars.check(text)
}

// checkDomain checks an authority (RFC 3986, section 3.2) that names a host.
func checkDomain(text string) error {
	if text == "" {
		return errEmpty
	}
	return checkAuthority(text)
}

func checkAuthority(text string) error {
	host := text
	if i := strings.IndexByte(text, '@'); i >= 0 {
		if err := userChars.check(text[:i]); err != nil {
			return err
		}
		host = text[i+1:]
	}
	if strings.HasPrefix(host, "[") {
		return checkLiteral(host)
	}
	name, port, _ := strings.Cut(host, ":")
	if err := portChars.check(port); err != nil {
		return err
	}
	return regNameChars.check(name)
}

// checkLiteral checks an IPv6 address, or one of a later version, in brackets
// (RFC 3986, section 3.2.2), and the port after it.
func checkLiteral(host string) error {
	literal, port, ok := strings.Cut(host[1:], "]")
	if !ok || port != "" && port[0] != ':' {
		return errors.New("must close the bracket of an IP address before the port")
	}
	if err := portChars.check(strings.TrimPrefix(port, ":")); err != nil {
		return err
	}
	if literal != "" && (literal[0] == 'v' || literal[0] == 'V') {
		return checkFutureLiteral(literal[1:])
	}
	if ip, err := netip.ParseAddr(literal); err != nil || !ip.Is6() || ip.Zone() != "" {
		return errors.New("must have an IPv6 address without a zone in brackets")
	}
	return nil
}

func checkFutureLiteral(text string) error {
	version, address, ok := strings.Cut(text, ".")
	if !ok || version == "" || address == "" || hexadecimal.check(version) != nil {
		return errors.New("must have an IP address in brackets")
	}
	return futureChars.check(address)
}

// checkURI checks a URI with a scheme (RFC 3986, section 3).
func checkURI(text string) error {
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok {
		return errors.New("must be a URI with a scheme (RFC 3986)")
	}
	if err := checkScheme(scheme); err != nil {
		return fmt.Errorf("the scheme %w", err)
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	if err := queryChars.check(fragment); err != nil {
		return err
	}
	rest, query, _ := strings.Cut(rest, "?")
	if err := queryChars.check(query); err != nil {
		return err
	}
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		authority, path := cutPath(after)
		if err := checkAuthority(authority); err != nil {
			return err
		}
		rest = path
	}
	return segmentChars.check(rest)
}

// originOf is what comes before the path of a URI that passes [checkURI]: its
// scheme and its authority, which is empty where it has none.
func originOf(uri string) origin {
	scheme, rest, _ := strings.Cut(uri, ":")
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return origin{scheme: scheme}
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return origin{scheme: scheme, authority: rest}
}

func cutPath(text string) (authority, path string) {
	if i := strings.IndexByte(text, '/'); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}
