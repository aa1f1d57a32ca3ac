package http_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dixie/eventstore"
	"dixie/http"
	"dixie/reputation"
)

// imported is the JSON of an import's answer.
type imported struct {
	Lines         int64                     `json:"lines"`
	Appended      int64                     `json:"appended"`
	Duplicates    int64                     `json:"duplicates"`
	Rejected      int64                     `json:"rejected"`
	RejectedLines []reputation.RejectedLine `json:"rejected_lines"`
	Position      int64                     `json:"position"`
}

// imported decodes an answer and checks that the numbers add up.
func (a answer) imported(t testing.TB) imported {
	t.Helper()
	var v imported
	a.into(t, &v)
	if v.Lines != v.Appended+v.Duplicates+v.Rejected {
		t.Errorf("lines are lost: %+v", v)
	}
	if got := a.header.Get("X-Reputation-Position"); got != fmt.Sprint(v.Position) {
		t.Errorf("X-Reputation-Position %q, want %d", got, v.Position)
	}
	return v
}

// counts are appended, duplicates and rejected.
func (v imported) counts() [3]int64 { return [3]int64{v.Appended, v.Duplicates, v.Rejected} }

func (v imported) rejectedLines() []int64 {
	numbers := []int64{}
	for _, r := range v.RejectedLines {
		numbers = append(numbers, r.Line)
	}
	return numbers
}

func zipped(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// gzipped is an import of text that is compressed on the way.
func gzipped(t testing.TB, text string) call {
	return bulk(zipped(t, text)).with("Content-Encoding", "gzip")
}

func TestImport(t *testing.T) {
	t.Parallel()
	three := lines("a", signals(3)...)
	tooLong := `{"nft_id":"a","event":` + signal(9, 0.5, `,"note":"`+strings.Repeat("x", reputation.MaxLineBytes)+`"`) + "}\n"
	tests := []struct {
		name     string
		call     call
		counts   [3]int64
		rejected []int64
	}{
		{"plain", bulk(three), [3]int64{3, 0, 0}, []int64{}},
		{"gzip", gzipped(t, three), [3]int64{3, 0, 0}, []int64{}},
		{"gzip by its old name", gzipped(t, three).with("Content-Encoding", "x-gzip"), [3]int64{3, 0, 0}, []int64{}},
		{"gzip in capitals", gzipped(t, three).with("Content-Encoding", "GZIP"), [3]int64{3, 0, 0}, []int64{}},
		{"gzip files one after the other", bulk(zipped(t, three)+zipped(t, three)).with("Content-Encoding", "gzip"), [3]int64{3, 3, 0}, []int64{}},
		{"identity", bulk(three).with("Content-Encoding", "identity"), [3]int64{3, 0, 0}, []int64{}},
		{"nothing", bulk(""), [3]int64{}, []int64{}},
		{"nothing in gzip", gzipped(t, ""), [3]int64{}, []int64{}},
		{"only line breaks", bulk("\n\r\n\n"), [3]int64{}, []int64{}},
		{"no line break at the end", bulk(strings.TrimSuffix(three, "\n")), [3]int64{3, 0, 0}, []int64{}},
		{"CRLF", bulk(strings.ReplaceAll(three, "\n", "\r\n")), [3]int64{3, 0, 0}, []int64{}},
		{"blank lines count as lines", bulk("\n \t\r\n" + three + "\n\nno\n"), [3]int64{3, 0, 1}, []int64{8}},
		{"a line that is too long", bulk(three + tooLong + lines("a", signal(4, 0.5))), [3]int64{4, 0, 1}, []int64{4}},
		{"a last line that is too long", bulk(three + strings.TrimSuffix(tooLong, "\n")), [3]int64{3, 0, 1}, []int64{4}},
		{"the same line twice", bulk(three + three), [3]int64{3, 3, 0}, []int64{}},
		{"other content under an id", bulk(three + lines("a", signal(1, 0.75))), [3]int64{3, 0, 1}, []int64{4}},
		{"another NFT under an id", bulk(three + lines("b", signal(1, 0.5))), [3]int64{3, 0, 1}, []int64{4}},
		{"an export's line", bulk(`{"position":77,"created_at":"x","nft_id":"a","event":` + signal(1, 0.5) + "}"), [3]int64{1, 0, 0}, []int64{}},
		{"an unknown member of the line", bulk(`{"nft":"a","event":` + signal(1, 0.5) + "}"), [3]int64{0, 0, 1}, []int64{1}},
	}
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					s := newService(t, b.open)
					got := s.do(t, tt.call).want(t, 200).imported(t)
					same(t, "appended, duplicates, rejected", got.counts(), tt.counts)
					same(t, "rejected lines", got.rejectedLines(), tt.rejected)
					if head := s.head(t); got.Position != head || head != tt.counts[0] {
						t.Errorf("position %d of a log of %d, want %d", got.Position, head, tt.counts[0])
					}
				})
			}
		})
	}
}

// TestImportTwice: sending the same file again changes nothing, whatever became
// of the first time.
func TestImportTwice(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		file := lines("a", signals(2500)...)
		first := s.do(t, bulk(file)).want(t, 200).imported(t)
		again := s.do(t, gzipped(t, file)).want(t, 200).imported(t)
		same(t, "first", first.counts(), [3]int64{2500, 0, 0})
		same(t, "again", again.counts(), [3]int64{0, 2500, 0})
		s.settle(t)
		if head := s.head(t); head != 2500 || again.Position != 2500 {
			t.Errorf("the log has %d events, the answer says %d", head, again.Position)
		}
	})
}

// TestImportDefaultNFT: without an nft_id the event counts for its agent_id.
func TestImportDefaultNFT(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.do(t, bulk(`{"event":`+signal(1, 0.5)+"}\n"+`{"nft_id":"cub-1","event":`+signal(2, 0.5)+"}\n")).want(t, 200)
		same(t, "for the agent", s.ids(t, "bear-1"), []string{eventID(1)})
		same(t, "for the NFT", s.ids(t, "cub-1"), []string{eventID(2)})
	})
}

// TestImportRejectsMany: only the first hundred rejected lines are listed, and
// all are counted.
func TestImportRejectsMany(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	for n := range 1500 {
		file.WriteString(lines("a", signal(n, 0.5)))
		if n%10 == 9 {
			file.WriteString("{}\n")
		}
	}
	s := newService(t, openMemory)
	got := s.do(t, bulk(file.String())).want(t, 200).imported(t)
	same(t, "appended, duplicates, rejected", got.counts(), [3]int64{1500, 0, 150})
	if n := len(got.RejectedLines); n != 100 || got.RejectedLines[0].Line != 11 || got.RejectedLines[99].Line != 1100 {
		t.Errorf("%d rejected lines are listed: %v", n, got.RejectedLines)
	}
}

func TestImportMediaType(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	for given, status := range map[string]int{
		"application/x-ndjson":               200,
		"application/x-ndjson;charset=utf-8": 200,
		"application/ndjson":                 200,
		"application/jsonl":                  200,
		"application/json":                   415,
		"application/gzip":                   415,
		"":                                   415,
	} {
		if got := s.do(t, bulk("").with("Content-Type", given)); got.status != status {
			t.Errorf("%q: status %d, want %d", given, got.status, status)
		}
	}
	for _, encoding := range []string{"br", "deflate", "gzip, gzip", "zstd"} {
		s.do(t, bulk("").with("Content-Encoding", encoding)).wantError(t, 415, "unsupported_media_type")
	}
}

// importFailed is an import that stopped in the middle.
type importFailed struct {
	failure
	imported
}

// TestImportBroken: what could be read is stored and counted, and the answer says
// where it ended.
func TestImportBroken(t *testing.T) {
	t.Parallel()
	whole := zipped(t, lines("a", signals(2000)...))
	flipped := []byte(whole)
	flipped[len(flipped)-5] ^= 0xff // in the checksum
	tests := []struct {
		name, body string
		appended   int64
	}{
		{"not gzip", lines("a", signal(1, 0.5)), -1},
		{"nothing", "", -1},
		{"cut off in the header", whole[:5], -1},
		{"cut off in the last bytes", whole[:len(whole)-1], 2000},
		{"wrong checksum", string(flipped), 2000},
		{"more behind it", whole + "more", 2000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, openMemory)
			got := s.do(t, bulk(tt.body).with("Content-Encoding", "gzip"))
			if tt.appended < 0 {
				got.wantProblem(t, "body")
				return
			}
			got.wantError(t, 400, "invalid_request")
			var f importFailed
			got.into(t, &f)
			if head := s.head(t); f.Appended != tt.appended || f.Position != tt.appended || head != tt.appended {
				t.Errorf("appended %d at position %d of a log of %d, want %d", f.Appended, f.Position, head, tt.appended)
			}
		})
	}
}

// TestImportExpands: a compressed body may not become much more than was sent, however
// it does that. What came before is stored.
func TestImportExpands(t *testing.T) {
	t.Parallel()
	events := lines("a", signals(2000)...)
	for name, bomb := range map[string]string{
		"empty lines": strings.Repeat("\n", 64<<20),
		"one line":    strings.Repeat("x", 64<<20),
		"bad lines":   strings.Repeat("{}\n", 20<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, openMemory)
			body := zipped(t, events+bomb)
			got := s.do(t, bulk(body).with("Content-Encoding", "gzip"))
			got.wantError(t, 413, "body_too_large")
			var f importFailed
			got.into(t, &f)
			most := int64(1<<20 + 100*len(body))
			if f.Appended != 2000 || f.Position != 2000 || f.Lines > 2000+most/3 {
				t.Errorf("appended %d of %d lines", f.Appended, f.Lines)
			}
		})
	}
	// A small file may be as uniform as it likes, and so may a file that is as
	// compressible as logs are.
	s := newService(t, openMemory)
	s.do(t, gzipped(t, events+strings.Repeat("\n", 1<<20))).want(t, 200)
	if all := lines("a", signals(30_000)...); len(all) < 4<<20 || s.do(t, gzipped(t, all)).want(t, 200).imported(t).Rejected != 0 {
		t.Errorf("a file of %d bytes was not taken whole", len(all))
	}
}

// TestImportLimit: no more imports go on at a time than there may be; others are told
// so, and nothing else is affected.
func TestImportLimit(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory, func(c *http.Config) { c.MaxImports = 2 })
	var running sync.WaitGroup
	var ends []io.Closer
	for n := range 2 {
		in, out := io.Pipe()
		ends = append(ends, out)
		c := bulk("")
		c.reader = in
		running.Go(func() {
			w := httptest.NewRecorder()
			s.server.ServeHTTP(w, c.request(t, "http://dixie.example"))
			if w.Code != 200 {
				t.Errorf("import %d: status %d: %s", n, w.Code, w.Body)
			}
		})
		// It has its place before it reads.
		if _, err := io.WriteString(out, lines("a", signal(n+1, 0.5))); err != nil {
			t.Fatal(err)
		}
	}
	refused := s.do(t, bulk(lines("a", signal(3, 0.5))))
	if f := refused.wantError(t, 503, "too_many_imports"); f.RetryAfter != 1 {
		t.Errorf("%s", refused.body)
	}
	s.do(t, appendTo("a", signal(4, 0.5))).want(t, 201)
	for _, end := range ends {
		_ = end.Close()
	}
	running.Wait()
	s.do(t, bulk(lines("a", signal(3, 0.5)))).want(t, 200)
	if head := s.head(t); head != 4 {
		t.Errorf("the log has %d events, want 4", head)
	}
}

// raw writes a request by hand, half-closes the connection and reads the answer.
// The error is that of an answer that does not come.
func (s *service) raw(t testing.TB, request string) (*nethttp.Response, error) {
	t.Helper()
	conn, err := net.Dial("tcp", s.web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	return nethttp.ReadResponse(bufio.NewReader(conn), nil)
}

// rawPost is a POST whose headers say more than its body holds.
func rawPost(path, mediaType, length, body string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: dixie\r\nAuthorization: Bearer " + secret("append") +
		"\r\nContent-Type: " + mediaType + "\r\n" + length + "\r\n\r\n" + body
}

// TestImportCutOff: the connection ends in the middle of the body.
func TestImportCutOff(t *testing.T) {
	t.Parallel()
	file := lines("a", signals(1500)...)
	cut := file[:len(file)-10]
	for name, request := range map[string]string{
		"sized":   rawPost("/api/reputation/events", "application/x-ndjson", fmt.Sprintf("Content-Length: %d", len(file)), cut),
		"chunked": rawPost("/api/reputation/events", "application/x-ndjson", "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s", len(file), cut)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, openMemory)
			if response, err := s.raw(t, request); err == nil {
				s.wantCutOff(t, response)
			}
			// What was stored is the beginning of the file. Sending all of it completes
			// it, and the line that was not whole has left nothing behind.
			stored := s.ids(t, "a")
			s.do(t, bulk(file)).want(t, 200)
			all := s.ids(t, "a")
			same(t, "the beginning", stored, all[:len(stored)])
			if len(stored) > 1499 || len(all) != 1500 || all[1499] != eventID(1500) {
				t.Errorf("stored %d events at first and %d in the end", len(stored), len(all))
			}
		})
	}
}

// wantCutOff checks the answer to a body that was cut off. When net/http has seen
// the end of the connection first, there is none.
func (s *service) wantCutOff(t testing.TB, response *nethttp.Response) {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := answer{status: response.StatusCode, header: response.Header, body: string(body)}
	f := got.wantError(t, 400, "invalid_request")
	if v := got.imported(t); v.Rejected != 0 || v.Appended != s.head(t) || !strings.Contains(f.Message, "beyond line 1500") {
		t.Errorf("%s\nwith a log of %d", got.body, s.head(t))
	}
}

// TestAppendCutOff: nothing of a body that did not come whole is stored.
func TestAppendCutOff(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	event := signal(1, 0.5)
	response, err := s.raw(t, rawPost("/api/reputation/a/events", "application/json", fmt.Sprintf("Content-Length: %d", len(event)+1), event))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 400 || s.head(t) != 0 {
		t.Errorf("status %d, the log has %d events", response.StatusCode, s.head(t))
	}
}

// counting is a log that forgets what it is given, and calls look now and then.
type counting struct {
	reputation.Log
	appended atomic.Int64
	look     func()
}

func (c *counting) Append(_ context.Context, entries ...reputation.Entry) ([]reputation.Appended, error) {
	results := make([]reputation.Appended, len(entries))
	for i := range results {
		results[i] = reputation.Appended{Status: reputation.Added, Position: c.appended.Add(1)}
	}
	c.look()
	return results, nil
}

func (c *counting) Head(context.Context) (int64, error) { return c.appended.Load(), nil }

// TestImportMemory is not parallel, because other tests would use the memory that
// it measures. The file alone has 14 MB, and its events decoded twice as much.
func TestImportMemory(t *testing.T) {
	const bound = 10 << 20
	var most uint64
	log := &counting{look: func() { most = max(most, heap()) }}
	s := serve(t, openMemory(t), func(c *http.Config) {
		c.Log, c.Importer = log, eventstore.Importer{Log: log}
	})
	before := heap()
	c := bulk("")
	c.reader = longLines(t, 20_000)
	got := s.do(t, c).want(t, 200).imported(t)
	if got.Appended != 20_000 {
		t.Errorf("appended %d", got.Appended)
	}
	if grown := int64(most) - int64(before); grown > bound {
		t.Errorf("memory grew by %d MB", grown>>20)
	}
}

// heap is the memory in use.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// longLines are n lines of 700 bytes, made as they are read.
func longLines(t testing.TB, n int) io.Reader {
	r, w := io.Pipe()
	judge := strings.Repeat("judge ", 70)
	var writing sync.WaitGroup
	writing.Go(func() {
		buffered := bufio.NewWriterSize(w, 64<<10)
		for i := range n {
			_, err := fmt.Fprintf(buffered, `{"nft_id":"a","event":{"type":"model_performance","event_id":"%s","agent_id":"a","collection_id":"c",`+
				`"timestamp":"2026-02-25T12:00:00Z","model_id":"m","provider":"p","pool_id":"q","task_type":"general",`+
				`"quality_observation":{"score":0.5,"evaluated_by":"%s"}}}`+"\n", eventID(i), judge)
			if err != nil {
				return
			}
		}
		_ = buffered.Flush()
		_ = w.Close()
	})
	t.Cleanup(func() {
		_ = r.Close()
		writing.Wait()
	})
	return r
}

// deadlines is a response writer that notes how often it is told to wait longer.
type deadlines struct {
	*httptest.ResponseRecorder
	reads, writes int
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.reads++
	return nil
}

func (d *deadlines) SetWriteDeadline(time.Time) error {
	d.writes++
	return nil
}

// TestImportIsPatient: a client that sends a little now and then is not silent,
// however long it takes to fill a batch.
func TestImportIsPatient(t *testing.T) {
	t.Parallel()
	const pieces = 50
	var parts []io.Reader
	for n := range pieces {
		parts = append(parts, strings.NewReader(lines("a", signal(n, 0.5))))
	}
	c := bulk("")
	c.reader = io.MultiReader(parts...)
	request := c.request(t, "http://dixie.example")
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	http.NewServer(openMemory(t).config(t)).ServeHTTP(w, request)
	if w.Code != 200 || w.reads < pieces || w.writes < pieces {
		t.Errorf("status %d, %d and %d deadlines for %d pieces", w.Code, w.reads, w.writes, pieces)
	}
}

// late is a body that stops coming.
type late struct{ io.Reader }

func (l late) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = os.ErrDeadlineExceeded // as the connection's deadline makes it
	}
	return n, err
}

// TestImportStopsComing: a client that falls silent is told so, and what came before
// is stored and counted.
func TestImportStopsComing(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	c := bulk("")
	c.reader = late{strings.NewReader(lines("a", signals(2)...))}
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, c.request(t, "http://dixie.example"))
	got := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	if err := s.asDescribed(c, got); err != nil {
		t.Error(err)
	}
	got.wantError(t, 408, "request_timeout")
	same(t, "counts", got.imported(t).counts(), [3]int64{2, 0, 0})
	if got.header.Get("Connection") != "close" || got.header.Get("X-Reputation-Position") != "2" || s.head(t) != 2 {
		t.Errorf("%v, and the log has %d events", got.header, s.head(t))
	}
}

// TestImportFallsSilent: on a real connection the answer still arrives.
func TestImportFallsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		request := bulk("").request(t, "http://dixie.example")
		web := &nethttp.Server{Handler: http.NewServer(openMemory(t).config(t)), ReadTimeout: time.Minute, WriteTimeout: time.Minute + 10*time.Second}
		var running sync.WaitGroup
		running.Go(func() { _ = web.Serve(&single{conn: there, closed: make(chan struct{})}) })
		running.Go(func() {
			_, _ = fmt.Fprintf(here, "POST %s HTTP/1.1\r\nHost: dixie.example\r\nAuthorization: %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n%s",
				request.URL.Path, request.Header.Get("Authorization"), lines("a", signals(2)...))
		})
		start := time.Now()
		response, err := nethttp.ReadResponse(bufio.NewReader(here), nil)
		if err != nil || response.StatusCode != 408 || time.Since(start) > 2*time.Minute {
			t.Errorf("%v, %v after %s, want 408", response, err, time.Since(start))
		}
		_, _ = here.Close(), web.Close()
		running.Wait()
		time.Sleep(time.Minute) // the server lingers on a connection that it has closed
	})
}
