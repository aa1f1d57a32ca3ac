package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"

	"dixie/eventstore"
	"dixie/reputation"
)

// server are the settings of a command that can use a running server instead of
// a database.
type server struct {
	URL string `name:"url" help:"Running server to use instead of a database, such as http://localhost:3001." placeholder:"URL"`
	Key string `name:"key" env:"DIXIE_API_KEY" secret:"" help:"API key for --url." placeholder:"KEY"`
}

func (s server) request(ctx context.Context, method, path string, body io.Reader) (*nethttp.Request, error) {
	base, err := url.Parse(s.URL)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("--url must be such as http://localhost:3001, found %s", quoteURL(s.URL))
	}
	if s.Key == "" {
		return nil, errors.New("--url needs an API key: give --key or set DIXIE_API_KEY")
	}
	request, err := nethttp.NewRequestWithContext(ctx, method, strings.TrimRight(s.URL, "/")+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+s.Key)
	return request, nil
}

// quoteURL is a URL that is of no use, without the user and password that may be in it.
func quoteURL(text string) string {
	if at := strings.LastIndex(text, "@"); at >= 0 {
		text = "…" + text[at:]
	}
	return strconv.Quote(text)
}

type importCmd struct {
	File        string `arg:"" help:"NDJSON file, plain or gzip, or - for standard input. A line is {\"nft_id\", \"event\"}."`
	KeepInvalid bool   `help:"Also store events that validation refuses, as another program's INSERT would. It brings back an export of a log that has such events. Not with --url."`

	Server   server   `embed:""`
	Database database `embed:""`
	Logging  logging  `embed:""`
}

// Run imports a file. Importing it again changes nothing.
func (i *importCmd) Run(ctx context.Context, c *console) error {
	in, size, err := openInput(c, i.File)
	if err != nil {
		return err
	}
	defer in.Close()
	bar := startProgress(c.err, "import", "bytes", size)
	counted := bar.reader(in)
	var report reputation.ImportReport
	if i.Server.URL != "" {
		report, err = i.send(ctx, counted)
	} else {
		report, err = i.store(ctx, counted)
	}
	if err == nil || report.Lines > 0 {
		bar.finish(fmt.Sprintf("%d lines, %d appended, %d duplicates, %d rejected",
			report.Lines, report.Appended, report.Duplicates, report.Rejected))
	}
	for _, r := range report.RejectedLines {
		fmt.Fprintf(c.err, "line %d: %s\n", r.Line, r.Reason)
	}
	if err != nil {
		return fmt.Errorf("%w; importing the same file again is safe", err)
	}
	if report.Rejected > 0 {
		return fmt.Errorf("%d of %d lines were rejected", report.Rejected, report.Lines)
	}
	return nil
}

// store imports into the database.
func (i *importCmd) store(ctx context.Context, in io.Reader) (reputation.ImportReport, error) {
	plain, err := decompress(in)
	if err != nil {
		return reputation.ImportReport{}, err
	}
	pool, err := i.Database.open(ctx)
	if err != nil {
		return reputation.ImportReport{}, err
	}
	defer pool.Close()
	log := eventstore.OpenPostgres(pool, i.Logging.logger())
	defer log.Close()
	return eventstore.Importer{Log: log, KeepInvalid: i.KeepInvalid}.Import(ctx, plain, nil, nil)
}

// send imports through a server.
func (i *importCmd) send(ctx context.Context, in io.Reader) (reputation.ImportReport, error) {
	var report reputation.ImportReport
	if i.KeepInvalid {
		return report, errors.New("--keep-invalid needs a database: a server stores valid events only")
	}
	request, err := i.Server.request(ctx, nethttp.MethodPost, "/api/reputation/events", in)
	if err != nil {
		return report, err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	if compressed(i.File) {
		request.Header.Set("Content-Encoding", "gzip")
	}
	response, err := nethttp.DefaultClient.Do(request)
	if err != nil {
		return report, err
	}
	defer response.Body.Close()
	var answer struct {
		Message                               string
		Lines, Appended, Duplicates, Rejected int64
		RejectedLines                         []reputation.RejectedLine `json:"rejected_lines"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		return report, fmt.Errorf("the server answered %s and no report", response.Status)
	}
	report = reputation.ImportReport{
		Lines: answer.Lines, Appended: answer.Appended, Duplicates: answer.Duplicates,
		Rejected: answer.Rejected, RejectedLines: answer.RejectedLines,
	}
	if response.StatusCode != nethttp.StatusOK {
		return report, fmt.Errorf("the server answered %s: %s", response.Status, answer.Message)
	}
	return report, nil
}

type exportCmd struct {
	File  string `arg:"" help:"File to write, compressed if its name ends in .gz, or - for standard output."`
	After int64  `help:"Begin after this position."`

	Server   server   `embed:""`
	Database database `embed:""`
}

// Run writes the log as it is when the export begins.
func (e *exportCmd) Run(ctx context.Context, c *console) error {
	out, err := createOutput(c, e.File)
	if err != nil {
		return err
	}
	if e.Server.URL != "" {
		err = e.fetch(ctx, c, out)
	} else {
		err = e.read(ctx, c, out)
	}
	if err != nil {
		out.discard()
		return err
	}
	return out.commit()
}

// read exports from the database.
func (e *exportCmd) read(ctx context.Context, c *console, out io.Writer) error {
	pool, err := e.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	log := eventstore.ReadPostgres(pool)
	head, err := log.Head(ctx)
	if err != nil {
		return err
	}
	bar := startProgress(c.err, "export", "events", max(0, head-e.After))
	var line []byte
	for r, err := range eventstore.All(ctx, log, e.After, head) {
		if err != nil {
			return err
		}
		line = reputation.AppendLine(line[:0], &r)
		if _, err := out.Write(line); err != nil {
			return err
		}
		bar.add(1)
	}
	bar.finish(fmt.Sprintf("%d events", bar.done.Load()))
	return nil
}

// fetch exports from a server.
func (e *exportCmd) fetch(ctx context.Context, c *console, out io.Writer) error {
	request, err := e.Server.request(ctx, nethttp.MethodGet, fmt.Sprintf("/api/reputation/events?after=%d", e.After), nil)
	if err != nil {
		return err
	}
	response, err := nethttp.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != nethttp.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return fmt.Errorf("the server answered %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	bar := startProgress(c.err, "export", "bytes", 0)
	// A server that breaks off makes the copy fail: it never ends half an answer.
	if _, err := io.Copy(out, bar.reader(response.Body)); err != nil {
		return err
	}
	bar.finish(fmt.Sprintf("%d bytes", bar.done.Load()))
	return nil
}
