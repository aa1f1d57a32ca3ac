package main

import (
	"bufio"
	"bytes"
	"os"
	"strings"
)

const (
	tailLines = 40
	maxLine   = 1 << 20
	maxFound  = 5
)

// excuse is in lines about answers of finn's, whose status is passed on.
const excuse = "finn answered"

// marks are in lines that no test should make the service write, whatever it does
// to it: an answer that says it is a fault of the service, a panic, a data race.
var marks = []string{`"msg":"request failed","status":500`, "panic", "DATA RACE", "fatal error:"}

// tail is the end of a log, without what is only told.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	var lines [][]byte
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(`"level":"INFO"`)) {
			lines = append(lines, line)
		}
	}
	return string(bytes.Join(lines[max(0, len(lines)-tailLines):], nil))
}

// suspicious are the first lines of a log that should not be there.
func suspicious(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return "" // a replica that never started
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	var found []string
	for lines.Scan() && len(found) < maxFound {
		for _, mark := range marks {
			if strings.Contains(lines.Text(), mark) && !strings.Contains(lines.Text(), excuse) {
				found = append(found, lines.Text())
				break
			}
		}
	}
	return strings.Join(found, "\n")
}
