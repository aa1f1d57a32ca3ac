package main

// floorBytes is how much more a server's heap may grow between two collections.
const floorBytes = 16 << 20

// heapFloor is memory that is never touched, so that it takes none of the machine's, but
// counts as part of the heap, which is collected when it has doubled. As long as the
// result is kept, the rest may grow by that much more before it is.
func heapFloor() []byte { return make([]byte, floorBytes) }
