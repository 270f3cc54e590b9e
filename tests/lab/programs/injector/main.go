// Injector is the network resources injector's answer to reviews, without its server, its cluster and
// its certificates. It takes the injector's own flags, reads cases as JSON from standard input, one
// after the other, and writes as many answers.
//
// With -serve it reads one case, prints a URL, and answers reviews there over HTTPS, with a certificate
// that nobody trusts, until standard input ends.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/k8snetworkplumbingwg/network-resources-injector/pkg/controlswitches"
	"github.com/k8snetworkplumbingwg/network-resources-injector/pkg/userdefinedinjections"
	"github.com/k8snetworkplumbingwg/network-resources-injector/pkg/webhook"
	corev1 "k8s.io/api/core/v1"
)

// question is one case. Networks are annotations of definitions by "namespace/name"; Switches is
// config.json of the control-switch ConfigMap.
type question struct {
	Switches string
	Networks map[string]map[string]string
	Review   json.RawMessage
}

// answer is what the injector's HTTP handler wrote.
type answer struct {
	Status int
	Body   string
}

// networks stand in for the injector's cache, whose misses would go to an API server.
type networks map[string]map[string]string

func (networks) Start() {}
func (networks) Stop()  {}
func (n networks) Get(namespace, name string) map[string]string {
	return n[namespace+"/"+name]
}

func main() {
	serve := flag.Bool("serve", false, "answer reviews over HTTPS")
	switches := controlswitches.SetupControlSwitchesFlags()
	flag.Parse()
	switches.InitControlSwitches()
	webhook.SetControlSwitches(switches)
	injections := userdefinedinjections.CreateUserInjectionsStructure()
	webhook.SetUserInjectionStructure(injections)
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q question
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "injector:", err)
			os.Exit(1)
		}
		config := &corev1.ConfigMap{Data: map[string]string{"config.json": q.Switches}}
		switches.ProcessControlSwitchesConfigMap(config)
		injections.SetUserDefinedInjections(config)
		webhook.SetNetAttachDefCache(networks(q.Networks))
		if *serve {
			s := httptest.NewTLSServer(http.HandlerFunc(webhook.MutateHandler))
			fmt.Println(s.URL)
			_, _ = io.Copy(io.Discard, os.Stdin)
			return
		}
		if err := out.Encode(ask(q.Review)); err != nil {
			fmt.Fprintln(os.Stderr, "injector:", err)
			os.Exit(1)
		}
	}
}

func ask(review []byte) answer {
	r := httptest.NewRequest(http.MethodPost, "/mutate", bytes.NewReader(review))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	webhook.MutateHandler(w, r)
	return answer{Status: w.Code, Body: w.Body.String()}
}
