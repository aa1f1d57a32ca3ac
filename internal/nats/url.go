package nats

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// schemes are those that the client knows.
var schemes = []string{"nats", "tls", "ws", "wss"}

// checkURL refuses what the client would refuse, without repeating it: an address
// may hold a password.
func checkURL(list string) error {
	servers := strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	if len(servers) == 0 {
		return errors.New("NATS URL: is empty; it is such as nats://localhost:4222")
	}
	var wrong []error
	for i, server := range servers {
		if !isServer(strings.TrimSpace(server)) {
			wrong = append(wrong, fmt.Errorf("NATS URL: server %d is not such as nats://user:password@localhost:4222 (%s)",
				i+1, strings.Join(schemes, ", ")))
		}
	}
	return errors.Join(wrong...)
}

func isServer(server string) bool {
	if !strings.Contains(server, "://") {
		server = schemes[0] + "://" + server // as the client reads it
	}
	parsed, err := url.Parse(server)
	return err == nil && parsed.Hostname() != "" && slices.Contains(schemes, parsed.Scheme)
}
