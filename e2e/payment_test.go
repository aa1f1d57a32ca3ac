package e2e

import (
	"net/http"
	"testing"
)

// TestPaymentHeaders: as it is deployed, answers have all headers of the payment
// to come, or none.
func TestPaymentHeaders(t *testing.T) {
	t.Parallel()
	w := member(t)
	c := anyone(t, deployed(t))
	on := c.get("/livez").Header.Get("X-Payment-Status") != ""
	checkPayment(t, c, w, on)
}

// TestPaymentSwitched: the headers come and go with DIXIE_X402_ENABLED, which has
// to be the word true.
func TestPaymentSwitched(t *testing.T) {
	ctl, w := controlled(t), member(t)
	checkPayment(t, ctl.configure(t, 1, map[string]string{"DIXIE_X402_ENABLED": "true"}), w, true)
	checkPayment(t, ctl.configure(t, 1, map[string]string{"DIXIE_X402_ENABLED": "1"}), w, false)
	checkPayment(t, ctl.configure(t, 1, nil), w, false)
}

// checkPayment: with the scaffold each answer says so, refusals too, and answers to
// wallets name the wallet; nobody is kept from anything.
func checkPayment(t *testing.T, c *client, w wallet, on bool) {
	t.Helper()
	status, payer := "", ""
	if on {
		status, payer = "scaffold", w.address
	}
	token := w.signIn(t, c)
	known := c.bearer(token).get("/api/reputation?limit=1").want(http.StatusOK)
	for name, got := range map[string]*answer{
		"probe": c.get("/livez").want(http.StatusOK), "refusal": c.get("/api/reputation").want(http.StatusUnauthorized), "answer": known,
	} {
		if found := got.Header.Get("X-Payment-Status"); found != status {
			t.Errorf("the %s has X-Payment-Status %q, want %q", name, found, status)
		}
	}
	if found := known.Header.Get("X-Payment-Wallet"); found != payer {
		t.Errorf("X-Payment-Wallet is %q, want %q", found, payer)
	}
}
