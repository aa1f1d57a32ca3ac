// Package faults breaks a running service on purpose and then reconciles what its
// clients were told with what the log and the projections hold. It has tests only:
//
//	go test ./internal/faults                                   # every fault once, briefly, and a short mix
//	go test ./internal/faults -long                             # the same for longer
//	go test ./internal/faults -run Mix -long -duration 30m -seed 7 -timeout 1h
//
// The service is the real binary and runs on a PostgreSQL of its own, which can be
// killed, filled up and cut off. After each run:
//
//   - each acknowledged event is in the log exactly once, at the position told;
//   - the log is gapless, and what a client saw of it is how it stayed;
//   - no event is there that nobody sent, or under an id with other content;
//   - what is stored is what a replay says, and what a fresh database folds from the
//     exported log;
//   - positions that a client saw never went backwards;
//   - no answer was an error that is not documented.
//
// A mix runs in rounds, each with a seed of its own and a fresh database, and prints
// them. The seed decides which faults come in which order, how long they last and what
// clients send; when exactly a fault meets a request it cannot decide.
package faults
