package reputation

import "slices"

// Cohorts is everything that the cohorts projection knows of one NFT. The zero
// value has seen no event.
type Cohorts struct {
	// CollectionID is the NFT's collection, and empty before its first event.
	CollectionID string
	// ByKey may hold only those cohorts that the events to come can touch.
	ByKey map[CohortKey]TaskCohort
	// Cleared says that a reset removed every cohort that is not in ByKey.
	Cleared bool
}

// FoldCohorts applies one event to the task cohorts of the agent that it counts
// for (protocol part I.4 and I.5). The error is nil or a [*SetAsideError] – the
// same that [Params.FoldAggregate] gives; after an error nothing has changed.
func (p Params) FoldCohorts(c *Cohorts, nft string, e *Event) error {
	key, _, counts := CohortOf(e)
	cohort, known := c.ByKey[key]
	if !known {
		cohort = TaskCohort{ModelID: key.Model, TaskType: key.Task}
	}
	cleared, err := p.FoldCohort(&cohort, c.CollectionID, nft, e)
	if err != nil {
		return err
	}
	c.CollectionID = e.CollectionID
	if cleared {
		c.ByKey, c.Cleared = nil, true
	}
	if counts {
		if c.ByKey == nil {
			c.ByKey = make(map[CohortKey]TaskCohort, 1)
		}
		c.ByKey[key] = cohort
	}
	return nil
}

// FoldCohort is [Params.FoldCohorts] for whoever keeps the cohorts of an agent in
// another form. cohort is the one that the event counts for, by [CohortOf], with its
// key and nothing else if it is new; an event that counts for none leaves it alone.
// collection is the agent's, and empty before its first event, after which it is the
// event's. The answer is true when all cohorts are to be removed.
func (p Params) FoldCohort(cohort *TaskCohort, collection, nft string, e *Event) (cleared bool, err error) {
	if err := accept(nft, collection, e); err != nil {
		return false, err
	}
	if _, score, counts := CohortOf(e); counts {
		next := p.Damping.Dampen(cohort.PersonalScore, score, cohort.SampleCount)
		cohort.PersonalScore = &next
		cohort.SampleCount++
		cohort.LastUpdated = cohort.LastUpdated.Later(e.Timestamp)
	}
	_, cleared = e.Body.(ReputationReset)
	return cleared, nil
}

// CohortOf is the task cohort that an event counts for and the score that it
// brings; false when it counts for none.
func CohortOf(e *Event) (CohortKey, float64, bool) {
	switch body := e.Body.(type) {
	case QualitySignal:
		return CohortKey{Model: DefaultModel, Task: body.TaskType}, body.Score, body.TaskType.Known()
	case ModelPerformance:
		return CohortKey{Model: body.ModelID, Task: body.TaskType}, body.Observation.Score, body.TaskType.Known()
	}
	return CohortKey{}, 0, false
}

// Sorted are the cohorts by model and task.
func (c *Cohorts) Sorted() []TaskCohort {
	cohorts := make([]TaskCohort, 0, len(c.ByKey))
	for _, cohort := range c.ByKey {
		cohorts = append(cohorts, cohort)
	}
	slices.SortFunc(cohorts, func(a, b TaskCohort) int { return a.Key().Compare(b.Key()) })
	return cohorts
}

// maxShownCohorts is how many task cohorts an aggregate view may show (protocol
// §3.5).
const maxShownCohorts = 50

// Recent are the at most 50 cohorts that were updated last, latest first; of
// equally recent ones those with the smaller key. cohorts is not changed.
func Recent(cohorts []TaskCohort) []TaskCohort {
	recent := slices.Clone(cohorts)
	slices.SortStableFunc(recent, func(a, b TaskCohort) int {
		if c := b.LastUpdated.Time().Compare(a.LastUpdated.Time()); c != 0 {
			return c
		}
		return a.Key().Compare(b.Key())
	})
	return recent[:min(len(recent), maxShownCohorts)]
}
