package projections

import (
	"encoding/binary"
	"math"

	"dixie/reputation"
)

// The plain fields of an agent are read and written for every event, those of nearly
// all agents in a form of fixed length, which takes about a tenth off folding agents.

const (
	formFixed    = 0
	formVariable = 1

	plainLength = 1 + 6*8 + 4*4 + 4*2 // form, scores and times, counts, names
)

// plain writes the plain fields.
func (p *packer) plain(a *reputation.Agent) {
	if form, ok := p.fixedPlain(a); ok {
		p.section = append(p.section, form[:]...)
		return
	}
	p.section = append(p.section, formVariable)
	p.variablePlain(a)
}

// fixedPlain answers false when a field has no place in the form of fixed length.
func (p *packer) fixedPlain(a *reputation.Agent) (form [plainLength]byte, ok bool) {
	form[0], ok = formFixed, true
	b := form[1:1]
	time := func(t reputation.Timestamp) {
		micros, compact := t.Compact()
		ok = ok && compact
		b = binary.LittleEndian.AppendUint64(b, micros)
	}
	count := func(n int64) {
		ok = ok && n >= 0 && n <= math.MaxUint32
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	name := func(s string) {
		number, known := p.names.number(s)
		ok = ok && known
		b = binary.LittleEndian.AppendUint16(b, uint16(number))
	}
	g := &a.Aggregate
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(g.BlendedScore))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(g.CollectionScore))
	b = binary.LittleEndian.AppendUint64(b, scoreBits(g.PersonalScore))
	time(g.CreatedAt)
	time(g.LastUpdated)
	time(a.LastEventAt)
	count(g.ContributorCount)
	count(g.MinSampleCount)
	count(g.PseudoCount)
	count(g.SampleCount)
	name(g.CollectionID)
	name(g.ContractVersion)
	name(g.PoolID)
	name(string(g.State))
	return form, ok
}

// plain reads the plain fields.
func (u *unpacker) plain(a *reputation.Agent) {
	if u.rest[0] == formVariable {
		u.rest = u.rest[1:]
		u.variablePlain(a)
		return
	}
	b, names := (*[plainLength]byte)(u.rest), u.names.all
	g := &a.Aggregate
	g.BlendedScore = math.Float64frombits(binary.LittleEndian.Uint64(b[1:]))
	g.CollectionScore = math.Float64frombits(binary.LittleEndian.Uint64(b[9:]))
	g.PersonalScore = scoreOf(binary.LittleEndian.Uint64(b[17:]))
	g.CreatedAt = reputation.ExpandTimestamp(binary.LittleEndian.Uint64(b[25:]))
	g.LastUpdated = reputation.ExpandTimestamp(binary.LittleEndian.Uint64(b[33:]))
	a.LastEventAt = reputation.ExpandTimestamp(binary.LittleEndian.Uint64(b[41:]))
	g.ContributorCount = int64(binary.LittleEndian.Uint32(b[49:]))
	g.MinSampleCount = int64(binary.LittleEndian.Uint32(b[53:]))
	g.PseudoCount = int64(binary.LittleEndian.Uint32(b[57:]))
	g.SampleCount = int64(binary.LittleEndian.Uint32(b[61:]))
	g.CollectionID = names[binary.LittleEndian.Uint16(b[65:])]
	g.ContractVersion = names[binary.LittleEndian.Uint16(b[67:])]
	g.PoolID = names[binary.LittleEndian.Uint16(b[69:])]
	g.State = reputation.State(names[binary.LittleEndian.Uint16(b[71:])])
}

// scoreBits keeps nil apart from every number in its bits: scores are not negative.
func scoreBits(score *float64) uint64 {
	if score == nil {
		return math.MaxUint64
	}
	return math.Float64bits(*score)
}

func scoreOf(bits uint64) *float64 {
	if bits == math.MaxUint64 {
		return nil
	}
	score := math.Float64frombits(bits)
	return &score
}
