package projections

import (
	"strings"

	"dixie/reputation"
)

const (
	// maxMembers bounds the collections of NFTs that a lease remembers, at about 100
	// bytes each.
	maxMembers = 100_000

	// maxAgentBytes bounds the packed agents that a lease remembers. An agent takes
	// 200 to 800 of them, and about 100 bytes beside.
	maxAgentBytes = 24 << 20

	// maxCollections bounds the collections that a lease remembers.
	maxCollections = 10_000
)

// remembered is what a lease knows of the rows that it has read or written. Only
// the projector writes its state, and whoever else did, a rebuild, has ended the
// lease with it: so a lease need not read again what it wrote. Reading and decoding
// agents again for every page took two fifths of a projector's time. After a page
// that failed nothing is remembered, as nobody knows what was stored.
type remembered struct {
	members     members
	agents      map[string][]byte // packed, by NFT
	agentBytes  int
	collections map[string]reputation.Collection
	names       *names
	packer      packer
}

func newRemembered() *remembered {
	names := newNames()
	r := &remembered{names: names, packer: packer{names: names}}
	r.forget()
	return r
}

// forget empties r. Members stay: an NFT never changes its collection.
func (r *remembered) forget() {
	if r.members == nil {
		r.members = members{}
	}
	r.agents, r.agentBytes = map[string][]byte{}, 0
	r.collections = map[string]reputation.Collection{}
}

// load puts the agents and collections that r knows into rows, ready to be folded
// on, and returns the others.
func (r *remembered) load(rows agentRows, nfts, collections []string) (unknown, unknownCollections []string) {
	for _, nft := range nfts {
		packed, ok := r.agents[nft]
		if !ok {
			unknown = append(unknown, nft)
			continue
		}
		agent := &reputation.Agent{}
		unpack(r.names, packed, nft, agent)
		rows.agents[nft] = agent
	}
	for _, id := range collections {
		if c, ok := r.collections[id]; ok {
			rows.collections[id] = &c
		} else {
			unknownCollections = append(unknownCollections, id)
		}
	}
	return unknown, unknownCollections
}

// save notes what a page has written.
func (r *remembered) save(changes agentChanges) {
	for _, c := range changes.agents {
		r.add(c.nft, r.packer.pack(c.agent))
	}
	if len(r.collections) > maxCollections {
		clear(r.collections)
	}
	for id, c := range changes.collections {
		r.collections[strings.Clone(id)] = *c // the id may be part of an event
	}
}

// add remembers an agent, in the place of others when there is no room. Which ones
// is left to chance: a page touches agents in no order that would tell.
func (r *remembered) add(nft string, packed []byte) {
	if old, ok := r.agents[nft]; ok {
		r.agentBytes -= len(old)
	} else {
		nft = strings.Clone(nft)
	}
	r.agents[nft] = packed
	r.agentBytes += len(packed)
	for other, text := range r.agents {
		if r.agentBytes <= maxAgentBytes {
			return
		}
		r.agentBytes -= len(text)
		delete(r.agents, other)
	}
}

// members are collections of NFTs that a lease has read. An NFT never changes its
// collection, so that asking once is enough; half of a projector's questions
// about cohorts were this one.
type members map[string]string

// add remembers what is stored.
func (m members) add(nft, collection string) {
	if len(m) >= maxMembers {
		clear(m)
	}
	m[nft] = collection
}

// split are the NFTs that m knows, ready to be folded on, and the others.
func (m members) split(nfts []string) (known map[string]*reputation.Cohorts, unknown []string) {
	known = make(map[string]*reputation.Cohorts, len(nfts))
	for _, nft := range nfts {
		if collection, ok := m[nft]; ok {
			known[nft] = &reputation.Cohorts{CollectionID: collection}
		} else {
			unknown = append(unknown, nft)
		}
	}
	return known, unknown
}
