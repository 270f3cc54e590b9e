package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/lab/cache"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

const resourceKey = "k8s.v1.cni.cncf.io/resourceName"

// stand is an API server with definitions, the controller on it, and the
// reference with the same definitions.
type stand struct {
	api         *lab.API
	dir         string
	controller  *host.Process
	injector    *exec.Cmd
	input       io.Closer // the reference ends with it
	definitions int
	// ours and theirs are where reviews go.
	ours, theirs string
}

func newStand(ctx context.Context, bin string, definitions int, injector string) (s *stand, err error) {
	s = &stand{definitions: definitions}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "tendril-bench-"); err != nil {
		return s, err
	}
	if s.api, err = lab.Start(ctx, lab.Options{}); err != nil {
		return s, err
	}
	if err := s.define(ctx, definitions); err != nil {
		return s, err
	}
	if err := s.startController(ctx, bin); err != nil {
		return s, err
	}
	return s, s.startInjector(injector, definitions)
}

func name(i int) string { return fmt.Sprintf("n%d", i) }

// define makes the definitions, sriov with addresses of their own each.
func (s *stand) define(ctx context.Context, n int) error {
	config, err := s.api.RESTConfig(lab.Admin)
	if err != nil {
		return err
	}
	client, err := nadclient.NewForConfig(config)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error {
			d := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Name: name(i), Annotations: map[string]string{resourceKey: "v.io/a"}}}
			d.Spec.Config = fmt.Sprintf(`{"cniVersion":"1.0.0","type":"sriov","vlan":%d,"ipam":{"type":"whereabouts","range":"10.%d.%d.0/24"}}`, i%4094+1, i/256, i%256)
			_, err := client.K8sCniCncfIoV1().NetworkAttachmentDefinitions("default").Create(ctx, d, metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("make definitions: %w", err)
	}
	return nil
}

// startController runs the controller as its Deployment does, but for its address.
func (s *stand) startController(ctx context.Context, bin string) error {
	repo, err := cache.Repo()
	if err != nil {
		return err
	}
	manifest, err := os.ReadFile(filepath.Join(repo, "deployment", "manifests", "controller.yaml"))
	if err != nil {
		return err
	}
	if err := s.api.Apply(ctx, "{apiVersion: v1, kind: Namespace, metadata: {name: tendril-system}}\n---\n"+string(manifest)); err != nil {
		return err
	}
	port, err := lab.FreePort()
	if err != nil {
		return err
	}
	health, err := lab.FreePort()
	if err != nil {
		return err
	}
	s.controller, err = host.Start(filepath.Join(s.dir, "controller.log"), exec.Command(filepath.Join(bin, "tendril-controller"),
		"--kubeconfig="+s.api.Kubeconfig(lab.Admin), "--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", port), fmt.Sprintf("--health-check-port=%d", health)))
	if err != nil {
		return err
	}
	s.ours = fmt.Sprintf("https://127.0.0.1:%d/mutate", port)
	return host.Await(ctx, "the controller to be ready", func() (bool, error) {
		if err := s.controller.Ended(); err != nil {
			return false, err
		}
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", health))
		if err != nil {
			return false, nil
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
}

func (s *stand) startInjector(program string, n int) error {
	networks := map[string]map[string]string{}
	for i := range n {
		networks["default/"+name(i)] = map[string]string{resourceKey: "v.io/a"}
	}
	question, err := json.Marshal(map[string]any{"Switches": `{"features":{}}`, "Networks": networks})
	if err != nil {
		return err
	}
	s.injector = exec.Command(program, "-serve")
	input, err := s.injector.StdinPipe()
	if err != nil {
		return err
	}
	s.input = input
	output, err := s.injector.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.injector.Start(); err != nil {
		return fmt.Errorf("start the injector: %w", err)
	}
	if _, err := io.Copy(input, bytes.NewReader(question)); err != nil {
		return fmt.Errorf("tell the injector its networks: %w", err)
	}
	url, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the injector's address: %w", err)
	}
	s.theirs = strings.TrimSpace(url) + "/mutate"
	return nil
}

func (s *stand) close() error {
	var errs []error
	if s.input != nil {
		errs = append(errs, s.input.Close(), s.injector.Wait())
	}
	if s.controller != nil {
		errs = append(errs, s.controller.Stop(false))
	}
	if s.api != nil {
		errs = append(errs, s.api.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
