package reputation_test

import (
	"testing"

	"dixie/reputation"
)

func BenchmarkDecode(b *testing.B) {
	for _, f := range fixtures() {
		b.Run(f.name, func(b *testing.B) {
			data := []byte(f.text)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := reputation.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	for _, f := range fixtures() {
		b.Run(f.name, func(b *testing.B) {
			e := mustDecode(b, f.text)
			var buf []byte
			b.SetBytes(int64(len(f.text)))
			b.ReportAllocs()
			for b.Loop() {
				buf = e.AppendJSON(buf[:0])
			}
		})
	}
}

func BenchmarkCanonical(b *testing.B) {
	data := []byte(maxModelPerformance)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reputation.Canonical(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFold folds into an agent that has all of the event's names already, as
// most events find it.
func BenchmarkFold(b *testing.B) {
	p := reputation.DefaultParams()
	for _, f := range fixtures() {
		e := mustDecode(b, f.text)
		if e.Type() == reputation.TypeReputationReset {
			continue // each adds a transition, so that the agent would grow without end
		}
		b.Run("aggregate/"+f.name, func(b *testing.B) {
			var a reputation.Agent
			var c reputation.Collection
			b.ReportAllocs()
			for b.Loop() {
				if err := p.FoldAggregate(&a, &c, "bear-1", &e); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("cohorts/"+f.name, func(b *testing.B) {
			var c reputation.Cohorts
			b.ReportAllocs()
			for b.Loop() {
				if err := p.FoldCohorts(&c, "bear-1", &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeAgent(b *testing.B) {
	a, _ := richAgent(b)
	b.SetBytes(int64(len(encode(b, &a))))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reputation.Encode(&a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendAgent(b *testing.B) {
	a, _ := richAgent(b)
	var aggregate, row []byte
	b.SetBytes(int64(len(encode(b, &a))))
	b.ReportAllocs()
	for b.Loop() {
		aggregate = a.Aggregate.AppendJSON(aggregate[:0])
		row = a.AppendJSON(row[:0], aggregate)
	}
}

func BenchmarkDecodeAgent(b *testing.B) {
	a, _ := richAgent(b)
	data := []byte(encode(b, &a))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var back reputation.Agent
		if err := reputation.DecodeInto(data, &back); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p, a, cohorts := reputation.DefaultParams(), decider(), deciderCohorts()
	q := reputation.Question{Task: "analysis", At: minute(0).Time()}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(a, cohorts, 0.5, q)
	}
}
