// Package projectionstest is the conformance suite of projections, and what other
// tests of them need: events, the rows that a log should give, and projectors
// that end with their test.
package projectionstest

import (
	"context"
	"testing"

	"dixie/projections"
	"dixie/reputation"
)

// Backend is a log and the rows that are folded from it.
type Backend struct {
	Log    reputation.Log
	Store  projections.Store
	Reader projections.Reader
	// Projectors returns a projector of each projection. They read pages of at most
	// pageSize events; 0 is the default.
	Projectors func(params reputation.Params, pageSize int) []*projections.Projector
	// Past returns the past of the log. The configuration's Log is the backend's.
	Past func(config projections.PastConfig) *projections.Past
	// Publisher returns a projector that publishes, and nothing else.
	Publisher func(params reputation.Params, pageSize int, broker projections.Broker) *projections.Projector
}

// tests are what the comments on the interfaces and the architecture promise, one
// by one.
var tests = map[string]func(*testing.T, Backend){
	"store/aggregate":               testAggregate,
	"store/replace aggregate":       testReplaceAggregate,
	"store/cold aggregates":         testColdAggregates,
	"store/count":                   testCount,
	"store/all aggregates":          testAllAggregates,
	"store/all of a full page":      testFullPage,
	"store/stop early":              testStopEarly,
	"store/cancelled list":          testCancelledList,
	"store/task cohort":             testTaskCohort,
	"store/replace task cohort":     testReplaceTaskCohort,
	"store/append and history":      testHistory,
	"read/nothing known":            testNothingKnown,
	"read/unknown NFT":              testUnknownNFT,
	"read/reputation":               testReputation,
	"read/positions":                testPositions,
	"read/score":                    testScore,
	"read/list":                     testList,
	"read/list in byte order":       testByteOrder,
	"read/populations":              testPopulations,
	"read/failures":                 testFailurePages,
	"read/cancelled":                testCancelledReads,
	"read/unchanged":                testUnchanged,
	"read/unchanged, positions":     testUnchangedPositions,
	"read/unchanged is so":          testUnchangedIsSo,
	"past/each position":            testPastPositions,
	"past/before the first event":   testPastBefore,
	"past/garbage":                  testPastGarbage,
	"past/other collections":        testPastCollections,
	"past/put over":                 testPastPutOver,
	"past/behind":                   testPastBehind,
	"past/too long":                 testPastTooLong,
	"past/cancelled":                testPastCancelled,
	"past/timeline":                 testTimeline,
	"past/timeline stopped":         testTimelineStopped,
	"past/snapshot":                 testSnapshot,
	"past/snapshot of a putter":     testSnapshotPut,
	"status/before and after":       testStatus,
	"status/while behind":           testStatusBehind,
	"status/overview":               testOverview,
	"status/overview of another":    testOverviewOther,
	"wait/reached":                  testWaitReached,
	"wait/until reached":            testWaitUntil,
	"wait/many":                     testManyWait,
	"wait/behind":                   testWaitBehind,
	"wait/one projection":           testWaitOne,
	"fold/worked history":           testWorkedHistory,
	"fold/garbage":                  testGarbage,
	"fold/only garbage":             testOnlyGarbage,
	"fold/reset":                    testReset,
	"fold/reset within a page":      testResetInPage,
	"fold/collections":              testCollections,
	"fold/aggregate from outside":   testOutsideAggregate,
	"fold/aggregate put over":       testAggregatePutOver,
	"fold/cohort from outside":      testOutsideCohort,
	"fold/cohort put over":          testCohortPutOver,
	"fold/cohort put, then reset":   testCohortPutReset,
	"projector/states":              testStates,
	"projector/stand-by":            testStandby,
	"projector/resumes":             testResumes,
	"projector/other version":       testOtherVersion,
	"projector/leaves no goroutine": testNoGoroutine,
	"publisher/everything":          testPublish,
	"publisher/slow broker":         testSlowBroker,
	"publisher/one fails":           testFailingMessage,
	"publisher/lost confirmation":   testLostConfirmation,
	"publisher/killed":              testKilledPublisher,
	"publisher/stand-by":            testStandbyPublisher,
	"publisher/not open":            testNotOpen,
	"publisher/garbage":             testGarbageIsNotPublished,
	"publisher/other parameters":    testPublishOtherParameters,
	"publisher/status":              testPublisherStatus,
	"publisher/resend":              testResend,
	"publisher/resend fails":        testResendFails,
}

// Test checks what package projections promises. open returns an empty log
// without rows, which is used by one test.
func Test(t *testing.T, open func(*testing.T) Backend) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// TB is what helpers need of a [testing.TB] or a rapid.T.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	Context() context.Context
}
