package eventstore_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"dixie/eventstore"
	"dixie/reputation"
)

// FuzzImport: whatever the lines of a file are, each is stored or rejected with a
// reason, what is stored is valid, and importing the file again changes nothing.
func FuzzImport(f *testing.F) {
	const event = `{"type":"quality_signal","event_id":"00000000-0000-4000-8000-000000000001","agent_id":"bear-1","collection_id":"honey","timestamp":"2026-02-25T12:00:00Z","score":0.9}`
	for _, seed := range []string{
		"", "\n\r\n ", event, `{"event":` + event + `}` + "\n", `{"nft_id":"bear-2","event":` + event + "}\n" + `{"event":` + event + "}",
		`{"position":7,"created_at":"2026-03-01T00:00:02.5Z","nft_id":"bear-1","event_type":"x","event":{"a":1}}`,
		`{"event":` + strings.Replace(event, "0.9", "0.8", 1) + "}\n" + `{"event":` + event + "}\n",
		`{"nft_id":"a/b","event":{}}` + "\x00\n\xff\n[]\n\"\\ud800\"\n1e999", strings.Repeat("[", 300),
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, keep bool) {
		log := eventstore.NewMemory()
		importer := eventstore.Importer{Log: log, KeepInvalid: keep}
		first, err := importer.Import(t.Context(), bytes.NewReader(text), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := importer.Import(t.Context(), bytes.NewReader(text), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantLines(t, text, first)
		if again.Appended != 0 && !keep || again.Duplicates != first.Appended+first.Duplicates && !keep || again.Rejected != first.Rejected {
			t.Errorf("%+v, and again %+v", first, again)
		}
		stored, err := log.Read(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range stored {
			if event, err := stored[i].Event(); !keep && (err != nil || event.Validate() != nil || !reputation.ValidNFT(stored[i].NFT)) {
				t.Errorf("stored %s of %q: %v", stored[i].JSON, stored[i].NFT, err)
			}
		}
	})
}

// wantLines checks that a report accounts for each line that is not empty.
func wantLines(t *testing.T, text []byte, report reputation.ImportReport) {
	t.Helper()
	lines := slices.DeleteFunc(bytes.Split(text, []byte("\n")), func(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 })
	if int(report.Lines) != len(lines) || report.Appended+report.Duplicates+report.Rejected != report.Lines {
		t.Errorf("%+v for %d lines", report, len(lines))
	}
	if len(report.RejectedLines) != int(min(report.Rejected, 100)) {
		t.Errorf("%d of %d rejected lines are told of", len(report.RejectedLines), report.Rejected)
	}
	for _, rejected := range report.RejectedLines {
		if rejected.Line < 1 || rejected.Reason == "" {
			t.Errorf("rejected %+v", rejected)
		}
	}
}
