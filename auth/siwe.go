package auth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dixie/reputation"
)

// The limits of a message. ERC-4361 leaves them to the verifier.
const (
	maxMessage   = 4 << 10 // bytes
	maxNonce     = 128     // characters
	maxResources = 32
	minNonce     = 8 // characters, ERC-4361
)

// errEmpty says that a part of a message which has to be there is empty.
var errEmpty = errors.New("must not be empty")

// A MessageError says which part of a message breaks which rule. Its text is for
// whoever wrote the message. It matches [ErrSignInMalformed].
type MessageError struct {
	Field  string // as ERC-4361 names it, such as issued-at; "message" for the whole
	Detail string
}

func (e *MessageError) Error() string { return e.Field + ": " + e.Detail }

// Is reports whether target is [ErrSignInMalformed].
func (e *MessageError) Is(target error) bool { return target == ErrSignInMalformed }

// A Message asks a wallet to sign in (ERC-4361). Its version is always 1.
type Message struct {
	Scheme         string // of the site that asks, empty when not said
	Domain         string // of the site that asks: an RFC 3986 authority
	Address        Address
	Statement      *string // nil: none, which is not the same as an empty one
	URI            string
	ChainID        uint64 // EIP-155
	Nonce          string
	IssuedAt       reputation.Timestamp
	ExpirationTime reputation.Timestamp // zero: none
	NotBefore      reputation.Timestamp // zero: none
	RequestID      *string              // nil: none
	Resources      []string             // nil: none, which is not the same as an empty list
}

// What is said in a message before its fields.
const (
	asks            = " wants you to sign in with your Ethereum account:"
	labelURI        = "URI: "
	labelVersion    = "Version: "
	labelChainID    = "Chain ID: "
	labelNonce      = "Nonce: "
	labelIssuedAt   = "Issued At: "
	labelExpiration = "Expiration Time: "
	labelNotBefore  = "Not Before: "
	labelRequestID  = "Request ID: "
	labelResources  = "Resources:"
	labelResource   = "- "
)

// ParseMessage reads a message by the grammar of ERC-4361: line feeds alone end
// lines, fields come in their order, and nothing precedes or follows them. Beyond
// the grammar, the address must carry its checksum (EIP-55), the domain must not
// be empty, times must exist, the chain id is an integer of at most 64 bits with
// a single spelling, and the whole has at most 4 KiB. The error is a
// [*MessageError].
//
// What it accepts, [Message.String] writes back byte by byte.
func ParseMessage(text string) (Message, error) {
	if len(text) > maxMessage {
		return Message{}, &MessageError{"message", fmt.Sprintf("must have at most %d bytes, found %d", maxMessage, len(text))}
	}
	if strings.Contains(text, "\r") {
		return Message{}, &MessageError{"message", "lines must end with a line feed alone, found a carriage return"}
	}
	p := messageParser{rest: text, more: true}
	var m Message
	m.Scheme, m.Domain = p.origin()
	m.Address = p.address()
	m.Statement = p.statement()
	m.URI = p.field("uri", labelURI, checkURI)
	p.field("version", labelVersion, checkVersion)
	m.ChainID = p.chainID()
	m.Nonce = p.field("nonce", labelNonce, checkNonce)
	m.IssuedAt = p.time("issued-at", labelIssuedAt)
	if p.next(labelExpiration) {
		m.ExpirationTime = p.time("expiration-time", labelExpiration)
	}
	if p.next(labelNotBefore) {
		m.NotBefore = p.time("not-before", labelNotBefore)
	}
	if p.next(labelRequestID) {
		id := p.field("request-id", labelRequestID, checkRequestID)
		m.RequestID = &id
	}
	if p.next(labelResources) {
		m.Resources = p.resources()
	}
	p.end()
	if p.err != nil {
		return Message{}, p.err
	}
	return m, nil
}

// String is the message as a wallet signs it. It can be parsed if the fields keep
// to the rules of [ParseMessage].
func (m Message) String() string {
	var b strings.Builder
	if m.Scheme != "" {
		b.WriteString(m.Scheme + "://")
	}
	b.WriteString(m.Domain + asks + "\n" + m.Address.String() + "\n\n")
	if m.Statement != nil {
		b.WriteString(*m.Statement + "\n")
	}
	b.WriteString("\n" + labelURI + m.URI)
	b.WriteString("\n" + labelVersion + "1")
	b.WriteString("\n" + labelChainID + strconv.FormatUint(m.ChainID, 10))
	b.WriteString("\n" + labelNonce + m.Nonce)
	b.WriteString("\n" + labelIssuedAt + m.IssuedAt.String())
	if !m.ExpirationTime.IsZero() {
		b.WriteString("\n" + labelExpiration + m.ExpirationTime.String())
	}
	if !m.NotBefore.IsZero() {
		b.WriteString("\n" + labelNotBefore + m.NotBefore.String())
	}
	if m.RequestID != nil {
		b.WriteString("\n" + labelRequestID + *m.RequestID)
	}
	if m.Resources != nil {
		b.WriteString("\n" + labelResources)
		for _, resource := range m.Resources {
			b.WriteString("\n" + labelResource + resource)
		}
	}
	return b.String()
}

// messageParser walks through the lines of a message. After the first error its
// results mean nothing.
type messageParser struct {
	rest string
	more bool // a line follows: rest, up to its first line feed
	err  error
}

func (p *messageParser) fail(field, format string, args ...any) {
	if p.err == nil {
		p.err = &MessageError{field, fmt.Sprintf(format, args...)}
	}
}

// line takes the next line, which is empty where there is none.
func (p *messageParser) line(field string) string {
	if !p.more {
		p.fail(field, "is missing at the end of the message")
	}
	var line string
	line, p.rest, p.more = strings.Cut(p.rest, "\n")
	return line
}

// next reports whether the next line begins with a label.
func (p *messageParser) next(label string) bool {
	return p.more && strings.HasPrefix(p.rest, label)
}

// field takes a line with a label, whose value passes a check.
func (p *messageParser) field(name, label string, check func(string) error) string {
	value, ok := strings.CutPrefix(p.line(name), label)
	if !ok {
		p.fail(name, "must be in the line that begins %q", label)
		return ""
	}
	if err := check(value); err != nil {
		p.fail(name, "%s, found %s", err, excerpt(value))
	}
	return value
}

func (p *messageParser) origin() (scheme, domain string) {
	domain, ok := strings.CutSuffix(p.line("domain"), asks)
	if !ok {
		p.fail("message", "the first line must end with %q", asks)
		return "", ""
	}
	if before, after, ok := strings.Cut(domain, "://"); ok {
		scheme, domain = before, after
		if err := checkScheme(scheme); err != nil {
			p.fail("scheme", "%s, found %s", err, excerpt(scheme))
		}
	}
	if err := checkDomain(domain); err != nil {
		p.fail("domain", "%s, found %s", err, excerpt(domain))
	}
	return scheme, domain
}

func (p *messageParser) address() Address {
	text := p.line("address")
	a, err := ParseAddress(text)
	if err != nil {
		p.fail("address", "%s, found %s", err, excerpt(text))
	} else if a.String() != text {
		p.fail("address", "must carry its checksum (EIP-55): %s", a)
	}
	return a
}

// statement takes the blank line after the address, the statement if there is
// one, and the blank line before the fields. Blank lines are two without a
// statement, and three with an empty one.
func (p *messageParser) statement() *string {
	p.blank("after the address")
	line := p.line("statement")
	if line == "" && !p.next("\n") {
		return nil
	}
	p.blank("after the statement")
	if err := checkStatement(line); err != nil {
		p.fail("statement", "%s, found %s", err, excerpt(line))
	}
	return &line
}

func (p *messageParser) blank(where string) {
	if p.line("statement") != "" {
		p.fail("statement", "a blank line must follow %s", where)
	}
}

func (p *messageParser) chainID() uint64 {
	var id uint64
	p.field("chain-id", labelChainID, func(text string) (err error) {
		id, err = parseChainID(text)
		return err
	})
	return id
}

func (p *messageParser) time(name, label string) reputation.Timestamp {
	var at reputation.Timestamp
	p.field(name, label, func(text string) (err error) {
		at, err = reputation.ParseTimestamp(text)
		if err != nil {
			return errors.New("must be an existing RFC 3339 date and time with a zone, such as 2026-02-25T12:00:00Z")
		}
		return nil
	})
	return at
}

func (p *messageParser) resources() []string {
	if p.line("resources") != labelResources {
		p.fail("resources", "must be in lines of their own, after one that says %q", labelResources)
	}
	resources := []string{}
	for p.more && p.err == nil {
		if len(resources) == maxResources {
			p.fail("resources", "must be at most %d", maxResources)
			break
		}
		resources = append(resources, p.field("resources", labelResource, checkURI))
	}
	return slices.Clip(resources)
}

func (p *messageParser) end() {
	if p.more {
		p.fail("message", "must end after its last field, in the order of ERC-4361, found %s", excerpt(p.rest))
	}
}

func checkVersion(text string) error {
	if text != "1" {
		return errors.New("must be 1")
	}
	return nil
}

func checkNonce(text string) error {
	if len(text) < minNonce || len(text) > maxNonce || strings.ContainsFunc(text, isNotAlphanumeric) {
		return fmt.Errorf("must be %d to %d letters and digits", minNonce, maxNonce)
	}
	return nil
}

// checkStatement allows the reserved and unreserved characters of RFC 3986, and
// spaces.
func checkStatement(text string) error { return textChars.check(text) }

func checkRequestID(text string) error { return pathChars.check(text) }

// parseChainID reads an EIP-155 chain id. Leading zeros, which the grammar allows,
// are refused: a number has one spelling.
func parseChainID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strconv.FormatUint(id, 10) != text {
		return 0, errors.New("must be a decimal integer of at most 64 bits without leading zeros")
	}
	return id, nil
}

// maxExcerpt is how much of a wrong value is repeated.
const maxExcerpt = 60

func excerpt(text string) string {
	if len(text) > maxExcerpt {
		return fmt.Sprintf("%q and %d bytes more", text[:maxExcerpt], len(text)-maxExcerpt)
	}
	return strconv.Quote(text)
}
