package fakefinn

import (
	"encoding"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"
)

// shapes and troubles are the names of both, by their numbers.
var (
	shapes   = []string{"lists", "objects", "names"}
	troubles = []string{"well", "slow", "down", "broken", "rubbish", "flapping"}
)

var (
	_ encoding.TextUnmarshaler = (*Shape)(nil)
	_ encoding.TextUnmarshaler = (*Trouble)(nil)
)

// MarshalText returns the name of a shape.
func (s Shape) MarshalText() ([]byte, error) { return []byte(shapes[s]), nil }

// UnmarshalText reads the name of a shape.
func (s *Shape) UnmarshalText(text []byte) error {
	at, err := indexOf(shapes, text)
	*s = Shape(at)
	return err
}

// MarshalText returns the name of a trouble.
func (t Trouble) MarshalText() ([]byte, error) { return []byte(troubles[t]), nil }

// UnmarshalText reads the name of a trouble.
func (t *Trouble) UnmarshalText(text []byte) error {
	at, err := indexOf(troubles, text)
	*t = Trouble(at)
	return err
}

// indexOf is the number of a name, and 0 with an error when it is none.
func indexOf(names []string, name []byte) (int, error) {
	at := slices.Index(names, string(name))
	if at < 0 {
		return 0, fmt.Errorf("must be one of %v, found %q", names, name)
	}
	return at, nil
}

// Control answers the routes by which another process has this finn in hand. They
// are never in trouble, ask for no token, and are no requests of [Server.Requests].
//
//	GET   /control                what finn is like
//	PATCH /control                {"trouble": "slow", "delay": "2s"}: changes what is named
//	PUT   /control/nfts/{wallet}  [{"collection": "mibera", "token": "42"}]
//	PUT   /control/memory/{nft}   any JSON value: the NFT's memory projection
//	GET   /control/requests       those so far; with ?path= those whose path contains it
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control", s.showBehaviour)
	mux.HandleFunc("PATCH /control", s.changeBehaviour)
	mux.HandleFunc("PUT /control/nfts/{wallet}", s.giveNFTs)
	mux.HandleFunc("PUT /control/memory/{nft}", s.rememberNFT)
	mux.HandleFunc("GET /control/requests", s.showRequests)
	return http.MaxBytesHandler(mux, 1<<20)
}

func (s *Server) showBehaviour(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	behaviour := s.behaviour
	s.mu.Unlock()
	writeControl(w, behaviour)
}

// changeBehaviour decodes onto a copy: a request that is refused changes nothing.
func (s *Server) changeBehaviour(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	changed, err := s.merge(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeControl(w, changed)
}

func (s *Server) merge(body []byte) (Behaviour, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.behaviour
	changed.Reply = nil // members would be decoded into the map that is in use
	if err := json.Unmarshal(body, &changed, strictly, durations); err != nil {
		return changed, err
	}
	if changed.Reply == nil {
		changed.Reply = s.behaviour.Reply
	}
	s.behaviour = changed
	return changed, nil
}

var (
	strictly  = json.RejectUnknownMembers(true)
	durations = json.ExperimentalSupportFormatTag(true)
)

func (s *Server) giveNFTs(w http.ResponseWriter, r *http.Request) {
	var nfts []NFT
	err := json.UnmarshalRead(r.Body, &nfts, strictly)
	if wallet := r.PathValue("wallet"); err == nil && !walletForm.MatchString(wallet) {
		err = fmt.Errorf("no wallet: %q", wallet)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.Give(r.PathValue("wallet"), nfts...)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) rememberNFT(w http.ResponseWriter, r *http.Request) {
	var projection any
	if err := json.UnmarshalRead(r.Body, &projection); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.Remember(r.PathValue("nft"), projection)
	w.WriteHeader(http.StatusNoContent)
}

// shownRequest is a request as it is shown: its body as text.
type shownRequest struct {
	Method string      `json:"method"`
	Path   string      `json:"path"`
	Header http.Header `json:"header"`
	Body   string      `json:"body,omitempty"`
}

func (s *Server) showRequests(w http.ResponseWriter, r *http.Request) {
	shown := []shownRequest{}
	for _, request := range s.Requests(r.URL.Query().Get("path")) {
		shown = append(shown, shownRequest{request.Method, request.Path, request.Header, string(request.Body)})
	}
	writeControl(w, shown)
}

func writeControl(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, v, durations)
}
