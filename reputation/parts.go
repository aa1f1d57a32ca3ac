package reputation

// Parts are those parts of an [Agent] that only some types of events read or
// change. Who keeps many agents packed need unpack only what an event touches.
type Parts uint8

// The parts.
const (
	PartModelCohorts Parts = 1 << iota // Aggregate.ModelCohorts
	PartCredentials
	PartDimensions
	PartEvaluators
	PartTasks
)

// PartsOf are the parts that [Params.FoldAggregate] may read or change for an
// event: it gives the same for an agent in which the others are empty, and leaves
// them so. Aggregate.Transitions is only ever appended to.
func PartsOf(e *Event) Parts {
	switch body := e.Body.(type) {
	case QualitySignal:
		return dimensionsIn(body.Dimensions)
	case ModelPerformance:
		parts := PartModelCohorts | dimensionsIn(body.Observation.Dimensions)
		if body.Observation.EvaluatedBy != "" {
			parts |= PartEvaluators
		}
		return parts
	case TaskCompleted:
		return PartTasks
	case CredentialUpdate:
		return PartCredentials
	}
	return PartModelCohorts | PartCredentials | PartDimensions | PartEvaluators | PartTasks
}

func dimensionsIn(dimensions Dimensions) Parts {
	if len(dimensions) == 0 {
		return 0
	}
	return PartDimensions
}
