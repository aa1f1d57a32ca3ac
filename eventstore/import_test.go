package eventstore_test

import (
	"fmt"
	"strings"
	"testing"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/reputation"
)

// TestImportKeepsInvalid: whatever an export says was in a row comes back as it was.
// Without KeepInvalid such lines are rejected, and the lines around them are not.
func TestImportKeepsInvalid(t *testing.T) {
	t.Parallel()
	const name = `{"nft_id":"a","event":{"text":"%s","type":"unknown"}}`
	for what, line := range map[string]string{
		"long":                     fmt.Sprintf(name, strings.Repeat("x", 3*reputation.MaxLineBytes)),
		"as long as the buffer":    fmt.Sprintf(name, strings.Repeat("x", reputation.MaxLineBytes+2-len(name)+2)),
		"a little longer":          fmt.Sprintf(name, strings.Repeat("x", reputation.MaxLineBytes+2-len(name)+3)),
		"for no NFT":               `{"nft_id":"no NFT","event":{"type":"unknown"}}`,
		"for an NFT without name":  `{"nft_id":"","event":{"type":"unknown"}}`,
		"without a type":           `{"nft_id":"a","event_type":"","event":{"type":"unknown"}}`,
		"of no type that there is": `{"nft_id":"a","event_type":"` + strings.Repeat("x", 300) + `","event":null}`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			kept, rejected := importAround(t, line, true), importAround(t, line, false)
			if len(kept) != 3 || len(rejected) != 2 {
				t.Fatalf("%d rows are kept of 3, and %d of 2", len(kept), len(rejected))
			}
			got := string(reputation.AppendLine(nil, &kept[1]))
			got = `{"nft_id"` + got[strings.Index(got, `,"nft_id"`)+len(`,"nft_id"`):]
			if strings.TrimSpace(got) != line {
				t.Errorf("it came back as %.200s, and was %.200s", got, line)
			}
		})
	}
}

// importAround imports a line between two that are valid, and returns what was stored.
func importAround(t *testing.T, line string, keep bool) []eventstore.Recorded {
	t.Helper()
	log := eventstore.NewMemory()
	valid := func(n int) string {
		e := eventstoretest.Event(n)
		return fmt.Sprintf(`{"nft_id":"a","event":%s}`, e.AppendJSON(nil))
	}
	in := strings.NewReader(valid(1) + "\n" + line + "\n" + valid(2))
	report, err := eventstore.Importer{Log: log, KeepInvalid: keep}.Import(t.Context(), in, nil, nil)
	if err != nil || report.Lines != 3 {
		t.Fatalf("%+v, error %v", report, err)
	}
	stored, err := log.Read(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}
