package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/tendril-cni/tendril/tests/lab/machine/agent"
)

// problemsFile is where the set-up script notes steps that did not succeed.
const problemsFile = "/run/lab-problems"

func main() {
	terminals := &terminals{open: map[string]*os.File{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", status)
	mux.HandleFunc("POST /exec", runProcess)
	mux.HandleFunc("POST /shell", terminals.shell)
	mux.HandleFunc("POST /resize", terminals.resize)
	mux.HandleFunc("PUT /file", writeFile)
	mux.HandleFunc("GET /file", readFile)
	log.Fatal(http.ListenAndServe(fmt.Sprintf(":%d", agent.Port), mux))
}

func status(w http.ResponseWriter, _ *http.Request) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s := agent.Status{BootID: strings.TrimSpace(string(id))}
	if problems, err := os.ReadFile(problemsFile); err == nil {
		s.Problems = strings.Split(strings.TrimSpace(string(problems)), "\n")
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s)
}

// environment is what every process in the machine starts with. busybox init
// hands down a PATH without /usr/local.
func environment(extra []string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "SHELL=/bin/bash", "LC_ALL=C.UTF-8", "TMPDIR=/tmp",
	}, extra...)
}
