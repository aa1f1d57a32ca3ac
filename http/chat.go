package http

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxPrompt = 10_000 // characters
	// agent is whom a session at finn is with.
	agent = "oracle"

	sessionHeader = "X-Session-Id"
	messageHeader = "X-Message-Id"
)

// chatRequest is the body of a chat. Members that it does not have are passed
// over, as older clients send some.
type chatRequest struct {
	Prompt    string `json:"prompt"`
	SessionID string `json:"sessionId"` // empty for a new session
}

type chatAnswer struct {
	SessionID string `json:"sessionId"`
	MessageID string `json:"messageId"`
	Response  string `json:"response"`
}

// message is what finn gets. Some versions read text, others prompt; the id makes
// a text that is said twice two messages.
type message struct {
	Text      string `json:"text"`
	Prompt    string `json:"prompt"`
	MessageID string `json:"messageId"`
}

// newSession is what finn gets to begin a session.
type newSession struct {
	AgentID   string `json:"agentId"`
	MessageID string `json:"messageId"` // that it is begun for
}

// postChat serves POST /api/chat: it says something to the agent and answers with
// what it says. What was learnt of the agent goes into the log.
func (s *Server) postChat(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	ask, err := readChat(r)
	if err != nil {
		return err
	}
	place, err := s.outcomes.reserve(callerFrom(r.Context()).Wallet)
	if err != nil {
		return err
	}
	defer place.release()
	if ask.SessionID == "" {
		if ask.SessionID, err = s.beginSession(r); err != nil {
			return err
		}
	}
	start := time.Now()
	response, err := s.sendMessage(r, ask)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if streams(response.Header) {
		s.streamChat(w, r, response, ask.SessionID, start, place)
		return nil
	}
	return s.answerChat(w, r, response, ask.SessionID, start, place)
}

func readChat(r *http.Request) (chatRequest, error) {
	var ask chatRequest
	body, err := jsonBody(r)
	if err != nil {
		return ask, err
	}
	if err := json.Unmarshal(body, &ask); err != nil {
		return ask, badRequest("body", "must have a text as prompt, and may have one as sessionId")
	}
	if n := utf8.RuneCountInString(ask.Prompt); n < 1 || n > maxPrompt {
		return ask, badRequest("prompt", fmt.Sprintf("must have 1 to %d characters, found %d", maxPrompt, n))
	}
	if ask.SessionID != "" && !validID(ask.SessionID) {
		return ask, badRequest("sessionId", idRule)
	}
	return ask, nil
}

const idRule = "must match ^[A-Za-z0-9_-]{1,128}$"

// validID reports whether id can name a session, a conversation or a schedule.
func validID(id string) bool {
	return validRequestID(id) && !strings.Contains(id, ".")
}

// beginSession makes a session at finn and is its id.
func (s *Server) beginSession(r *http.Request) (string, error) {
	body := encode(newSession{AgentID: agent, MessageID: RequestID(r.Context())})
	response, err := s.toFinn(r, UpstreamRequest{Method: http.MethodPost, Path: []string{"api", "sessions"}, Body: body})
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	value, err := readAnswer(response)
	if err != nil {
		return "", err
	}
	var made struct {
		SessionID string `json:"sessionId"`
	}
	if json.Unmarshal(value, &made) != nil || !validID(made.SessionID) {
		return "", errUpstreamAnswer
	}
	return made.SessionID, nil
}

// sendMessage says something in a session, with the agent's memory. Whoever
// accepts a stream is given one if finn has it.
func (s *Server) sendMessage(r *http.Request, ask chatRequest) (*UpstreamResponse, error) {
	header := http.Header{}
	s.addMemory(r.Context(), header)
	if accepts(r, eventStream) {
		header.Set("Accept", eventStream)
	}
	body := encode(message{Text: ask.Prompt, Prompt: ask.Prompt, MessageID: RequestID(r.Context())})
	return s.toFinn(r, UpstreamRequest{
		Method: http.MethodPost, Path: []string{"api", "sessions", ask.SessionID, "message"},
		Header: header, Body: body, Timeout: s.ChatTimeout,
	})
}

// toFinn sends a request on behalf of the caller.
func (s *Server) toFinn(r *http.Request, ask UpstreamRequest) (*UpstreamResponse, error) {
	ask.Wallet = callerFrom(r.Context()).Wallet
	return s.Upstream.Send(r.Context(), ask)
}

// encode writes a value that can always be written.
func encode(v any) []byte {
	text, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(fmt.Errorf("encode %T: %w", v, err))
	}
	return text
}

// answerChat answers with what finn said. The outcome is on its way into the log
// before the answer is.
func (s *Server) answerChat(w http.ResponseWriter, r *http.Request, response *UpstreamResponse, session string, start time.Time, place *place) error {
	value, err := readAnswer(response)
	if err != nil {
		return err
	}
	reply, err := parseReply(value)
	if err != nil || reply.Response == nil {
		return errUpstreamAnswer
	}
	s.outcomes.keep(r.Context(), place, reply, time.Since(start))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(streamPatience)) // however long finn took
	writeJSON(w, http.StatusOK, chatAnswer{SessionID: session, MessageID: RequestID(r.Context()), Response: *reply.Response})
	return nil
}

// streamChat passes on what finn says as it says it. The headers name session and
// message. There is an outcome when the stream came to its end.
func (s *Server) streamChat(w http.ResponseWriter, r *http.Request, response *UpstreamResponse, session string, start time.Time, place *place) {
	w.Header().Set(sessionHeader, session)
	w.Header().Set(messageHeader, RequestID(r.Context()))
	var last lastData
	if !s.relayStream(w, r, response, &last) {
		return
	}
	reply, _ := parseReply(last.data) // may be anything
	s.outcomes.keep(r.Context(), place, reply, time.Since(start))
}

// lastData keeps the data of the last event of a stream of Server-Sent Events,
// which is where finn says what it thinks of its answer.
type lastData struct {
	line []byte
	data []byte
	over bool // the line is longer than can be of interest
}

// maxLine is the longest line that is kept.
const maxLine = 64 << 10

// Write implements [io.Writer].
func (l *lastData) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		if l.over = l.over || len(l.line)+len(line) > maxLine; !l.over {
			l.line = append(l.line, line...)
		}
		if ended {
			l.end()
		}
		p = rest
	}
	return n, nil
}

func (l *lastData) end() {
	if data, ok := bytes.CutPrefix(l.line, []byte("data:")); ok && !l.over {
		l.data = bytes.Clone(bytes.TrimSpace(data))
	}
	l.line, l.over = l.line[:0], false
}
