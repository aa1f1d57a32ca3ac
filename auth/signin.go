package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dixie/reputation"
)

// How signing in fails. What wraps one of these says more, for the log: whoever
// asked is told no more than which of them it was, and of a message or signature
// that cannot be read the [*MessageError].
var (
	ErrSignInMalformed = errors.New("the message or the signature cannot be read")
	ErrSignInRefused   = errors.New("the message is for another site or chain")
	ErrSignInExpired   = errors.New("the message is not valid at this time")
	ErrSignInSignature = errors.New("the signature is not one of the wallet for the message")
	ErrSignInForbidden = errors.New("the wallet may not sign in")
	ErrSignInReplayed  = errors.New("the nonce has been used, or is not one that was issued here")
)

const (
	// messageAge is how long a message can sign in, and a server nonce be used.
	messageAge = 5 * time.Minute
	// clockSkew is how far ahead of ours the clock of a wallet may be.
	clockSkew = time.Minute
	// replicaSkew is how far apart the clocks of replicas may be: for that much
	// longer than here a message could be valid on another.
	replicaSkew = 5 * time.Minute
	// minNonceKey is the least size of the key for server nonces, in bytes.
	minNonceKey = 32
)

// A ContractVerifier asks the contract of a wallet whether it accepts a signature
// (EIP-1271). It is safe for concurrent use and bounds the time that it takes.
type ContractVerifier interface {
	// ValidSignature reports whether the contract at wallet on a chain accepts
	// signature for hash. An error means that the contract could not be asked.
	ValidSignature(ctx context.Context, chain uint64, wallet Address, hash [32]byte, signature []byte) (bool, error)
}

// SignInConfig says which messages sign in.
type SignInConfig struct {
	// Domains are the sites that may ask wallets to sign in: the domain of a
	// message and its URI must each be of one of them, compared byte by byte and
	// with their port. An entry is an origin such as https://dixie.example:8443, or
	// without a scheme a host and port, which stands for https and, on a loopback
	// host, for http as well. At least one is needed.
	Domains []string

	// Chains are the EIP-155 ids of the chains that messages may name. At least
	// one is needed.
	Chains []uint64

	// Nonces remembers which nonces have signed in.
	Nonces NonceStore

	// NonceKey authenticates the nonces of NewNonce. Replicas need the same, of at
	// least 32 bytes. Nil is a random one, for a single process.
	NonceKey []byte

	// RequireServerNonce accepts the nonces of NewNonce alone.
	RequireServerNonce bool

	// Admits reports whether a wallet may sign in. Nil admits every wallet. Nonces
	// of others are not remembered, so strangers cannot fill the store.
	Admits func(Address) bool

	// Contracts verifies the signatures of wallets that are contracts. Without it
	// they cannot sign in.
	Contracts ContractVerifier

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// SignIn verifies that wallets sign in (ERC-4361). It is safe for concurrent use.
type SignIn struct {
	config  SignInConfig
	origins []origin
	key     nonceKey
}

// NewSignIn checks the configuration. The error names all that is wrong with it.
func NewSignIn(config SignInConfig) (*SignIn, error) {
	origins, err := parseOrigins(config.Domains)
	if len(config.Chains) == 0 {
		err = errors.Join(err, errors.New("chains: at least one is needed"))
	}
	if config.Nonces == nil {
		err = errors.Join(err, errors.New("nonces: a store is needed"))
	}
	if config.NonceKey != nil && len(config.NonceKey) < minNonceKey {
		err = errors.Join(err, fmt.Errorf("nonce key: must have at least %d bytes, found %d", minNonceKey, len(config.NonceKey)))
	}
	if err != nil {
		return nil, fmt.Errorf("sign-in: %w", err)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	key := slices.Clone(config.NonceKey)
	if key == nil {
		key = make([]byte, minNonceKey)
		_, _ = rand.Read(key) // never fails
	}
	config.Chains = slices.Clone(config.Chains)
	return &SignIn{config: config, origins: origins, key: key}, nil
}

// NewNonce issues a nonce that can sign in for five minutes. Nothing is kept of
// it, so whoever asks for many fills nothing. It never fails.
func (s *SignIn) NewNonce(context.Context) (string, error) {
	return s.key.issue(s.config.Now()), nil
}

// Verify returns the wallet that signed a message, and sees to it that the
// message signs in only this once. The error matches one of the ErrSignIn errors,
// or says that nonces or contracts could not be asked, and then matches
// [reputation.ErrUnavailable] when trying again can help.
//
// The nonce is taken last, when all else is right. Were it taken first, whoever
// has seen a message could use up its nonce with a signature that is wrong.
func (s *SignIn) Verify(ctx context.Context, message, signature string) (Address, error) {
	m, err := ParseMessage(message)
	if err != nil {
		return Address{}, err
	}
	signed, err := parseSignature(signature)
	if err != nil {
		return Address{}, err
	}
	now := s.config.Now()
	if err := s.checkMessage(m, now); err != nil {
		return Address{}, err
	}
	if err := s.checkSignature(ctx, m, hashMessage(message), signed); err != nil {
		return Address{}, err
	}
	if !s.admits(m.Address) {
		return Address{}, fmt.Errorf("%w: %s", ErrSignInForbidden, m.Address)
	}
	free, err := s.config.Nonces.Use(ctx, m.Nonce, now, m.IssuedAt.Time().Add(messageAge+replicaSkew))
	if err != nil {
		return Address{}, fmt.Errorf("sign-in of %s: %w", m.Address, err)
	}
	if !free {
		return Address{}, fmt.Errorf("%w: that of %s", ErrSignInReplayed, m.Address)
	}
	return m.Address, nil
}

func (s *SignIn) admits(wallet Address) bool {
	return s.config.Admits == nil || s.config.Admits(wallet)
}

// checkMessage checks what a message says, which costs next to nothing.
func (s *SignIn) checkMessage(m Message, now time.Time) error {
	if err := s.checkSite(m); err != nil {
		return err
	}
	if err := checkTimes(m, now); err != nil {
		return err
	}
	return s.checkNonce(m, now)
}

// checkSite checks for whom the message is.
func (s *SignIn) checkSite(m Message) error {
	if !slices.ContainsFunc(s.origins, func(o origin) bool { return o.asked(m) }) {
		return fmt.Errorf("%w: domain %s with scheme %s", ErrSignInRefused, excerpt(m.Domain), excerpt(m.Scheme))
	}
	if !slices.Contains(s.origins, originOf(m.URI)) {
		return fmt.Errorf("%w: URI %s", ErrSignInRefused, excerpt(m.URI))
	}
	if !slices.Contains(s.config.Chains, m.ChainID) {
		return fmt.Errorf("%w: chain %d", ErrSignInRefused, m.ChainID)
	}
	return nil
}

// checkTimes checks when the message is valid.
func checkTimes(m Message, now time.Time) error {
	issued := m.IssuedAt.Time()
	switch {
	case now.Sub(issued) > messageAge:
		return fmt.Errorf("%w: issued at %s, more than %s ago", ErrSignInExpired, m.IssuedAt, messageAge)
	case issued.Sub(now) > clockSkew:
		return fmt.Errorf("%w: issued at %s, more than %s ahead", ErrSignInExpired, m.IssuedAt, clockSkew)
	case !m.ExpirationTime.IsZero() && !now.Before(m.ExpirationTime.Time()):
		return fmt.Errorf("%w: expired at %s", ErrSignInExpired, m.ExpirationTime)
	case !m.NotBefore.IsZero() && now.Before(m.NotBefore.Time()):
		return fmt.Errorf("%w: not before %s", ErrSignInExpired, m.NotBefore)
	}
	return nil
}

// checkNonce checks where the nonce is from, not whether it has been used.
func (s *SignIn) checkNonce(m Message, now time.Time) error {
	if !s.config.RequireServerNonce {
		return nil
	}
	if err := s.key.check(m.Nonce, now, messageAge, clockSkew); err != nil {
		return fmt.Errorf("%w: %w", ErrSignInReplayed, err)
	}
	return nil
}

// checkSignature checks that the wallet signed: its account, or else its contract.
// Contracts of wallets that may not sign in are not asked, and the error does not
// tell that: whoever has signed nothing learns nothing of the allowlist.
func (s *SignIn) checkSignature(ctx context.Context, m Message, hash [32]byte, signature []byte) error {
	signer, err := recoverAddress(hash, signature)
	if err == nil && signer == m.Address {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("signed by %s, not by %s", signer, m.Address)
	}
	if s.config.Contracts == nil || !s.admits(m.Address) {
		return fmt.Errorf("%w: %w (no contract was asked)", ErrSignInSignature, err)
	}
	valid, contractErr := s.config.Contracts.ValidSignature(ctx, m.ChainID, m.Address, hash, signature)
	if contractErr != nil {
		return fmt.Errorf("ask the contract of %s: %w: %w", m.Address, reputation.ErrUnavailable, contractErr)
	}
	if !valid {
		return fmt.Errorf("%w: %w, and not accepted by a contract", ErrSignInSignature, err)
	}
	return nil
}

// origin is a site: what browsers call the origin of a page.
type origin struct {
	scheme    string
	authority string
}

// asked reports whether this is the site that a message says has asked.
func (o origin) asked(m Message) bool {
	return o.authority == m.Domain && (m.Scheme == "" || m.Scheme == o.scheme)
}

func parseOrigins(domains []string) ([]origin, error) {
	var origins []origin
	var errs []error
	for _, domain := range domains {
		parsed, err := parseOrigin(strings.ToLower(strings.TrimSpace(domain)))
		if err != nil {
			errs = append(errs, fmt.Errorf("domains: %w, found %q", err, domain))
		}
		origins = append(origins, parsed...)
	}
	if len(domains) == 0 {
		errs = append(errs, errors.New("domains: at least one is needed"))
	}
	return origins, errors.Join(errs...)
}

var errDomain = errors.New("must be a host, with a port where it has one, such as dixie.example or http://localhost:3001")

func parseOrigin(text string) ([]origin, error) {
	scheme, authority, found := strings.Cut(text, "://")
	if !found {
		scheme, authority = "https", text
	}
	if scheme != "https" && scheme != "http" || checkDomain(authority) != nil || siteChars.check(authority) != nil {
		return nil, errDomain
	}
	if !found && isLoopback(authority) {
		return []origin{{"http", authority}, {"https", authority}}, nil
	}
	return []origin{{scheme, authority}}, nil
}

// isLoopback reports whether an authority is of the machine itself.
func isLoopback(authority string) bool {
	if address, err := netip.ParseAddrPort(authority); err == nil {
		return address.Addr().IsLoopback()
	}
	if address, err := netip.ParseAddr(strings.Trim(authority, "[]")); err == nil {
		return address.IsLoopback()
	}
	host, _, _ := strings.Cut(authority, ":")
	return host == "localhost"
}
