// Package broadcast wakes any number of waiters at a change.
package broadcast

import "sync"

// Signal wakes everyone who waits for a change. The zero value is ready, and it
// is safe for concurrent use.
type Signal struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change; nil while nobody has asked
}

// Changed is closed at the next [Signal.Wake].
func (s *Signal) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// Wake wakes those who have asked so far.
func (s *Signal) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
