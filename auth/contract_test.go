package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"dixie/auth"
	"dixie/reputation"
)

// magic is what a contract answers that accepts a signature (EIP-1271).
const magic = "0x1626ba7e00000000000000000000000000000000000000000000000000000000"

func result(data string) string { return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":%q}`, data) }

func rpcError(code int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"error":{"code":%d,"message":"of the node"}}`, code)
}

// nodeOf serves a node of chain 1, with a secret in its path.
func nodeOf(t testing.TB, handle http.HandlerFunc) *auth.ContractNodes {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	nodes, err := auth.NewContractNodes(map[uint64]string{1: server.URL + "/secret"})
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// elsewhere answers rightly, but not where it was asked.
func elsewhere(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/secret" {
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		return
	}
	_, _ = io.WriteString(w, result(magic))
}

func ask(t testing.TB, nodes *auth.ContractNodes, chain uint64) (bool, error) {
	t.Helper()
	return nodes.ValidSignature(t.Context(), chain, wallet, auth.HashMessage("hello world"), []byte("any form"))
}

// TestContractCall: what a node is asked. The data are those that viem encodes.
func TestContractCall(t *testing.T) {
	t.Parallel()
	const head = "0x1626ba7ed9eba16ed0ecae432b71fe008c98cc872bb4cc214d3220a36f365326cf807d680000000000000000000000000000000000000000000000000000000000000040"
	length := func(n int) string { return fmt.Sprintf("%064x", n) }
	for signature, want := range map[string]string{
		"any form":                 head + length(8) + "616e7920666f726d" + strings.Repeat("0", 48),
		"":                         head + length(0),
		strings.Repeat("\xab", 32): head + length(32) + strings.Repeat("ab", 32),
		strings.Repeat("\xcd", 65): head + length(65) + strings.Repeat("cd", 65) + strings.Repeat("0", 62),
	} {
		var asked map[string]any
		nodes := nodeOf(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.Path != "/secret" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s, %v", r.Method, r.URL, r.Header)
			}
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, result(magic))
		})
		valid, err := nodes.ValidSignature(t.Context(), 1, wallet, auth.HashMessage("hello world"), []byte(signature))
		if !valid || err != nil {
			t.Errorf("%t, %v", valid, err)
		}
		call := map[string]any{"to": wallet.String(), "data": want, "gas": "0x2dc6c0"}
		got, _ := json.Marshal(asked)
		wanted, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": []any{call, "latest"}})
		if string(got) != string(wanted) {
			t.Errorf("asked %s\nwant  %s", got, wanted)
		}
	}
}

// TestContractAnswers: a contract accepts with one answer alone, and a node that
// does not answer is not taken for a contract that refuses.
func TestContractAnswers(t *testing.T) {
	t.Parallel()
	const yes, no, broken = "accepted", "refused", "unknown"
	for name, test := range map[string]struct {
		handle http.HandlerFunc
		want   string
	}{
		"accepted":                  {answer(200, result(magic)), yes},
		"refused":                   {answer(200, result("0xffffffff"+strings.Repeat("0", 56))), no},
		"a word of 1":               {answer(200, result("0x"+strings.Repeat("0", 63)+"1")), no},
		"the magic at the end":      {answer(200, result("0x"+strings.Repeat("0", 56)+"1626ba7e")), no},
		"more than a word":          {answer(200, result(magic+"00")), no},
		"less than a word":          {answer(200, result("0x1626ba7e")), no},
		"no contract there":         {answer(200, result("0x")), no},
		"reverted":                  {answer(200, rpcError(3)), no},
		"reverted, older":           {answer(200, rpcError(-32000)), no},
		"limit of the node":         {answer(200, rpcError(-32005)), broken},
		"no such method":            {answer(200, rpcError(-32601)), broken},
		"status 429":                {answer(429, result(magic)), broken},
		"status 500":                {answer(500, result(magic)), broken},
		"not JSON":                  {answer(200, "<html>"), broken},
		"not hexadecimal":           {answer(200, result("0xzz")), broken},
		"no result":                 {answer(200, `{"jsonrpc":"2.0","id":1}`), broken},
		"nothing":                   {answer(200, ""), broken},
		"a megabyte":                {answer(200, result(magic+strings.Repeat("00", 1<<20))), broken},
		"elsewhere":                 {elsewhere, broken},
		"a connection that is shut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, broken},
	} {
		valid, err := ask(t, nodeOf(t, test.handle), 1)
		got := no
		switch {
		case err != nil:
			got = broken
		case valid:
			got = yes
		}
		if got != test.want || valid && err != nil {
			t.Errorf("%s: %t, %v; want %s", name, valid, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the URL: %v", name, err)
		}
	}
	if valid, err := ask(t, nodeOf(t, answer(200, result(magic))), 8453); valid || err != nil {
		t.Errorf("on a chain without a node: %t, %v", valid, err)
	}
}

// TestContractCallsBounded: more questions than the limit are not asked, and the
// limit is free again afterwards.
func TestContractCallsBounded(t *testing.T) {
	t.Parallel()
	asked, goOn := make(chan struct{}), make(chan struct{})
	nodes := nodeOf(t, func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-goOn
		_, _ = io.WriteString(w, result(magic))
	})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if valid, err := ask(t, nodes, 1); !valid || err != nil {
				t.Errorf("%t, %v", valid, err)
			}
		})
		<-asked
	}
	if valid, err := ask(t, nodes, 1); valid || err == nil {
		t.Errorf("a ninth question: %t, %v", valid, err)
	}
	close(goOn)
	group.Wait()
	group.Go(func() { <-asked })
	if valid, err := ask(t, nodes, 1); !valid || err != nil {
		t.Errorf("afterwards: %t, %v", valid, err)
	}
	group.Wait()
}

func TestContractNodes(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "node.example/secret", "ftp://node.example/secret", "https:///secret", "http://[secret", "https://node.example/secret\x00"} {
		if _, err := auth.NewContractNodes(map[uint64]string{7: url}); err == nil || !strings.Contains(err.Error(), "chain 7") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error %v", url, err)
		}
	}
}

// TestSignInOfContract: a wallet that is a contract signs in through a node. Those
// that may not sign in make no node work, and do not learn that they may not.
func TestSignInOfContract(t *testing.T) {
	t.Parallel()
	nodes := nodeOf(t, answer(200, result(magic)))
	message, signature := messageOf(alice), hexOf([]byte("any form"))
	with := func(edits ...func(*auth.SignInConfig)) *auth.SignIn {
		return newSignIn(t, append(edits, func(c *auth.SignInConfig) { c.Contracts = nodes })...)
	}
	wantSignIn(t, "accepted", with(), message, signature, nil)
	stranger := func(c *auth.SignInConfig) { c.Admits = func(auth.Address) bool { return false } }
	wantSignIn(t, "of a stranger", with(stranger), message, signature, auth.ErrSignInSignature)
	s := newSignIn(t, func(c *auth.SignInConfig) { c.Contracts = nodeOf(t, answer(503, "")) })
	if _, err := s.Verify(t.Context(), message, signature); !errors.Is(err, reputation.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

// FuzzContractAnswer: a node cannot make a service fail, and its text is in no error.
func FuzzContractAnswer(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"result":"0x"}`, `{"result":"0x1626ba7e"}`, `{"result":"0x1"}`, `{"error":{"code":3}}`, `{"error":{"code":-32000,"message":"x"}}`,
		`{"error":{"code":1.5}}`, `{"result":7}`, `{"result":"0x","result":"0x"}`, `[]`, "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		data, err := auth.ContractAnswer(strings.NewReader(body))
		if err != nil && (data != nil || len(body) > 40 && strings.Contains(err.Error(), body)) {
			t.Errorf("%x, %v", data, err)
		}
		if err == nil && len(data) > 0 && !strings.Contains(body, "0x") {
			t.Errorf("%q gives %x", body, data)
		}
	})
}
