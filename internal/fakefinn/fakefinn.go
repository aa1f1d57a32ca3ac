// Package fakefinn stands in for finn, the upstream service: it answers the
// routes that this service asks, as finn does or did, keeps sessions, memory and
// schedules in memory, and fails in every way that it is told to.
package fakefinn

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Shape is the form of finn's identity routes.
type Shape int

const (
	// Lists is finn today: /nfts lists a wallet's NFTs, /nft names the first as an
	// object, and there is no /ownership.
	Lists Shape = iota
	// Objects is finn between the two: /nft alone, which names the first as an
	// object or null.
	Objects
	// Names is what finn was meant to be at first: /nft answers {"nftId"} or 404, and
	// /ownership tells owner and delegates.
	Names
)

// Trouble is a way to fail.
type Trouble int

const (
	// Well answers.
	Well Trouble = iota
	// Slow answers after Behaviour.Delay.
	Slow
	// Down breaks the connection off.
	Down
	// Failing answers 500 with a text that is for nobody else.
	Failing
	// Rubbish answers 200 with something else than JSON.
	Rubbish
	// Flapping is down for every other request.
	Flapping
)

// Secret is in every text that callers of this service must not see.
const Secret = "finn-internal-text"

// Behaviour is what finn is like.
type Behaviour struct {
	Shape   Shape   `json:"shape"`
	Trouble Trouble `json:"trouble"`
	// Only limits the trouble to paths that contain it; empty is all.
	Only  string        `json:"only"`
	Delay time.Duration `json:"delay,format:units"` // of Slow
	// Token is the bearer token that every route but /health asks for; none when
	// empty.
	Token string `json:"token"`
	// Reply are further members of the answer to a message, such as task_type.
	Reply map[string]any `json:"reply"`
	// Status and Code are answered to each message, instead of a reply, when Status
	// is not 0.
	Status int    `json:"status"`
	Code   string `json:"code"`
	// Pause is the time between two pieces of a stream.
	Pause time.Duration `json:"pause,format:units"`
}

// NFT is an NFT of the identity routes.
type NFT struct {
	Collection string   `json:"collection"`
	Token      string   `json:"token"`
	Owner      string   `json:"owner"`     // the wallet that is asked about, when empty
	Delegates  []string `json:"delegates"` // wallets
}

// ID is collection:token.
func (n NFT) ID() string { return n.Collection + ":" + n.Token }

// Request is a request that finn got.
type Request struct {
	Method string
	Path   string // as it was sent, with the query
	Header http.Header
	Body   []byte
}

// maxRecorded bounds the requests that are kept.
const maxRecorded = 10_000

// Server is the stand-in. It is safe for concurrent use.
type Server struct {
	mux *http.ServeMux

	mu        sync.Mutex
	behaviour Behaviour
	nfts      map[string][]NFT // by the wallet in lower case
	memories  map[string]any   // projections by NFT
	schedules map[string][]schedule
	sessions  map[string]int // messages in each
	turns     int            // of Flapping
	made      int            // ids given out
	requests  []Request
}

// New returns a finn that is well and knows nothing.
func New() *Server {
	s := &Server{
		mux: http.NewServeMux(), nfts: map[string][]NFT{}, memories: map[string]any{},
		schedules: map[string][]schedule{}, sessions: map[string]int{},
	}
	s.routes()
	return s
}

// Change changes what finn is like.
func (s *Server) Change(change func(*Behaviour)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.behaviour)
}

// Give sets what a wallet has to do with.
func (s *Server) Give(wallet string, nfts ...NFT) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nfts[strings.ToLower(wallet)] = nfts
}

// Remember sets the memory projection of an NFT.
func (s *Server) Remember(nft string, projection any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memories[nft] = projection
}

// Plan adds a schedule of an NFT's.
func (s *Server) Plan(nft, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedules[nft] = append(s.schedules[nft], schedule{ID: id, NFT: nft, Expression: "daily", Prompt: "hello"})
}

// Requests are those so far whose path contains a text.
func (s *Server) Requests(text string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Request
	for _, r := range s.requests {
		if strings.Contains(r.Path, text) {
			found = append(found, r)
		}
	}
	return found
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "INVALID_REQUEST")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	behaviour, down := s.note(r, body)
	switch {
	case down:
		panic(http.ErrAbortHandler)
	case behaviour.Trouble == Failing:
		refuse(w, http.StatusInternalServerError, "PROMPT_FAILED")
		return
	case behaviour.Trouble == Rubbish:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "<html>"+Secret)
		return
	case behaviour.Trouble == Slow && !sleep(r, behaviour.Delay):
		return
	}
	if code, status := behaviour.check(r, body); status != 0 {
		refuse(w, status, code)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// note records a request and says how it will be treated.
func (s *Server) note(r *http.Request, body []byte) (b Behaviour, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) < maxRecorded {
		s.requests = append(s.requests, Request{
			Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone(), Body: body,
		})
	}
	b = s.behaviour
	if !strings.Contains(r.URL.Path, b.Only) {
		b.Trouble = Well
	}
	if b.Trouble == Flapping {
		s.turns++
	}
	return b, b.Trouble == Down || b.Trouble == Flapping && s.turns%2 == 1
}

// sleep waits, unless nobody waits for the answer any more.
func sleep(r *http.Request, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// check refuses who has no token, and bodies that are not what was hashed.
func (b Behaviour) check(r *http.Request, body []byte) (code string, status int) {
	if b.Token != "" && r.URL.Path != "/health" && !hmac.Equal([]byte(r.Header.Get("Authorization")), []byte("Bearer "+b.Token)) {
		return "AUTH_REQUIRED", http.StatusUnauthorized
	}
	sum := sha256.Sum256(body)
	if hash := r.Header.Get("X-Req-Hash"); hash != "" && hash != "sha256:"+hex.EncodeToString(sum[:]) {
		return "REQ_HASH_MISMATCH", http.StatusBadRequest
	}
	return "", 0
}

// refuse answers with an error as finn writes it.
func refuse(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"error": Secret, "code": code})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("X-Finn-Internal", Secret)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
