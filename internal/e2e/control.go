package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"syscall"
)

// maxOrder bounds the body of a request, in bytes.
const maxOrder = 64 << 10

// restartOrder says how a replica is restarted.
type restartOrder struct {
	// Signal ends the process: TERM, which is also meant by none, or KILL.
	Signal string `json:"signal"`
	// Env are variables beside those of the deployment, instead of those of the last
	// order.
	Env map[string]string `json:"env"`
}

// restarted is the answer, when the replica is ready.
type restarted struct {
	ExitCode int `json:"exit_code"` // -1 after KILL
	PID      int `json:"pid"`       // of the new process
}

var signals = map[string]syscall.Signal{"": syscall.SIGTERM, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}

// control lets the tests do to the deployment what an operator or an accident
// would do:
//
//	POST /replicas/{n}/restart   {"signal":"TERM","env":{…}}
//	POST /database/kill          as a crash does; the data stays
//	POST /database/restart
//
// Each answers when it is done, and with 500 and the reason in plain text when it
// could not be.
func (d *deployment) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /replicas/{n}/restart", d.restartReplica)
	mux.HandleFunc("POST /database/kill", func(w http.ResponseWriter, _ *http.Request) {
		tell(w, d.postgres.Kill())
	})
	mux.HandleFunc("POST /database/restart", func(w http.ResponseWriter, r *http.Request) {
		tell(w, d.postgres.Restart(r.Context()))
	})
	return mux
}

func tell(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (d *deployment) restartReplica(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 1 || n > len(d.replicas) {
		http.Error(w, fmt.Sprintf("there are replicas 1 to %d", len(d.replicas)), http.StatusNotFound)
		return
	}
	var order restartOrder
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &order)
	}
	signal, known := signals[order.Signal]
	if err != nil || !known {
		http.Error(w, fmt.Sprintf("signal %q: TERM and KILL are known: %v", order.Signal, err), http.StatusBadRequest)
		return
	}
	replica := d.replicas[n-1]
	code, err := replica.restart(r.Context(), signal, order.Env)
	if err != nil {
		tell(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(restarted{ExitCode: code, PID: replica.pid()})
}
