package faults_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"dixie/reputation"
)

// event is an event as a client sends it.
type event struct {
	nft  string
	id   string
	json string
}

// agents is how many NFTs a run has: few, so that events meet in rows.
const agents = 60

// author makes events. It belongs to one client.
type author struct {
	name   uint64 // different for each author of a run
	made   uint64
	random *rand.Rand
}

// id is a new one.
func (a *author) id() string {
	a.made++
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", a.name, a.made)
}

// event makes a valid event of any kind.
func (a *author) event() event {
	return a.of(fmt.Sprintf("agent:%d", a.random.IntN(agents)))
}

// of makes a valid event of an agent.
func (a *author) of(nft string) event {
	id := a.id()
	return event{nft: nft, id: id, json: a.text(nft, id)}
}

// text makes the JSON of an event.
func (a *author) text(nft, id string) string {
	return fmt.Sprintf(`{"event_id":%q,"agent_id":%q,"collection_id":%q,"timestamp":%q,%s}`,
		id, nft, collectionOf(nft), a.timestamp(), a.body())
}

func collectionOf(nft string) string { return fmt.Sprintf("c%d", len(nft)+int(nft[len(nft)-1])%3) }

// timestamp is of an author whose clock cannot be relied on.
func (a *author) timestamp() string {
	switch a.random.IntN(12) {
	case 0:
		return fmt.Sprintf("1970-01-01T00:00:%02dZ", a.random.IntN(60))
	case 1:
		return fmt.Sprintf("2199-12-%02dT23:59:59.999999+05:45", 1+a.random.IntN(31))
	case 2:
		return fmt.Sprintf("0001-01-01T00:%02d:00Z", a.random.IntN(60))
	}
	return fmt.Sprintf("2026-%02d-%02dT%02d:%02d:%02dZ", 1+a.random.IntN(12), 1+a.random.IntN(28), a.random.IntN(24), a.random.IntN(60), a.random.IntN(60))
}

var tasks = []string{"analysis", "code_review", "unspecified", "legal-guild:contract_review"}

func (a *author) body() string {
	r, task := a.random, tasks[a.random.IntN(len(tasks))]
	switch r.IntN(20) {
	case 0, 1, 2, 3, 4:
		return fmt.Sprintf(`"type":"quality_signal","score":%.3f,"task_type":%q,"dimensions":{"accuracy":%.2f}`, r.Float64(), task, r.Float64())
	case 5, 6, 7, 8:
		return fmt.Sprintf(`"type":"model_performance","model_id":"m%d","provider":"p","pool_id":"alpha","task_type":%q,"quality_observation":{"score":%.3f,"evaluated_by":"judge-%d"}`,
			r.IntN(3), task, r.Float64(), r.IntN(9))
	case 9, 10, 11, 12:
		return fmt.Sprintf(`"type":"task_completed","task_type":%q,"success":%t,"duration_ms":%d`, task, r.IntN(4) > 0, r.IntN(9999))
	case 13, 14:
		return fmt.Sprintf(`"type":"credential_update","credential_id":"00000000-0000-4000-8000-00000000000%d","action":"issued"`, r.IntN(3))
	case 15:
		return fmt.Sprintf(`"type":"reputation_reset","reason":"of the harness","actor":"operator %d"`, r.IntN(3))
	}
	return fmt.Sprintf(`"type":"quality_signal","score":%.3f`, r.Float64())
}

// line is the event in a bulk import.
func (e event) line() string { return fmt.Sprintf(`{"nft_id":%q,"event":%s}`+"\n", e.nft, e.json) }

// kind is the event's type, for the column of it.
func (e event) kind() string {
	var members struct{ Type string }
	_ = json.Unmarshal([]byte(e.json), &members) // garbage has none
	return members.Type
}

func lines(events []event) string {
	var text strings.Builder
	for _, e := range events {
		text.WriteString(e.line())
	}
	return text.String()
}

func array(events []event) string {
	texts := make([]string, len(events))
	for i, e := range events {
		texts[i] = e.json
	}
	return "[" + strings.Join(texts, ",") + "]"
}

// garbage makes a row that only SQL can write, and that no fold accepts. Each has
// something of its own by which it is found again.
func (a *author) garbage() event {
	nft, id := fmt.Sprintf("agent:%d", a.random.IntN(agents)), a.id()
	with := func(members string) event {
		return event{nft: nft, id: id, json: fmt.Sprintf(`{"event_id":%q,"agent_id":%q,"collection_id":%q,"timestamp":"2026-01-01T00:00:00Z",%s}`,
			id, nft, collectionOf(nft), members)}
	}
	nameless := func(text string) event { return event{nft: nft, json: text} }
	switch a.random.IntN(14) {
	case 0:
		return with(`"type":"telepathy","strength":3`)
	case 1:
		return with(`"type":"quality_signal"`)
	case 2:
		return with(`"type":"quality_signal","score":"0.9"`)
	case 3:
		return with(fmt.Sprintf(`"type":"quality_signal","score":0.5,"note":%q`, strings.Repeat("x", 200_000)))
	case 4:
		return with(`"type":"quality_signal","score":1.5`)
	case 5:
		return with(`"type":"quality_signal","score":1e400`)
	case 6:
		return with(`"type":"quality_signal","score":0.5,"dimensions":` + strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300))
	case 7:
		return nameless(fmt.Sprintf(`{"type":"quality_signal","score":0.5,"note":%q}`, id))
	case 8:
		return nameless(fmt.Sprintf(`{"type":"quality_signal","event_id":%q,"score":0.5}`, "not "+id))
	case 9:
		return nameless(fmt.Sprintf(`%q`, id))
	case 10:
		return nameless(fmt.Sprintf(`[%q]`, id))
	case 11:
		return event{nft: "no NFT: " + id, id: id, json: fmt.Sprintf(`{"event_id":%q}`, id)}
	case 12:
		return nameless(fmt.Sprintf(`{"event_id":null,"n":%q}`, id))
	default:
		e := a.of(nft) // valid, but for another collection than the agent's
		e.json = strings.Replace(e.json, `"collection_id":"c`, `"collection_id":"other-`, 1)
		return e
	}
}

// key is what tells a row from others: its event's id, or else all of its event.
func key(eventJSON []byte) string {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(eventJSON, &members) // what is no object has no id
	var id string
	_ = json.Unmarshal(members["event_id"], &id)
	if uuid, ok := reputation.ParseUUID(id); ok {
		return string(uuid[:])
	}
	return content(eventJSON)
}

// content is an event's JSON in one spelling, as far as it has one.
func content(eventJSON []byte) string {
	text, err := reputation.Canonical(eventJSON)
	if err != nil {
		return string(eventJSON)
	}
	return string(text)
}
