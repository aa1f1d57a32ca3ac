package http

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
	"unicode/utf16"

	"github.com/go-json-experiment/json/jsontext"

	"dixie/reputation"
)

const (
	memoryHeader = "X-Memory-Context"
	// memoryBudget is how long a request waits for the memory of its agent.
	memoryBudget = 200 * time.Millisecond
	// maxMemory is the longest memory that goes into a header.
	maxMemory = 8 << 10
)

// memory is what the caller's agent remembers. It is fetched when a handler first asks
// finn something, so that requests that never do are not slower for it.
type memory struct {
	once sync.Once
	text string
}

// addMemory adds the memory of the caller's agent to a request to finn. Without
// wallet, NFT or memory, or when they do not come in time, there is none: that is
// no reason to refuse anything.
func (s *Server) addMemory(ctx context.Context, header http.Header) {
	m := &infoFrom(ctx).memory
	m.once.Do(func() { m.text = s.recall(ctx, callerFrom(ctx).Wallet) })
	if m.text != "" {
		header.Set(memoryHeader, m.text)
	}
}

// recall asks finn for the memory of a wallet's NFT.
func (s *Server) recall(ctx context.Context, wallet string) string {
	if wallet == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, memoryBudget)
	defer cancel()
	nft, err := s.primary(ctx, wallet)
	if err != nil || nft.ID == "" {
		return ""
	}
	response, err := s.Upstream.Send(ctx, UpstreamRequest{
		Method: http.MethodGet, Path: []string{"api", "memory", nft.ID, "projection"}, Wallet: wallet,
	})
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	value, err := readAnswer(response)
	if err != nil {
		return ""
	}
	return headerJSON(value)
}

// primary is the NFT that a wallet is known by, and none without an error when it
// owns nothing that could be named.
func (s *Server) primary(ctx context.Context, wallet string) (NFT, error) {
	owned, err := s.Ownership.Owned(ctx, wallet)
	if err != nil {
		return NFT{}, err
	}
	for _, nft := range owned {
		if nameable(nft.ID) {
			return nft, nil
		}
	}
	return NFT{}, nil
}

// nameable reports whether an id can be part of a path at finn: dots alone would
// be another path.
func nameable(nft string) bool { return reputation.ValidNFT(nft) && nft != "." && nft != ".." }

// headerJSON is a JSON value in a form that a header can have: on one line and in
// ASCII. It is empty for what is no object, or too long.
func headerJSON(value jsontext.Value) string {
	if value.Kind() != '{' || value.Compact() != nil {
		return ""
	}
	text := make([]byte, 0, len(value))
	for _, c := range string(value) {
		switch {
		case c < 0x7f:
			text = append(text, byte(c))
		case c <= 0xffff:
			text = fmt.Appendf(text, `\u%04x`, c)
		default:
			high, low := utf16.EncodeRune(c)
			text = fmt.Appendf(text, `\u%04x\u%04x`, high, low)
		}
		if len(text) > maxMemory {
			return ""
		}
	}
	return string(text)
}
