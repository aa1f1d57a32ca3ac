package projections

import (
	"encoding/binary"
	"math"
	"slices"
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
	recent  recent
}

func newNames() *names { return &names{numbers: map[string]uint64{}} }

// number is that of a string, if it has one.
func (n *names) number(s string) (uint64, bool) {
	recent := n.recent.of(s)
	if at := int(*recent); at < len(n.all) && n.all[at] == s {
		return uint64(at), true
	}
	number, ok := n.lookUp(s)
	if ok {
		*recent = int32(number)
	}
	return number, ok
}

func (n *names) lookUp(s string) (uint64, bool) {
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

// recent are numbers that were looked up last, by a few characters of what they
// stand for. Whoever asks compares with what the number stands for, without a map: an
// event names the same few things as those before it.
type recent [256]int32

// of is where the number of strings may be.
func (r *recent) of(parts ...string) *int32 {
	var at uint8
	for _, s := range parts {
		if n := len(s); n > 0 {
			at = at*31 ^ uint8(n) ^ s[n-1]*3 ^ s[n/2]*29
		}
	}
	return &r[at]
}

// share is a string that does not keep an event in memory.
func (n *names) share(s string) string {
	if number, ok := n.number(s); ok {
		return n.all[number]
	}
	return strings.Clone(s)
}

// sections are a packed agent: the length and the bytes of each. An event touches
// few of them, and the others are copied as they are.
type sections [sectionCount][]byte

const (
	sectionPlain = iota // the fields that every event may change
	sectionTransitions
	sectionModelCohorts
	sectionCredentials
	sectionDimensions
	sectionEvaluators
	sectionTasks
	sectionCount

	allParts = reputation.PartModelCohorts | reputation.PartCredentials | reputation.PartDimensions |
		reputation.PartEvaluators | reputation.PartTasks
)

// partIn is the part of an agent that a section holds.
var partIn = [sectionCount]reputation.Parts{
	sectionModelCohorts: reputation.PartModelCohorts,
	sectionCredentials:  reputation.PartCredentials,
	sectionDimensions:   reputation.PartDimensions,
	sectionEvaluators:   reputation.PartEvaluators,
	sectionTasks:        reputation.PartTasks,
}

// split finds the sections of a packed agent.
func split(packed []byte) (s sections) {
	for i := range s {
		length, n := binary.Uvarint(packed)
		s[i], packed = packed[n:n+int(length)], packed[n+int(length):]
	}
	return s
}

// packer packs agents. It is not safe for concurrent use.
type packer struct {
	names   *names
	packed  []byte
	section []byte // that is being written
}

// pack is an agent without its NFT.
func (p *packer) pack(a *reputation.Agent) []byte {
	return slices.Clone(p.join(&sections{}, allParts, a))
}

// repack is a packed agent that is now another in its plain fields, has further
// transitions, and is another in some of its parts. What a has of other parts is of
// no interest. The bytes of the packed agent are used again.
func (p *packer) repack(packed []byte, changed reputation.Parts, a *reputation.Agent) []byte {
	old := split(packed)
	if p.overwrite(&old, changed, a) {
		return packed
	}
	joined := p.join(&old, changed, a)
	if len(joined) <= cap(packed) {
		return append(packed[:0], joined...)
	}
	return slices.Clone(joined)
}

// overwrite writes sections that have changed over the old ones, as long as they are
// of one length, as most are: counts seldom grow by a digit. When it answers false,
// all that have changed are still to be written.
func (p *packer) overwrite(old *sections, changed reputation.Parts, a *reputation.Agent) bool {
	if len(a.Aggregate.Transitions) > 0 {
		return false
	}
	for i := range sectionCount {
		if i == sectionTransitions || !touched(i, changed) {
			continue
		}
		p.section = p.section[:0]
		p.write(i, a)
		if len(p.section) != len(old[i]) {
			return false
		}
		copy(old[i], p.section)
	}
	return true
}

// touched says whether a section is to be written when these parts have changed.
func touched(section int, changed reputation.Parts) bool {
	part := partIn[section]
	return part == 0 || part&changed != 0
}

// join writes sections anew that have changed, and copies the others.
func (p *packer) join(old *sections, changed reputation.Parts, a *reputation.Agent) []byte {
	p.packed = p.packed[:0]
	for i := range sectionCount {
		section := old[i]
		if touched(i, changed) {
			p.section = p.section[:0]
			if i == sectionTransitions {
				p.section = append(p.section, old[i]...)
			}
			p.write(i, a)
			section = p.section
		}
		p.packed = binary.AppendUvarint(p.packed, uint64(len(section)))
		p.packed = append(p.packed, section...)
	}
	return p.packed
}

func (p *packer) write(section int, a *reputation.Agent) {
	switch section {
	case sectionPlain:
		p.plain(a)
	case sectionTransitions:
		p.transitions(a.Aggregate.Transitions)
	case sectionModelCohorts:
		p.modelCohorts(a.Aggregate.ModelCohorts)
	case sectionCredentials:
		for id, c := range a.Credentials {
			p.text(id)
			p.name(string(c.Action))
			p.time(c.At)
		}
	case sectionDimensions:
		for name, r := range a.Dimensions {
			p.name(name)
			p.integer(r.Count)
			p.number(r.Score)
		}
	case sectionEvaluators:
		for _, evaluator := range a.Evaluators {
			p.name(evaluator)
		}
	case sectionTasks:
		for task, s := range a.Tasks {
			p.name(string(task))
			p.integer(s.Completed)
			p.integer(s.Succeeded)
			p.integer(s.Timed)
			p.integer(s.TotalDurationMS)
		}
	}
}

func (p *packer) variablePlain(a *reputation.Agent) {
	g := &a.Aggregate
	p.number(g.BlendedScore)
	p.name(g.CollectionID)
	p.number(g.CollectionScore)
	p.name(g.ContractVersion)
	p.integer(g.ContributorCount)
	p.time(g.CreatedAt)
	p.time(g.LastUpdated)
	p.integer(g.MinSampleCount)
	p.score(g.PersonalScore)
	p.name(g.PoolID)
	p.integer(g.PseudoCount)
	p.integer(g.SampleCount)
	p.name(string(g.State))
	p.time(a.LastEventAt)
}

func (p *packer) transitions(transitions []reputation.Transition) {
	for i := range transitions {
		t := &transitions[i]
		p.time(t.At)
		p.name(string(t.From))
		p.name(string(t.To))
		p.name(t.Trigger)
	}
}

func (p *packer) modelCohorts(cohorts []reputation.ModelCohort) {
	for i := range cohorts {
		c := &cohorts[i]
		p.time(c.LastUpdated)
		p.name(c.ModelID)
		p.score(c.PersonalScore)
		p.integer(c.SampleCount)
	}
}

func (p *packer) integer(n int64)   { p.section = binary.AppendVarint(p.section, n) }
func (p *packer) number(f float64)  { p.fixed(math.Float64bits(f)) }
func (p *packer) fixed(bits uint64) { p.section = binary.LittleEndian.AppendUint64(p.section, bits) }

func (p *packer) text(s string) {
	p.section = binary.AppendUvarint(p.section, uint64(len(s)))
	p.section = append(p.section, s...)
}

func (p *packer) name(s string) {
	number, ok := p.names.number(s)
	if ok {
		p.section = binary.AppendUvarint(p.section, number<<1|1)
		return
	}
	p.section = binary.AppendUvarint(p.section, uint64(len(s))<<1)
	p.section = append(p.section, s...)
}

func (p *packer) score(f *float64) { p.fixed(scoreBits(f)) }

func (p *packer) time(t reputation.Timestamp) {
	if form, ok := t.Compact(); ok {
		p.fixed(form)
		return
	}
	p.fixed(rareTime)
	p.text(t.String())
}

// unpack reads an agent into one whose maps and slices it uses again.
func unpack(names *names, packed []byte, nft string, a *reputation.Agent) {
	all := split(packed)
	unpackParts(names, &all, allParts, nft, a)
	u := unpacker{names, all[sectionTransitions]}
	for u.more() {
		a.Aggregate.Transitions = append(a.Aggregate.Transitions, reputation.Transition{
			At: u.time(), From: reputation.State(u.name()), To: reputation.State(u.name()), Trigger: u.name(),
		})
	}
}

// unpackParts reads the plain fields of an agent and some of its parts. Others, and
// the transitions, are left empty.
func unpackParts(names *names, s *sections, parts reputation.Parts, nft string, a *reputation.Agent) {
	blank(a)
	(&unpacker{names, s[sectionPlain]}).plain(a)
	a.Aggregate.PersonalityID = nft
	for i, part := range partIn {
		if part&parts != 0 && len(s[i]) > 0 {
			(&unpacker{names, s[i]}).part(part, a)
		}
	}
}

// unpacker reads what [packer] has written in a section.
type unpacker struct {
	names *names
	rest  []byte
}

func (u *unpacker) variablePlain(a *reputation.Agent) {
	g := &a.Aggregate
	g.BlendedScore = u.number()
	g.CollectionID = u.name()
	g.CollectionScore = u.number()
	g.ContractVersion = u.name()
	g.ContributorCount = u.integer()
	g.CreatedAt = u.time()
	g.LastUpdated = u.time()
	g.MinSampleCount = u.integer()
	g.PersonalScore = u.score()
	g.PoolID = u.name()
	g.PseudoCount = u.integer()
	g.SampleCount = u.integer()
	g.State = reputation.State(u.name())
	a.LastEventAt = u.time()
}

func (u *unpacker) part(part reputation.Parts, a *reputation.Agent) {
	switch part {
	case reputation.PartModelCohorts:
		u.modelCohorts(&a.Aggregate)
	case reputation.PartCredentials:
		made(&a.Credentials)
		for u.more() {
			id := u.text()
			a.Credentials[id] = reputation.Credential{Action: reputation.CredentialAction(u.name()), At: u.time()}
		}
	case reputation.PartDimensions:
		made(&a.Dimensions)
		for u.more() {
			name := u.name()
			a.Dimensions[name] = reputation.Running{Count: u.integer(), Score: u.number()}
		}
	case reputation.PartEvaluators:
		for u.more() {
			a.Evaluators = append(a.Evaluators, u.name())
		}
	case reputation.PartTasks:
		made(&a.Tasks)
		for u.more() {
			task := reputation.TaskType(u.name())
			a.Tasks[task] = reputation.TaskStats{
				Completed: u.integer(), Succeeded: u.integer(), Timed: u.integer(), TotalDurationMS: u.integer(),
			}
		}
	}
}

func (u *unpacker) modelCohorts(g *reputation.Aggregate) {
	for u.more() {
		g.ModelCohorts = append(g.ModelCohorts, reputation.ModelCohort{
			LastUpdated: u.time(), ModelID: u.name(), PersonalScore: u.score(), SampleCount: u.integer(),
		})
	}
}

func (u *unpacker) more() bool { return len(u.rest) > 0 }

func (u *unpacker) take(n int) []byte {
	taken := u.rest[:n]
	u.rest = u.rest[n:]
	return taken
}

func (u *unpacker) unsigned() uint64 {
	v, n := binary.Uvarint(u.rest)
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) integer() int64 {
	v, n := binary.Varint(u.rest)
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) fixed() uint64   { return binary.LittleEndian.Uint64(u.take(8)) }
func (u *unpacker) number() float64 { return math.Float64frombits(u.fixed()) }
func (u *unpacker) text() string    { return string(u.take(int(u.unsigned()))) }

func (u *unpacker) name() string {
	n := u.unsigned()
	if n&1 == 1 {
		return u.names.all[n>>1]
	}
	return string(u.take(int(n >> 1)))
}

func (u *unpacker) score() *float64 { return scoreOf(u.fixed()) }

func (u *unpacker) time() reputation.Timestamp {
	form := u.fixed()
	if form != rareTime {
		return reputation.ExpandTimestamp(form)
	}
	t, _ := reputation.ParseTimestamp(u.text()) // it was one, or there was none
	return t
}

// maxReused is how large a map or slice may have been to be used again: clearing
// what a giant agent left takes longer than making a new one.
const maxReused = 64

// blank makes a an agent that has seen nothing, and keeps its maps and slices.
func blank(a *reputation.Agent) {
	*a = reputation.Agent{
		Aggregate: reputation.Aggregate{
			ModelCohorts: cut(a.Aggregate.ModelCohorts), Transitions: cut(a.Aggregate.Transitions),
		},
		Credentials: emptied(a.Credentials), Dimensions: emptied(a.Dimensions),
		Evaluators: cut(a.Evaluators), Tasks: emptied(a.Tasks),
	}
}

func emptied[M ~map[K]V, K comparable, V any](m M) M {
	if len(m) > maxReused {
		return nil
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

func made[M ~map[K]V, K comparable, V any](m *M) {
	if *m == nil {
		*m = M{}
	}
}
