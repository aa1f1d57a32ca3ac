package auth_test

import (
	"errors"
	"strings"
	"testing"

	"dixie/auth"
)

// The addresses of EIP-55.
var checksummed = []string{
	"0x52908400098527886E0F7030069857D2E4169EE7",
	"0x8617E340B3D01FA5F11F306F4090FD50E238070D",
	"0xde709f2102306220921060314715629080e2fb77",
	"0x27b1fdb04752bbc536007a920d24acb045561c26",
	"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
	"0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
	"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
	"0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
}

func TestAddressChecksum(t *testing.T) {
	t.Parallel()
	for _, want := range checksummed {
		for _, text := range []string{want, strings.ToLower(want), "0x" + strings.ToUpper(want[2:])} {
			a, err := auth.ParseAddress(text)
			if err != nil || a.String() != want {
				t.Errorf("ParseAddress(%q) = %s, %v; want %s", text, a, err, want)
			}
		}
	}
}

func TestAddressRefused(t *testing.T) {
	t.Parallel()
	good := checksummed[4]
	for name, text := range map[string]string{
		"empty":          "",
		"no prefix":      good[2:],
		"large prefix":   "0X" + good[2:],
		"short":          good[:41],
		"long":           good + "0",
		"not hex":        good[:41] + "g",
		"space":          " " + good,
		"path":           "0x../../../../../../../../../../../../../",
		"wrong checksum": "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
	} {
		if a, err := auth.ParseAddress(text); !errors.Is(err, auth.ErrAddress) || a != (auth.Address{}) {
			t.Errorf("%s: ParseAddress(%q) = %v, %v; want ErrAddress", name, text, a, err)
		}
	}
}
