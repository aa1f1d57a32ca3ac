package http_test

import (
	"context"
	"fmt"
	"math"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dixie/http"
	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/reputation"
)

// view is the part of a reputation that tests look at.
type view struct {
	NFT             string             `json:"nft_id"`
	State           string             `json:"state"`
	PersonalScore   *float64           `json:"personal_score"`
	CollectionScore float64            `json:"collection_score"`
	BlendedScore    float64            `json:"blended_score"`
	SampleCount     int64              `json:"sample_count"`
	Contributors    int64              `json:"contributor_count"`
	Dimensions      map[string]float64 `json:"dimension_scores"`
	Reliability     reputation.Reliability
	Position        int64 `json:"position"`
}

// TestWorkedHistory holds protocol §I.8 where it can be read over HTTP: the rows
// after each event of bear-1.
func TestWorkedHistory(t *testing.T) {
	t.Parallel()
	steps := []struct {
		line                        int // of the history
		state                       string
		personal, collection, blend float64
		n, contributors             int64
		accuracy, coherence         float64
	}{
		{1, "warming", 0.9, 0.5, 0.6, 1, 0, 0.575, 0.525},
		{3, "warming", 0.9, 0.4, 0.525, 1, 0, 0.5, 0.45000000000000007},
		{4, "warming", 0.8016, 0.4, 0.56064, 2, 1, 0.5, 0.45000000000000007},
		{5, "warming", 0.7040256, 0.3999999999999999, 0.5520128, 3, 2, 0.57968, 0.44999999999999996},
		{7, "warming", 0.8449094144, 0.3999999999999999, 0.6542339510857141, 4, 2, 0.57968, 0.44999999999999996},
		{8, "established", 0.6834918084607999, 0.3999999999999999, 0.5771823802879998, 5, 2, 0.57968, 0.44999999999999996},
	}
	told := strings.SplitAfter(history(t), "\n")
	eachBackend(t, func(t *testing.T, s *service) {
		for _, step := range steps {
			s.do(t, bulk(strings.Join(told[:step.line], ""))).want(t, 200)
			var got view
			s.get(t, fmt.Sprintf("/api/reputation/bear-1?wait=30s&at_least=%d", step.line)).want(t, 200).into(t, &got)
			same(t, fmt.Sprintf("after event %d", step.line), got, view{
				NFT: "bear-1", State: step.state, PersonalScore: &step.personal, CollectionScore: step.collection,
				BlendedScore: step.blend, SampleCount: step.n, Contributors: step.contributors,
				Dimensions:  map[string]float64{"accuracy": step.accuracy, "coherence": step.coherence},
				Reliability: got.Reliability, Position: int64(step.line),
			})
		}
	})
}

func TestNFTIDs(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", 255)
	tests := []struct {
		name, path string
		nft        string // empty when the id is refused
	}{
		{"a colon", "mibera:42", "mibera:42"},
		{"an encoded colon", "mibera%3A42", "mibera:42"},
		{"every kind of character", "aZ0._:-", "aZ0._:-"},
		{"255 characters", longest, longest},
		{"256 characters", longest + "x", ""},
		{"255 characters, all of them encoded", strings.Repeat("%78", 255), longest},
		{"a dot", "%2E", "."},
		{"two dots", "%2e%2E", ".."},
		{"a route's name, encoded", "%71uery", "query"},
		{"an encoded slash", "a%2Fb", ""},
		{"only an encoded slash", "%2F", ""},
		{"encoded twice", "mibera%253A42", ""},
		{"a space", "a%20b", ""},
		{"a plus", "a+b", ""},
		{"a letter beyond ASCII", "b%C3%A4r", ""},
		{"a zero byte", "a%00", ""},
		{"not UTF-8", "a%FF", ""},
		{"a semicolon", "a;b", ""},
	}
	eachBackend(t, func(t *testing.T, s *service) {
		for n, tt := range tests {
			added := s.do(t, appendTo(tt.path, signal(n, 0.5)))
			read := s.get(t, fmt.Sprintf("/api/reputation/%s?wait=30s&at_least=%d", tt.path, s.head(t)))
			if tt.nft == "" {
				added.wantProblem(t, "nftId")
				read.wantProblem(t, "nftId")
				continue
			}
			var got view
			added.want(t, 201)
			read.want(t, 200).into(t, &got)
			if got.NFT != tt.nft {
				t.Errorf("%s: the NFT is %q", tt.name, got.NFT)
			}
		}
	})
}

// freshReads are the routes that take at_least and wait.
var freshReads = []string{
	"/api/reputation", "/api/reputation/population", "/api/reputation/query?routingKey=nft:bear-1",
	"/api/reputation/bear-1", "/api/reputation/bear-1/cohorts", "/api/reputation/bear-1/score",
}

// and adds parameters to a path.
func and(path, parameters string) string {
	if strings.Contains(path, "?") {
		return path + "&" + parameters
	}
	return path + "?" + parameters
}

func TestFreshness(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		for _, path := range freshReads {
			for _, parameters := range []string{"at_least=0", "at_least=10", "at_least=10&wait=0s", "at_least=1&wait=30s", "at_least=10&wait=1.5ms"} {
				got := s.get(t, and(path, parameters)).want(t, 200)
				if position := got.header.Get("X-Reputation-Position"); position != "10" {
					t.Errorf("%s: position %s", and(path, parameters), position)
				}
			}
			f := s.get(t, and(path, "at_least=11&wait=10ms")).wantError(t, 503, "projection_behind")
			if f.RetryAfter != 1 {
				t.Errorf("%s: retry after %d", path, f.RetryAfter)
			}
			for _, bad := range []string{"", "x", "1.0", "-1", "+-1", "+1", "01", "-0", "99999999999999999999"} {
				s.get(t, and(path, "at_least="+url.QueryEscape(bad))).wantProblem(t, "at_least")
			}
			for _, bad := range []string{"", "5", "-1s", "30.001s", "forever", "1s 2s"} {
				s.get(t, and(path, "at_least=1&wait="+url.QueryEscape(bad))).wantProblem(t, "wait")
			}
			s.get(t, and(path, "wait=1s")).wantProblem(t, "wait")
		}
	})
}

// TestWaitForProjector: a read that asks for what is not there yet is answered
// when a slow projector has come so far.
func TestWaitForProjector(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, b.open(t)) // nobody projects yet
			s.do(t, bulk(history(t))).want(t, 200)
			s.get(t, "/api/reputation/bear-1").wantError(t, 404, "not_found")
			s.get(t, "/api/reputation/bear-1?at_least=10&wait=1ms").wantError(t, 503, "projection_behind")
			answers := make(chan answer, len(freshReads))
			for _, path := range freshReads {
				go func() { answers <- s.get(t, and(path, "at_least=10&wait=30s")) }()
			}
			select {
			case got := <-answers:
				t.Fatalf("answered before anything was projected: %s", got.body)
			case <-time.After(50 * time.Millisecond):
			}
			s.project(t)
			for range freshReads {
				(<-answers).want(t, 200)
			}
		})
	}
}

// ahead believes that the projections have reached any position, as a process does that
// has seen them there before the log was restored to an earlier time.
type ahead struct{ projections.Reader }

func (ahead) WaitFor(context.Context, int64, ...string) error { return nil }

// TestNeverOlder: an answer is never made of less than was asked for, also when the
// projections have gone back.
func TestNeverOlder(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			back := b.open(t)
			s := serve(t, back, func(c *http.Config) { c.Reputations = ahead{back.rows} }) // nobody projects
			s.do(t, bulk(history(t))).want(t, 200)
			for _, path := range freshReads {
				s.get(t, and(path, "at_least=10")).wantError(t, 503, "projection_behind")
			}
			s.get(t, "/api/reputation/bear-1/timeline?at_least=10").wantError(t, 503, "projection_behind")
		})
	}
}

// TestReplica: a server whose process is not the projector answers as the one
// whose process is.
func TestReplica(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	projector := openPool(t, pool)
	projector.project(t)
	first, replica := serve(t, projector), serve(t, openPool(t, pool))
	first.tell(t)
	for _, path := range freshReads {
		want := first.get(t, path).want(t, 200)
		got := replica.get(t, and(path, "at_least=10&wait=30s")).want(t, 200)
		same(t, path, got.body, want.body)
	}
	// What another process appends reaches the followers here.
	f := replica.follow(t, sse("/api/reputation/events?after=10", ""))
	first.do(t, appendTo("bear-1", signal(1, 0.5))).want(t, 201)
	f.wantNext(t, 11, 11)
}

// getRoutes are all routes that are read, and the parameters that they know.
var getRoutes = map[string]string{
	"/api/health":                    "",
	"/api/reputation":                "state limit cursor at_least wait",
	"/api/reputation/population":     "limit cursor at_least wait",
	"/api/reputation/query":          "routingKey at_least wait",
	"/api/reputation/events":         "after limit",
	"/api/reputation/bear-1":         "at_least wait",
	"/api/reputation/bear-1/cohorts": "task at_least wait",
	"/api/reputation/bear-1/score":   "model task at_least wait",
	"/api/reputation/bear-1/events":  "after limit",
}

// TestUnknownParameters: a misspelt parameter is not ignored, and one that is
// given twice has no value that one could choose.
func TestUnknownParameters(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	for path, known := range getRoutes {
		for _, name := range []string{"limits", "LIMIT", "format"} {
			s.get(t, path+"?"+name+"=1").wantProblem(t, name)
		}
		s.get(t, path+"?=1").wantProblem(t, "")
		for _, name := range strings.Fields(known) {
			s.get(t, path+"?"+name+"=1&"+name+"=1").wantProblem(t, name)
		}
		for _, malformed := range []string{"a=%zz", "%", "limit=1;after=1"} {
			s.get(t, path+"?"+malformed).wantProblem(t, "query")
		}
	}
	for _, c := range []call{appendTo("bear-1", signal(1, 0.5)), bulk("")} {
		c.path += "?dry_run=true"
		s.do(t, c).wantProblem(t, "dry_run")
	}
	if head := s.head(t); head != 0 {
		t.Errorf("the log has %d events", head)
	}
}

// TestHostileParameters: no text of a caller makes the encoding of an answer
// fail, or is taken for a failure of the database.
func TestHostileParameters(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 100)
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		for _, path := range []string{
			"/api/reputation?%FF=1",
			"/api/reputation?" + url.QueryEscape(long) + "=1",
			"/api/reputation?%00=1",
			"/api/reputation?state=%FF",
			"/api/reputation?limit=%FF",
			"/api/reputation?cursor=" + http.NewCursor("\xff"),
			"/api/reputation?cursor=" + http.NewCursor("a\x00"),
			"/api/reputation/population?cursor=" + http.NewCursor("\xff"),
			"/api/reputation/population?cursor=" + http.NewCursor("a\x00"),
			"/api/reputation/bear-1/score?model=%FF",
			"/api/reputation/bear-1/score?model=a%C3",
			"/api/reputation/bear-1/score?model=%00",
			"/api/reputation/bear-1/score?task=%FF:%FF",
			"/api/reputation/bear-1?wait=%FF&at_least=1",
			"/api/reputation/query?routingKey=nft:%FF",
		} {
			s.get(t, path).wantError(t, 400, "invalid_request")
		}
		for _, path := range []string{
			"/api/reputation/bear-1/score?model=" + url.QueryEscape(long),
			"/api/reputation/population?cursor=" + http.NewCursor(strings.Repeat("𝄞", 255)),
			"/api/reputation?cursor=",
		} {
			s.get(t, path).want(t, 200)
		}
	})
}

func TestETag(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		const path = "/api/reputation/bear-1"
		tag := s.get(t, path).want(t, 200).header.Get("ETag")
		if !strings.HasPrefix(tag, `W/"`) || !strings.HasSuffix(tag, `"`) {
			t.Fatalf("ETag %q", tag)
		}
		for _, known := range []string{tag, strings.TrimPrefix(tag, "W/"), `"a", ` + tag, tag + `,"b"`, "*"} {
			got := s.do(t, call{path: path, header: map[string]string{"If-None-Match": known}}).want(t, 304)
			if got.body != "" || got.header.Get("ETag") != tag || got.header.Get("Content-Type") != "" {
				t.Errorf("If-None-Match: %s gives %v %q", known, got.header, got.body)
			}
		}
		for _, other := range []string{"", `"a"`, strings.ToUpper(tag), `W/""`, tag[3:]} {
			s.do(t, call{path: path, header: map[string]string{"If-None-Match": other}}).want(t, 200)
		}
	})
}

// TestETagFollowsTheAgent: what happens to others of the collection, and how far
// the log has come, does not change it.
func TestETagFollowsTheAgent(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		tag := func() string {
			s.settle(t)
			return s.get(t, "/api/reputation/bear-1").want(t, 200).header.Get("ETag")
		}
		before := tag()
		s.do(t, appendTo("bear-2", signal(1, 0))).want(t, 201)
		s.do(t, appendTo("new-bear", signal(2, 1, `,"task_type":"analysis"`))).want(t, 201)
		if after := tag(); after != before {
			t.Errorf("the ETag changes with other agents, from %s to %s", before, after)
		}
		s.do(t, appendTo("bear-1", signal(3, 0.5, `,"task_type":"general"`))).want(t, 201)
		if after := tag(); after == before {
			t.Error("the ETag does not change with the agent")
		}
	})
}

// TestHead: HEAD answers as GET does, without the body.
func TestHead(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	s.tell(t)
	paths := []string{"/", "/livez", "/readyz", "/nowhere", "/api/reputation/nobody", "/api/reputation?limit=0"}
	for path := range getRoutes {
		paths = append(paths, path)
	}
	for _, path := range paths {
		for _, accept := range []string{"application/json", "application/x-ndjson"} {
			get := call{path: path}.with("X-Request-Id", "a-test").with("Accept", accept)
			head := get
			head.method = nethttp.MethodHead
			want, got := s.do(t, get), s.do(t, head)
			for _, transport := range []string{"Date", "Content-Length"} {
				want.header.Del(transport)
				got.header.Del(transport)
			}
			same(t, path+" "+accept, got.header, want.header)
			if got.status != want.status || got.body != "" {
				t.Errorf("%s: status %d instead of %d, body %q", path, got.status, want.status, got.body)
			}
		}
	}
}

// listed is a page of agents or of collections.
type listed struct {
	Reputations []struct {
		NFT string `json:"nft_id"`
	} `json:"reputations"`
	Collections []struct {
		ID string `json:"collection_id"`
	} `json:"collections"`
	NextCursor *string `json:"next_cursor"`
}

func (l listed) ids() []string {
	var ids []string
	for _, r := range l.Reputations {
		ids = append(ids, r.NFT)
	}
	for _, c := range l.Collections {
		ids = append(ids, c.ID)
	}
	return ids
}

// walk follows next_cursor to the end.
func (s *service) walk(t testing.TB, path string) (ids []string, pages int) {
	t.Helper()
	next := path
	for {
		var page listed
		s.get(t, next).want(t, 200).into(t, &page)
		ids = append(ids, page.ids()...)
		pages++
		if page.NextCursor == nil {
			return ids, pages
		}
		next = and(path, "cursor="+url.QueryEscape(*page.NextCursor))
	}
}

// TestListPages: the pages together are the whole list, in the order of bytes
// also where a language would sort otherwise.
func TestListPages(t *testing.T) {
	t.Parallel()
	nfts := []string{"-", ".", "0", "10", "2", ":", "A", "Z", "_", "a", "a-b", "a.b", "a:b", "ab", "z", "zZ"}
	collections := []string{" ", "A", "a", "a b", "ab", "Ä", "ä", "中", "𝄞"}
	eachBackend(t, func(t *testing.T, s *service) {
		var file strings.Builder
		for n, nft := range nfts {
			collection := fmt.Sprintf(`"collection_id":%q`, collections[n%len(collections)])
			file.WriteString(lines(nft, strings.Replace(signal(n, 0.5), `"collection_id":"honey"`, collection, 1)))
		}
		s.do(t, bulk(file.String())).want(t, 200)
		s.settle(t)
		for _, limit := range []int{1, 3, 8, 15, 16, 1000} {
			ids, pages := s.walk(t, fmt.Sprintf("/api/reputation?limit=%d", limit))
			same(t, "agents", ids, nfts)
			if want := (len(nfts) + limit - 1) / limit; pages != want {
				t.Errorf("%d pages of %d, want %d", pages, limit, want)
			}
			ids, _ = s.walk(t, fmt.Sprintf("/api/reputation/population?limit=%d", limit))
			same(t, "collections", ids, collections)
		}
		ids, _ := s.walk(t, "/api/reputation?limit=2&state=warming")
		same(t, "warming agents", ids, nfts)
	})
}

// TestHistoryPages: the pages together are the whole history, and only the last
// has no next_after, also where a page is cut short because its events are long.
func TestHistoryPages(t *testing.T) {
	t.Parallel()
	var long strings.Builder
	for n := range 75 {
		long.WriteString(lines("long", longEvent(n)))
	}
	short := strings.ReplaceAll(lines("short", signals(7)...), "11111111", "22222222")
	eachBackend(t, func(t *testing.T, s *service) {
		s.do(t, bulk(long.String()+short)).want(t, 200)
		for path, count := range map[string]int{
			"long/events?limit=1000": 75,
			"short/events?limit=1":   7,
			"short/events?limit=3":   7,
			"short/events?limit=7":   7,
			"short/events?limit=8":   7,
		} {
			positions := s.pages(t, "/api/reputation/"+path)
			if !slices.IsSorted(positions) || len(slices.Compact(positions)) != count {
				t.Errorf("%s: positions %v", path, positions)
			}
		}
	})
}

// pages follows next_after to the end.
func (s *service) pages(t testing.TB, path string) (positions []int64) {
	t.Helper()
	for after := new(int64); after != nil; {
		var page struct {
			Events []struct {
				Position int64 `json:"position"`
			} `json:"events"`
			NextAfter *int64 `json:"next_after"`
		}
		s.get(t, fmt.Sprintf("%s&after=%d", path, *after)).want(t, 200).into(t, &page)
		for _, e := range page.Events {
			positions = append(positions, e.Position)
		}
		after = page.NextAfter
	}
	return positions
}

// TestScoreDecays: what a score is worth lessens with the time of asking, while
// the view stays as it was folded. It allows for the last bits of exp.
func TestScoreDecays(t *testing.T) {
	t.Parallel()
	later := now.Add(30 * 24 * time.Hour) // one half-life
	s := newService(t, openMemory, func(c *http.Config) { c.Now = func() time.Time { return later } })
	s.tell(t)
	var got struct {
		Score  float64 `json:"score"`
		Inputs struct {
			AgeDays float64 `json:"age_days"`
			Decayed float64 `json:"decayed_count"`
		} `json:"inputs"`
	}
	s.get(t, "/api/reputation/bear-1/score").want(t, 200).into(t, &got)
	want := (3*0.4 + 2.5*0.6834918084607999) / 5.5
	if got.Inputs.AgeDays != 30 || math.Abs(got.Inputs.Decayed-2.5) > 1e-9 || math.Abs(got.Score-want) > 1e-9 {
		t.Errorf("%+v, want a score of %v", got, want)
	}
	var v view
	s.get(t, "/api/reputation/bear-1").want(t, 200).into(t, &v)
	if v.BlendedScore != 0.5771823802879998 || !v.Reliability.Reliable {
		t.Errorf("the view has changed: %+v", v)
	}
}

// TestStale: an observation of long ago makes a reputation unreliable, and the
// answer says so.
func TestStale(t *testing.T) {
	t.Parallel()
	later := now.Add(61 * 24 * time.Hour)
	s := newService(t, openMemory, func(c *http.Config) { c.Now = func() time.Time { return later } })
	s.tell(t)
	var v view
	s.get(t, "/api/reputation/bear-1").want(t, 200).into(t, &v)
	same(t, "reliability", v.Reliability, reputation.Reliability{Reasons: []string{"last observation is 61 days old, more than 60"}})
}

// FuzzParameters: no query string makes a server fail.
func FuzzParameters(f *testing.F) {
	s := newService(f, openMemory)
	s.tell(f)
	for path := range getRoutes {
		for _, query := range []string{"", "limit=1", "%FF=%FF", "model=%FF", "task=a:b&model=ä", "cursor=_w", "routingKey=nft:a", "after=1&limit=2", "a=1;b=2"} {
			f.Add(path, query)
		}
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		target := url.URL{Path: "/api/health", RawQuery: query}
		if _, ok := getRoutes[path]; ok {
			target.Path = path
		}
		if target.Query().Has("at_least") {
			t.Skip("waits")
		}
		request := httptest.NewRequest(nethttp.MethodGet, "/", nil)
		request.URL = &target
		request.Header.Set("Authorization", "Bearer "+secret("read"))
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, request)
		if w.Code != 200 && w.Code != 400 {
			t.Errorf("%s?%s: status %d: %s", target.Path, query, w.Code, w.Body)
		}
	})
}

func FuzzRoutingKey(f *testing.F) {
	for _, seed := range []string{"nft:bear-1", "nft:mibera:42", "nft:", "nft", "", "NFT:a", "nft:a/b", "nft:nft:a", "nft:\xff", "nft:" + strings.Repeat("a", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		nft, ok := http.ParseRoutingKey(key)
		if ok != (strings.HasPrefix(key, "nft:") && reputation.ValidNFT(key[len("nft:"):])) {
			t.Errorf("%q: %v", key, ok)
		}
		if ok && "nft:"+nft != key {
			t.Errorf("%q names %q", key, nft)
		}
	})
}

func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "YmVhci0y", "YmVhci0y=", "YQ", "YR", "_w", "AA", "!", " YQ", "YQ\n", strings.Repeat("YWFh", 400)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := http.ParseCursor(text)
		if err != nil {
			if status := http.ErrorStatus(err); status != 400 {
				t.Errorf("%q: status %d", text, status)
			}
			return
		}
		if !utf8.ValidString(id) || strings.Contains(id, "\x00") {
			t.Errorf("%q is the id %q, which PostgreSQL cannot compare with", text, id)
		}
		if http.NewCursor(id) != text {
			t.Errorf("%q is taken for %q", text, http.NewCursor(id))
		}
	})
}

// FuzzCursorOf: the cursor of every id that a collection or an NFT can have leads
// back to it.
func FuzzCursorOf(f *testing.F) {
	for _, seed := range []string{"bear-1", "mibera:42", "ä", "𝄞", strings.Repeat("𝄞", 255)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		valid := reputation.ValidNFT(id) || validName(id)
		if got, err := http.ParseCursor(http.NewCursor(id)); valid && (err != nil || got != id) {
			t.Errorf("%q comes back as %q, %v", id, got, err)
		}
	})
}

// validName reports whether an event may have such a collection_id.
func validName(name string) bool {
	event := reputation.Event{
		ID: eventID(1), AgentID: "a", CollectionID: name, Timestamp: reputation.TimestampOf(now),
		Body: reputation.QualitySignal{Score: 1},
	}
	return event.Validate() == nil && utf8.ValidString(name)
}
