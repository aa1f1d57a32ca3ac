package main

// How much more the heap may grow between two collections.
const (
	servingFloor    = 16 << 20
	rebuildingFloor = 32 << 20
)

// heapFloor is memory that is never touched, so that it takes none of the machine's, but
// counts as part of the heap, which is collected when it has doubled. As long as the
// result is kept, the rest may grow by that much more before it is.
func heapFloor(bytes int) []byte { return make([]byte, bytes) }
