package http

import "net/http"

// paymentStatus tells on every answer, refusals included, that payments are
// prepared for and not processed.
func (s *Server) paymentStatus(next http.Handler) http.Handler {
	if !s.PaymentHeaders {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Payment-Status", "scaffold")
		next.ServeHTTP(w, r)
	})
}

// paymentWallet is where a payment would be asked for. It names the wallet that
// would pay, when there is one, and lets everybody through.
func (s *Server) paymentWallet(next http.Handler) http.Handler {
	if !s.PaymentHeaders {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wallet := callerFrom(r.Context()).Wallet; wallet != "" {
			w.Header().Set("X-Payment-Wallet", wallet)
		}
		next.ServeHTTP(w, r)
	})
}
