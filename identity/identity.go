// Package identity asks finn, the upstream service that knows which wallet owns
// which NFT and runs the agents' sessions. [Client] carries requests to it,
// [Resolver] remembers what it says of ownership.
package identity

import (
	"errors"
	"fmt"
)

var (
	// ErrNoNFT says that finn knows no NFT of the kind asked for: the wallet owns
	// none, or has nothing to do with the one in question.
	ErrNoNFT = errors.New("no NFT")

	// ErrUnavailable says that nothing is known, because finn could not be asked or
	// gave no answer that makes sense. It never means that a wallet owns nothing.
	ErrUnavailable = errors.New("finn is unavailable")

	// ErrCircuitOpen says that finn was not asked, because it failed too often just
	// before. It matches [ErrUnavailable].
	ErrCircuitOpen = fmt.Errorf("%w: circuit open", ErrUnavailable)

	// ErrAnswer says that finn answered something that this service does not
	// understand. It matches [ErrUnavailable].
	ErrAnswer = fmt.Errorf("%w: it gave an answer that makes no sense", ErrUnavailable)

	// ErrWallet says that a text is not the address of a wallet.
	ErrWallet = errors.New("must be a wallet address: 0x and 40 hexadecimal digits")

	// ErrPath says that a request names something by an empty id, "." or "..",
	// which would make it another path.
	ErrPath = errors.New("no such path")

	// ErrHeader says that a header's value has control characters.
	ErrHeader = errors.New("a header has control characters")
)

// StatusError is an answer of finn's that is not a success. It has nothing of
// finn's own words but the code.
type StatusError struct {
	Status int    // HTTP status, 300 to 599
	Code   string // upper-case code of finn's, such as RATE_LIMITED; empty when it gave none
}

func (e *StatusError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("finn answered %d", e.Status)
	}
	return fmt.Sprintf("finn answered %d %s", e.Status, e.Code)
}
