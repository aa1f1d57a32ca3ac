package faults_test

import (
	"context"
	"math/rand/v2"
)

// pick takes a server and holds it.
func (w *world) pick(random *rand.Rand) *server {
	s := w.servers[random.IntN(len(w.servers))]
	s.Lock()
	return s
}

// restart starts a server whose process is gone.
func (w *world) restart(s *server) {
	w.counts.restart()
	if err := s.start(context.Background()); err != nil {
		w.errorf("%v", err)
	}
}

// killServer ends a server with SIGKILL.
func killServer(w *world, random *rand.Rand) (heal func()) {
	s := w.pick(random)
	s.kill()
	return func() {
		defer s.Unlock()
		w.restart(s)
	}
}

// endServer ends a server with SIGTERM.
func endServer(w *world, random *rand.Rand) (heal func()) {
	s := w.pick(random)
	if err := s.stop(); err != nil {
		w.errorf("%v", err)
	}
	return func() {
		defer s.Unlock()
		w.restart(s)
	}
}

// pauseServer freezes a server, and lets it go on as if nothing had been.
func pauseServer(w *world, random *rand.Rand) (heal func()) {
	s := w.pick(random)
	s.pause()
	return func() {
		defer s.Unlock()
		s.resume()
	}
}
