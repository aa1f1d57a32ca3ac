// Command write writes docs/api.md, to the file that its argument names.
package main

import (
	"fmt"
	"os"

	"dixie/http"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "write:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the name of one file, found %d arguments", len(args))
	}
	text, err := http.Reference()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], text, 0o644)
}
