package projections

import (
	"encoding/binary"
	"math"
	"strings"

	"dixie/reputation"
)

// While a log is folded in memory, agents are kept packed: a tenth of their size
// in Go's maps and slices, and nothing for the garbage collector to follow. It is
// not stored anywhere, so it needs no version. A test that fills every field of an
// agent keeps it complete.

const (
	// maxNames and maxNameBytes bound the strings that are numbered. Any others are
	// written out where they occur, so that a log full of unique names costs no more
	// than the rows that have them.
	maxNames     = 1 << 14
	maxNameBytes = 255

	// rareTime is where a compact timestamp would be, before one that has no such
	// form.
	rareTime = math.MaxUint64
)

// names numbers the strings that many rows share: collections, models, evaluators.
type names struct {
	numbers map[string]uint64
	all     []string
}

func newNames() *names { return &names{numbers: map[string]uint64{}} }

// number is that of a string, if it has one.
func (n *names) number(s string) (uint64, bool) {
	number, known := n.numbers[s]
	if known || len(s) > maxNameBytes || len(n.all) == maxNames {
		return number, known
	}
	s = strings.Clone(s) // it may be part of an event
	number = uint64(len(n.all))
	n.all = append(n.all, s)
	n.numbers[s] = number
	return number, true
}

// share is a string that does not keep an event in memory.
func (n *names) share(s string) string {
	if number, ok := n.number(s); ok {
		return n.all[number]
	}
	return strings.Clone(s)
}

// packer writes what [unpacker] reads.
type packer struct {
	names *names
	buf   []byte
	texts int // bytes of the compact timestamps when they are spelled out
}

func (p *packer) integer(n int64)   { p.buf = binary.AppendVarint(p.buf, n) }
func (p *packer) length(n int)      { p.buf = binary.AppendUvarint(p.buf, uint64(n)) }
func (p *packer) number(f float64)  { p.fixed(math.Float64bits(f)) }
func (p *packer) fixed(bits uint64) { p.buf = binary.LittleEndian.AppendUint64(p.buf, bits) }

func (p *packer) text(s string) {
	p.length(len(s))
	p.buf = append(p.buf, s...)
}

func (p *packer) name(s string) {
	number, ok := p.names.number(s)
	if ok {
		p.buf = binary.AppendUvarint(p.buf, number<<1|1)
		return
	}
	p.buf = binary.AppendUvarint(p.buf, uint64(len(s))<<1)
	p.buf = append(p.buf, s...)
}

// score keeps nil apart from every number in its bits: scores are not negative.
func (p *packer) score(f *float64) {
	if f == nil {
		p.fixed(math.MaxUint64)
		return
	}
	p.number(*f)
}

func (p *packer) time(t reputation.Timestamp) {
	if form, ok := t.Compact(); ok {
		p.texts += len(t.String())
		p.fixed(form)
		return
	}
	p.fixed(rareTime)
	p.text(t.String())
}

// pack is an agent without its NFT.
func (p *packer) pack(a *reputation.Agent) string {
	p.buf, p.texts = append(p.buf[:0], 0, 0, 0, 0), 0 // room for the length of the texts
	p.aggregate(&a.Aggregate)
	p.length(len(a.Credentials))
	for id, c := range a.Credentials {
		p.text(id)
		p.name(string(c.Action))
		p.time(c.At)
	}
	p.length(len(a.Dimensions))
	for name, r := range a.Dimensions {
		p.name(name)
		p.integer(r.Count)
		p.number(r.Score)
	}
	p.length(len(a.Evaluators))
	for _, evaluator := range a.Evaluators {
		p.name(evaluator)
	}
	p.time(a.LastEventAt)
	p.length(len(a.Tasks))
	for task, s := range a.Tasks {
		p.name(string(task))
		p.integer(s.Completed)
		p.integer(s.Succeeded)
		p.integer(s.Timed)
		p.integer(s.TotalDurationMS)
	}
	binary.LittleEndian.PutUint32(p.buf, uint32(p.texts))
	return string(p.buf)
}

func (p *packer) aggregate(g *reputation.Aggregate) {
	p.number(g.BlendedScore)
	p.name(g.CollectionID)
	p.number(g.CollectionScore)
	p.name(g.ContractVersion)
	p.integer(g.ContributorCount)
	p.time(g.CreatedAt)
	p.time(g.LastUpdated)
	p.integer(g.MinSampleCount)
	p.length(len(g.ModelCohorts))
	for i := range g.ModelCohorts {
		c := &g.ModelCohorts[i]
		p.time(c.LastUpdated)
		p.name(c.ModelID)
		p.score(c.PersonalScore)
		p.integer(c.SampleCount)
	}
	p.score(g.PersonalScore)
	p.name(g.PoolID)
	p.integer(g.PseudoCount)
	p.integer(g.SampleCount)
	p.name(string(g.State))
	p.length(len(g.Transitions))
	for i := range g.Transitions {
		t := &g.Transitions[i]
		p.time(t.At)
		p.name(string(t.From))
		p.name(string(t.To))
		p.name(t.Trigger)
	}
}

// unpacker reads what [packer] has written. Strings are parts of the packed text,
// of the names, or of one text for all timestamps.
type unpacker struct {
	names *names
	rest  string
	texts strings.Builder
}

func (u *unpacker) take(n int) string {
	taken := u.rest[:n]
	u.rest = u.rest[n:]
	return taken
}

func (u *unpacker) unsigned() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := u.rest[0]
		u.rest = u.rest[1:]
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (u *unpacker) integer() int64 {
	n := u.unsigned()
	return int64(n>>1) ^ -int64(n&1)
}

func (u *unpacker) length() int { return int(u.unsigned()) }

func (u *unpacker) fixed() (bits uint64) {
	b := u.take(8)
	for i := range 8 {
		bits |= uint64(b[i]) << (8 * i)
	}
	return bits
}

func (u *unpacker) number() float64 { return math.Float64frombits(u.fixed()) }
func (u *unpacker) text() string    { return u.take(u.length()) }

func (u *unpacker) name() string {
	n := u.unsigned()
	if n&1 == 1 {
		return u.names.all[n>>1]
	}
	return u.take(int(n >> 1))
}

func (u *unpacker) score() *float64 {
	bits := u.fixed()
	if bits == math.MaxUint64 {
		return nil
	}
	f := math.Float64frombits(bits)
	return &f
}

func (u *unpacker) time() reputation.Timestamp {
	form := u.fixed()
	if form != rareTime {
		return reputation.ExpandTimestamp(form, &u.texts)
	}
	t, _ := reputation.ParseTimestamp(u.text()) // it was one, or there was none
	return t
}

// unpack reads an agent into one whose maps and slices it uses again.
func unpack(names *names, packed, nft string, a *reputation.Agent) {
	u := &unpacker{names: names, rest: packed}
	size := u.take(4)
	u.texts.Grow(int(size[0]) | int(size[1])<<8 | int(size[2])<<16 | int(size[3])<<24)
	u.aggregate(&a.Aggregate)
	a.Aggregate.PersonalityID = nft
	n := u.length()
	a.Credentials = emptied(a.Credentials, n)
	for range n {
		id := u.text()
		a.Credentials[id] = reputation.Credential{Action: reputation.CredentialAction(u.name()), At: u.time()}
	}
	n = u.length()
	a.Dimensions = emptied(a.Dimensions, n)
	for range n {
		name := u.name()
		a.Dimensions[name] = reputation.Running{Count: u.integer(), Score: u.number()}
	}
	a.Evaluators = cut(a.Evaluators)
	for range u.length() {
		a.Evaluators = append(a.Evaluators, u.name())
	}
	a.LastEventAt = u.time()
	n = u.length()
	a.Tasks = emptied(a.Tasks, n)
	for range n {
		task := reputation.TaskType(u.name())
		a.Tasks[task] = reputation.TaskStats{
			Completed: u.integer(), Succeeded: u.integer(), Timed: u.integer(), TotalDurationMS: u.integer(),
		}
	}
}

// maxReused is how large a map or slice may have been to be used again: clearing
// what a giant agent left takes longer than making a new one.
const maxReused = 64

// emptied is a map without entries, to take n of them.
func emptied[M ~map[K]V, K comparable, V any](m M, n int) M {
	if len(m) > maxReused {
		m = nil
	}
	if m == nil && n > 0 {
		return make(M, n)
	}
	clear(m)
	return m
}

func cut[S ~[]E, E any](s S) S {
	if cap(s) > maxReused {
		return nil
	}
	return s[:0]
}

func (u *unpacker) aggregate(g *reputation.Aggregate) {
	g.BlendedScore = u.number()
	g.CollectionID = u.name()
	g.CollectionScore = u.number()
	g.ContractVersion = u.name()
	g.ContributorCount = u.integer()
	g.CreatedAt = u.time()
	g.LastUpdated = u.time()
	g.MinSampleCount = u.integer()
	g.ModelCohorts = cut(g.ModelCohorts)
	for range u.length() {
		g.ModelCohorts = append(g.ModelCohorts, reputation.ModelCohort{
			LastUpdated: u.time(), ModelID: u.name(), PersonalScore: u.score(), SampleCount: u.integer(),
		})
	}
	g.PersonalScore = u.score()
	g.PoolID = u.name()
	g.PseudoCount = u.integer()
	g.SampleCount = u.integer()
	g.State = reputation.State(u.name())
	g.Transitions = cut(g.Transitions)
	for range u.length() {
		g.Transitions = append(g.Transitions, reputation.Transition{
			At: u.time(), From: reputation.State(u.name()), To: reputation.State(u.name()), Trigger: u.name(),
		})
	}
}
