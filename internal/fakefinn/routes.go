package fakefinn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

func (s *Server) routes() {
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /health": s.health,

		"GET /api/identity/wallet/{wallet}/nfts":      s.listNFTs,
		"GET /api/identity/wallet/{wallet}/nft":       s.firstNFT,
		"GET /api/identity/wallet/{wallet}/ownership": s.ownership,

		"POST /api/sessions":              s.createSession,
		"POST /api/sessions/{id}/message": s.sendMessage,

		"GET /api/memory/{nft}/projection": s.memory,
		"GET /api/memory/{nft}/history":    s.history,
		"POST /api/memory/{nft}/seal":      s.seal,
		"DELETE /api/memory/{nft}/{id}":    s.forget,
		"POST /api/schedule":               s.createSchedule,
		"GET /api/schedule/{nft}":          s.listSchedules,
		"GET /api/schedule/{id}/history":   s.scheduleHistory,
		"DELETE /api/schedule/{id}":        s.cancelSchedule,
		"GET /api/learning/{nft}/insights": s.insights,
		"GET /api/learning/{nft}/gaps":     s.gaps,
	} {
		s.mux.HandleFunc(pattern, handle)
	}
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"status": "healthy", "uptime": 1})
}

var walletForm = regexp.MustCompile(`^0x[0-9a-fA-F]{40}$`)

// owned are the NFTs of the wallet in the path, and the shape to tell them in. It
// refuses what is no wallet.
func (s *Server) owned(w http.ResponseWriter, r *http.Request) (nfts []NFT, shape Shape, ok bool) {
	wallet := r.PathValue("wallet")
	if !walletForm.MatchString(wallet) {
		refuse(w, http.StatusBadRequest, "INVALID_WALLET")
		return nil, 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	nfts = slices.Clone(s.nfts[strings.ToLower(wallet)])
	for i := range nfts {
		if nfts[i].Owner == "" {
			nfts[i].Owner = wallet
		}
		if nfts[i].Delegates == nil {
			nfts[i].Delegates = []string{}
		}
	}
	return nfts, s.behaviour.Shape, true
}

func (s *Server) listNFTs(w http.ResponseWriter, r *http.Request) {
	nfts, shape, ok := s.owned(w, r)
	if !ok {
		return
	}
	if shape != Lists {
		http.NotFound(w, r)
		return
	}
	list := []any{}
	for _, n := range nfts {
		list = append(list, map[string]any{
			"nftId": n.ID(), "contractAddress": n.Collection, "tokenId": json.Number(n.Token),
			"ownerWallet": n.Owner, "delegatedWallets": n.Delegates,
		})
	}
	answer(w, http.StatusOK, map[string]any{"nfts": list, "total": len(list)})
}

func (s *Server) firstNFT(w http.ResponseWriter, r *http.Request) {
	nfts, shape, ok := s.owned(w, r)
	switch {
	case !ok:
	case shape == Names && len(nfts) == 0:
		refuse(w, http.StatusNotFound, "NOT_FOUND")
	case shape == Names:
		answer(w, http.StatusOK, map[string]any{"nftId": nfts[0].ID()})
	case len(nfts) == 0:
		answer(w, http.StatusOK, map[string]any{"nft": nil})
	default:
		w.Header().Set("Deprecation", "true")
		answer(w, http.StatusOK, map[string]any{"nft": map[string]any{
			"collection": nfts[0].Collection, "tokenId": nfts[0].Token, "title": "an NFT",
		}})
	}
}

func (s *Server) ownership(w http.ResponseWriter, r *http.Request) {
	nfts, shape, ok := s.owned(w, r)
	switch {
	case !ok:
	case shape != Names || len(nfts) == 0:
		refuse(w, http.StatusNotFound, "NOT_FOUND")
	default:
		answer(w, http.StatusOK, map[string]any{
			"nftId": nfts[0].ID(), "ownerWallet": nfts[0].Owner, "delegatedWallets": nfts[0].Delegates,
		})
	}
}

// id makes an id that is new.
func (s *Server) id(kind string) string {
	s.made++
	return fmt.Sprintf("%s-%d", kind, s.made)
}

// createSession ignores the body, as finn does.
func (s *Server) createSession(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	id := s.id("session")
	s.sessions[id] = 0
	s.mu.Unlock()
	answer(w, http.StatusCreated, map[string]any{
		"sessionId": id, "created": "2026-02-25T12:00:00.000Z", "wsUrl": "ws://" + r.Host + "/ws/" + id,
	})
}

func (s *Server) sendMessage(w http.ResponseWriter, r *http.Request) {
	var message struct {
		Text string `json:"text"`
	}
	if json.NewDecoder(r.Body).Decode(&message) != nil || strings.TrimSpace(message.Text) == "" {
		refuse(w, http.StatusBadRequest, "INVALID_REQUEST")
		return
	}
	s.mu.Lock()
	_, known := s.sessions[r.PathValue("id")]
	if known {
		s.sessions[r.PathValue("id")]++
	}
	behaviour := s.behaviour
	s.mu.Unlock()
	switch {
	case !known:
		refuse(w, http.StatusNotFound, "SESSION_NOT_FOUND")
		return
	case behaviour.Status != 0:
		refuse(w, behaviour.Status, behaviour.Code)
		return
	}
	reply := map[string]any{"response": "You said: " + message.Text, "toolCalls": []any{}}
	for name, value := range behaviour.Reply {
		reply[name] = value
	}
	if r.Header.Get("Accept") == "text/event-stream" {
		s.stream(w, r, message.Text, reply, behaviour.Pause)
		return
	}
	answer(w, http.StatusOK, reply)
}

// stream sends a reply word by word, and then as a whole.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, text string, reply map[string]any, pause time.Duration) {
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := http.NewResponseController(w)
	for word := range strings.FieldsSeq(text) {
		piece, _ := json.Marshal(map[string]any{"delta": word})
		_, _ = fmt.Fprintf(w, "event: delta\ndata: %s\n\n", piece)
		_ = flusher.Flush()
		if !sleep(r, pause) {
			return
		}
	}
	whole, _ := json.Marshal(reply)
	_, _ = fmt.Fprintf(w, "event: done\ndata: %s\n\n", whole)
}

func (s *Server) memory(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	projection, ok := s.memories[r.PathValue("nft")]
	s.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	answer(w, http.StatusOK, projection)
}

func (s *Server) history(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"conversations": []any{}})
}

func (s *Server) seal(w http.ResponseWriter, r *http.Request) {
	var body struct {
		ConversationID string `json:"conversationId"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.ConversationID == "" {
		refuse(w, http.StatusBadRequest, "INVALID_REQUEST")
		return
	}
	answer(w, http.StatusCreated, map[string]any{"sealed": true, "conversationId": body.ConversationID})
}

func (s *Server) forget(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

type schedule struct {
	ID         string `json:"scheduleId"`
	NFT        string `json:"nftId"`
	Expression string `json:"nlExpression"`
	Prompt     string `json:"prompt"`
}

func (s *Server) createSchedule(w http.ResponseWriter, r *http.Request) {
	var made schedule
	if json.NewDecoder(r.Body).Decode(&made) != nil || made.NFT == "" || made.Expression == "" || made.Prompt == "" {
		refuse(w, http.StatusBadRequest, "INVALID_REQUEST")
		return
	}
	s.mu.Lock()
	made.ID = s.id("schedule")
	s.schedules[made.NFT] = append(s.schedules[made.NFT], made)
	s.mu.Unlock()
	answer(w, http.StatusCreated, made)
}

func (s *Server) listSchedules(w http.ResponseWriter, r *http.Request) {
	nft := r.PathValue("nft")
	s.mu.Lock()
	list := append([]schedule{}, s.schedules[nft]...)
	s.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"nftId": nft, "schedules": list, "count": len(list)})
}

func (s *Server) scheduleHistory(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{"scheduleId": r.PathValue("id"), "executions": []any{}, "count": 0})
}

func (s *Server) cancelSchedule(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.mu.Lock()
	defer s.mu.Unlock()
	for nft, list := range s.schedules {
		if at := slices.IndexFunc(list, func(x schedule) bool { return x.ID == id }); at >= 0 {
			s.schedules[nft] = slices.Delete(list, at, at+1)
			answer(w, http.StatusOK, map[string]any{"status": "cancelled", "scheduleId": id})
			return
		}
	}
	refuse(w, http.StatusNotFound, "NOT_FOUND")
}

func (s *Server) insights(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{"nftId": r.PathValue("nft"), "insights": []any{}, "count": 0, "pendingSignals": 0})
}

func (s *Server) gaps(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{"nftId": r.PathValue("nft"), "gaps": []any{}, "alerting": false, "alertCount": 0})
}
