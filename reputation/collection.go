package reputation

// Collection is what the fold knows of a collection as a whole. Each member that
// has a personal score counts once, however busy it is. The zero value is an
// empty collection.
type Collection struct {
	Sum     float64 // of the members' current personal scores
	Squares float64 // of the squares of those
	Scores  int64   // members that have a personal score
	Members int64   // members that have had an event
}

// Prior is what is expected of a member before anything is known of it: the mean
// of the other members' personal scores, clamped to [0, 1]. own is the member's
// personal score, which is left out, and nil when it has none. Without others
// the prior is p.NeutralPrior.
func (c Collection) Prior(own *float64, p Params) float64 {
	sum, others := c.Sum, c.Scores
	if own != nil {
		sum, others = sum-*own, others-1
	}
	if others <= 0 {
		return p.NeutralPrior
	}
	return clamp01(sum / float64(others))
}

// Mean is the mean personal score, and neutral when no member has one.
func (c Collection) Mean(neutral float64) float64 {
	if c.Scores == 0 {
		return neutral
	}
	return clamp01(c.Sum / float64(c.Scores))
}

// Variance is the population variance of the personal scores, and 0 with fewer
// than two.
func (c Collection) Variance() float64 {
	if c.Scores <= 1 {
		return 0
	}
	mean := c.Sum / float64(c.Scores)
	return max(0, c.Squares/float64(c.Scores)-float64(mean*mean))
}

// move replaces a member's personal score; nil is none.
func (c *Collection) move(from, to *float64) {
	if from != nil {
		c.Sum -= *from
		c.Squares -= float64(*from * *from)
		c.Scores--
	}
	if to != nil {
		c.Sum += *to
		c.Squares += float64(*to * *to)
		c.Scores++
	}
}
