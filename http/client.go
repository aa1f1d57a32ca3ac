package http

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientAddress is where a request comes from. X-Forwarded-For is read from the
// right, as far as those who wrote it are trusted: what is left of that anyone can
// have made up. The zero address means that nothing can be said.
func (s *Server) clientAddress(r *http.Request) netip.Addr {
	client := remoteAddress(r)
	if len(s.TrustedProxies) == 0 {
		return client
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !s.trusts(client) {
			break
		}
		address := parseHop(strings.TrimSpace(hop))
		if !address.IsValid() {
			break // the proxy does not know either
		}
		client = address
	}
	return client
}

// remoteAddress is the other end of the connection, which net/http names with its port.
func remoteAddress(r *http.Request) netip.Addr {
	if remote, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return plainAddress(remote.Addr())
	}
	return parseHop(r.RemoteAddr)
}

func (s *Server) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// parseHop reads an address that may have a port.
func parseHop(text string) netip.Addr {
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}
		}
		address = withPort.Addr()
	}
	return plainAddress(address)
}

// plainAddress is the one spelling of an address.
func plainAddress(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }

func clientText(address netip.Addr) string {
	if !address.IsValid() {
		return ""
	}
	return address.String()
}
