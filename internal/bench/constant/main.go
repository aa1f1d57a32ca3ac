// Command constant is what the answers of a server can be no faster than: a handler of
// gorilla/mux that writes the same bytes to every request. It serves at a free port of
// this machine, prints its URL, and ends when its input does.
//
//	go run ./internal/bench/constant BYTES
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/gorilla/mux"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "constant:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the size of the answer in bytes, found %d arguments", len(args))
	}
	size, err := strconv.Atoi(args[0])
	if err != nil || size < 0 {
		return fmt.Errorf("the size must be a number of bytes, found %q", args[0])
	}
	answer := bytes.Repeat([]byte("x"), size)
	router := mux.NewRouter()
	router.HandleFunc("/api/reputation/{nftId}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}).Methods(http.MethodGet)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(listener, router)
}
