package identity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// NFT is an NFT that a wallet has to do with.
type NFT struct {
	// ID is the NFT's id, in the form collection:token where finn has no other.
	ID string
	// Collection is what the NFT belongs to; empty when finn does not say.
	Collection string
	// Owner is the wallet that owns the NFT; empty when finn does not say, which
	// means the wallet that was asked about.
	Owner string
	// Delegates are wallets that the owner lets take part.
	Delegates []string
}

// OwnedBy reports whether a wallet that finn was asked about owns the NFT.
func (n *NFT) OwnedBy(wallet string) bool { return n.Owner == "" || sameWallet(n.Owner, wallet) }

// DelegatedTo reports whether a wallet is a delegate of the owner.
func (n *NFT) DelegatedTo(wallet string) bool {
	return slices.ContainsFunc(n.Delegates, func(d string) bool { return sameWallet(d, wallet) })
}

// sameWallet compares addresses by their bytes: the case of the digits is only a
// checksum (EIP-55).
func sameWallet(a, b string) bool { return strings.EqualFold(a, b) }

// validWallet reports whether text is 0x and 40 hexadecimal digits.
func validWallet(text string) bool {
	digits, ok := strings.CutPrefix(text, "0x")
	return ok && len(digits) == 40 && strings.Trim(digits, "0123456789abcdefABCDEF") == ""
}

// entry is an NFT as finn's routes write it. Some have an id, others collection
// and token, and a token's number is a text or a number.
type entry struct {
	NFTID      string         `json:"nftId"`
	Collection string         `json:"collection"`
	Contract   string         `json:"contractAddress"`
	TokenID    jsontext.Value `json:"tokenId"`
	Owner      string         `json:"ownerWallet"`
	Delegates  []string       `json:"delegatedWallets"`
}

// parseNFT reads an entry. The error is [ErrAnswer].
func parseNFT(value jsontext.Value) (NFT, error) {
	var e entry
	if err := json.Unmarshal(value, &e); err != nil {
		return NFT{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	n := NFT{ID: e.NFTID, Collection: e.Collection, Owner: e.Owner, Delegates: e.Delegates}
	if n.Collection == "" {
		n.Collection = e.Contract
	}
	if n.ID == "" {
		token, ok := tokenID(e.TokenID)
		if !ok || n.Collection == "" {
			return n, fmt.Errorf("%w: an NFT without an id", ErrAnswer)
		}
		n.ID = n.Collection + ":" + token
	}
	if at := strings.LastIndexByte(n.ID, ':'); at > 0 && e.Collection == "" {
		n.Collection = n.ID[:at] // finn's ids are collection:token
	}
	return n, nil
}

// tokenID is the digits of a token's number as they were written: a number beyond
// 2⁵³ would lose some as a float64.
func tokenID(value jsontext.Value) (string, bool) {
	digits := string(value)
	if value.Kind() == '"' {
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return "", false
		}
		digits = string(text)
	}
	return digits, digits != "" && len(digits) <= 78 && strings.Trim(digits, "0123456789") == "" // a uint256 has 78
}
