package reputation_test

import (
	"strings"
	"testing"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// plainTexts are events that need not be left to Decode, and texts nearly like them.
func plainTexts() []string {
	texts := []string{
		"", "{", "{}", " ", "[]", `{"type":"quality_signal"}`, "{\n}", `{"a":}`, `{,}`, `{"type":"mystery"}`,
		minQualitySignal + " ", " " + minQualitySignal, minQualitySignal + "x", minQualitySignal + minQualitySignal,
		strings.ReplaceAll(maxModelPerformance, ":", " : "), strings.ReplaceAll(maxModelPerformance, ",", " , "),
		strings.ReplaceAll(maxModelPerformance, ",", ",\n"), strings.Replace(minQualitySignal, "}", ",}", 1),
	}
	for _, f := range fixtures() {
		texts = append(texts, f.text)
	}
	for from, tos := range map[string][]string{
		`"score":0.5`: {
			`"score":0`, `"score":1`, `"score":1.0`, `"score":1.5`, `"score":00.5`, `"score":.5`, `"score":5.`, `"score":-0`,
			`"score":5e-1`, `"score":0.5E0`, `"score":0.` + strings.Repeat("0", 400) + `1`, `"score":1.` + strings.Repeat("0", 40) + `1`,
			`"score":"0.5"`, `"score":null`, `"score":true`, `"score":0.5,"score":0.5`, `"score":0x1`, `"score":0_1`, `"score":+1`, `"score":Inf`,
		},
		`"sequence":9007199254740991`: {
			`"sequence":9007199254740992`, `"sequence":9007199254740993`, `"sequence":99999999999999999999`, `"sequence":007`,
			`"sequence":2.0`, `"sequence":2e0`, `"sequence":-1`, `"sequence":-0`, `"sequence":0`,
		},
		`"success":true`: {`"success":truely`, `"success":false`, `"success":nul`, `"success":1`, `"success":t`},
		`"agent_id":"a"`: {
			`"agent_id":""`, `"agent_id":"` + strings.Repeat("x", 255) + `"`, `"agent_id":"` + strings.Repeat("x", 256) + `"`,
			`"agent_id":"é"`, `"agent_id":"\u0061"`, `"agent_id":"a\\b"`, "\"agent_id\":\"\x7f\"", "\"agent_id\":\"\x1f\"", "\"agent_id\":\"\xff\"",
			`"agent_id":"a","agent_id":"a"`, `"AGENT_ID":"a"`, `"\u0061gent_id":"a"`, `"agent_id" :  "a"`, `"agent_id":'a'`,
		},
		`"event_id":"550e8400-e29b-41d4-a716-446655440000"`: {
			`"event_id":"550E8400-E29B-41D4-A716-446655440000"`, `"event_id":"550e8400-e29b-41d4-a716-44665544000"`, `"event_id":1`,
		},
		`"timestamp":"2026-02-25T12:00:00Z"`: {
			`"timestamp":"2026-02-25T12:00:00.123456+00:00"`, `"timestamp":"2026-02-30T12:00:00Z"`, `"timestamp":"2026-02-25t12:00:00z"`,
			`"timestamp":"2026-02-25 12:00:00Z"`, `"timestamp":""`,
		},
		`"type":"quality_signal"`: {`"type":"task_completed"`, `"type":"mystery"`, `"type":""`, `"type":null`},
		`"dimensions":{"accuracy":0.8`: {
			`"dimensions":{"accuracy":0.8,"accuracy":0.8`, `"dimensions":{"Accuracy":0.8`, `"dimensions":{"z":0.8`, `"dimensions":{"accuracy":2`,
			`"dimensions":{` + dimensionsBefore(19), `"dimensions":{` + dimensionsBefore(20), `"dimensions":{` + dimensionsBefore(30),
		},
		`"quality_observation":{`: {
			`"quality_observation":{"x":1,`, `"quality_observation":{"score":0.5,`, `"quality_observation":[{`, `"quality_observation":{ `,
		},
		`"quality_observation":{"score":1}`: {`"quality_observation":{}`, `"quality_observation":{"latency_ms":1}`},
		`"latency_ms":12`:                   {`"latency_ms":12,"latency_ms":12`, `"latency_ms":1.5`, `"latency_ms":9007199254740991`, `"latency_ms":null`},
		`"evaluated_by":"judge-1"`:          {`"evaluated_by":""`, `"evaluated_by":"a","evaluated_by":"a"`, `"evaluated_by":"` + strings.Repeat("j", 70_000) + `"`},
		`"request_context":{`:               {`"request_context":{"x":1,`, `"request_context":{"request_id":"",`, `"request_context":{},"x":{`},
		`"action":"issued"`:                 {`"action":"eaten"`, `"action":""`, `"action":"renewed"`},
		`"reason":"appeal"`:                 {`"reason":"` + strings.Repeat("r", 500) + `"`, `"reason":"` + strings.Repeat("r", 501) + `"`},
		`"duration_ms":3600000`:             {`"duration_ms":3600001`, `"duration_ms":0`},
		`"task_type":"unspecified"`:         {`"task_type":"ab:cd"`, `"task_type":"a:b"`, `"task_type":"General"`},
	} {
		for _, f := range fixtures() {
			for _, to := range tos {
				if strings.Contains(f.text, from) {
					texts = append(texts, strings.Replace(f.text, from, to, 1))
				}
			}
		}
	}
	return texts
}

// dimensionsBefore are n of them and the beginning of another.
func dimensionsBefore(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"d` + strings.Repeat("x", i) + `":0.5,`)
	}
	return b.String() + `"accuracy":0.8`
}

// sameDecoding holds DecodeText and Decode to the decoder that reads any spelling: the
// same event, or the same refusal.
func sameDecoding(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) (valid bool) {
	t.Helper()
	want, wantErr := reputation.DecodeStrictly([]byte(text))
	for name, decode := range map[string]func(string) (reputation.Event, error){
		"DecodeText": reputation.DecodeText,
		"Decode":     func(text string) (reputation.Event, error) { return reputation.Decode([]byte(text)) },
	} {
		got, err := decode(text)
		if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
			t.Fatalf("%s(%q): %v, strictly: %v", name, text, err, wantErr)
		}
		if diff := cmp.Diff(want, got, sameEvent); diff != "" {
			t.Fatalf("%s(%q) (-strictly +found):\n%s", name, text, diff)
		}
	}
	return wantErr == nil
}

func TestDecodeText(t *testing.T) {
	t.Parallel()
	valid := 0
	for _, text := range plainTexts() {
		if sameDecoding(t, text) {
			valid++
		}
	}
	if all := len(plainTexts()); valid < all/4 || valid > all*3/4 {
		t.Errorf("%d of %d texts are valid, want both kinds", valid, all)
	}
}

// TestDecodeTextLongest: the longest plain event, and those around it.
func TestDecodeTextLongest(t *testing.T) {
	t.Parallel()
	without := len(strings.Replace(maxModelPerformance, "judge-1", "", 1))
	for _, length := range []int{48 << 10, 48<<10 + 1, reputation.MaxEventBytes, reputation.MaxEventBytes + 1, 80 << 10, 80<<10 + 1} {
		text := strings.Replace(maxModelPerformance, "judge-1", strings.Repeat("j", length-without), 1)
		if valid := sameDecoding(t, text); valid != (length <= reputation.MaxEventBytes) {
			t.Errorf("%d bytes: valid %v", length, valid)
		}
	}
}

// spelled is an event in one of the ways in which PostgreSQL or anybody else may
// write it.
func spelled(t *rapid.T, e *reputation.Event) string {
	text := string(e.AppendJSON(nil))
	switch rapid.IntRange(0, 2).Draw(t, "spelling") {
	case 1:
		text = strings.ReplaceAll(strings.ReplaceAll(text, `":`, `": `), `,"`, `, "`)
	case 2:
		text = "{ " + text[1:]
	}
	return text
}

// TestDecodeTextProperty: any event, and any event in which some bytes are others.
func TestDecodeTextProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.OneOf(anyBody(), commonBody())
		e := anyEvent().Draw(t, "event")
		e.Body = body.Draw(t, "body")
		text := []byte(spelled(t, e))
		sameDecoding(t, string(text))
		for range rapid.IntRange(1, 3).Draw(t, "mutations") {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			with := []byte(rapid.SampledFrom([]string{"", "0", "1", `"`, `\`, ",", ":", "{", "}", " ", "-", ".", "e", "x", "é", "\x00"}).Draw(t, "with"))
			end := at + rapid.IntRange(0, 1).Draw(t, "instead")
			text = append(text[:at:at], append(with, text[end:]...)...)
			if len(text) == 0 {
				return
			}
		}
		sameDecoding(t, string(text))
	})
}

// TestDecodeTextKeepsItsEvent: what was decoded stays as it is when others are
// decoded, although they share memory.
func TestDecodeTextKeepsItsEvent(t *testing.T) {
	t.Parallel()
	var events []reputation.Event
	for _, f := range fixtures() {
		e, err := reputation.DecodeText(f.text)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	for i, f := range fixtures() {
		if got := string(events[i].AppendJSON(nil)); got != f.text {
			t.Errorf("%s is now %s, was %s", f.name, got, f.text)
		}
	}
}

func FuzzDecodeText(f *testing.F) {
	for _, text := range plainTexts() {
		if len(text) < 1000 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) { sameDecoding(t, text) })
}

func BenchmarkDecodeText(b *testing.B) {
	for _, f := range fixtures() {
		b.Run(f.name, func(b *testing.B) {
			b.SetBytes(int64(len(f.text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := reputation.DecodeText(f.text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
