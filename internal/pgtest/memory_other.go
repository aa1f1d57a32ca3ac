//go:build !linux

package pgtest

// freeBytes knows no directory in memory.
func freeBytes(string) uint64 { return 0 }
