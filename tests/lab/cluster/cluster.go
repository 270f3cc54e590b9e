package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/tests/lab/machine"
)

// Cluster is a running cluster.
type Cluster struct {
	options Options
	api     *kube.API
	nodes   []*machine.Machine // node n is nodes[n-1]
}

// Start starts a cluster inside a lab (tests/lab Enter or Main) and returns when its nodes are Ready.
// What [Fetch] provides must be there already.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	count, err := o.nodes()
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	c := &Cluster{options: o, nodes: make([]*machine.Machine, count)}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Close())
	}
	return c, nil
}

// start boots the machines while the control plane starts: they need it last.
func (c *Cluster) start(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.bootAll(gctx) })
	g.Go(func() (err error) {
		c.api, err = c.startAPI(gctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := c.routeToPods(); err != nil {
		return err
	}
	if err := c.eachNode(func(n int) error { return c.startNode(ctx, n) }); err != nil {
		return err
	}
	return c.awaitUsable(ctx)
}

// bootAll boots the machines with their disks: the programs, which all clusters have alike, and the
// images of this one.
func (c *Cluster) bootAll(ctx context.Context) error {
	node, err := nodeDisk(ctx)
	if err != nil {
		return err
	}
	// Machines that have booted hold the image open.
	dir, err := os.MkdirTemp("", "tendril-images-")
	if err != nil {
		return err
	}
	store := filepath.Join(dir, "store.img")
	err = c.writeImages(ctx, store, dir)
	if err == nil {
		c.options.say("images are on a disk")
		err = c.eachNode(func(n int) (err error) {
			c.nodes[n-1], err = c.boot(ctx, n, machine.Disk{Image: node, Mount: diskDir}, machine.Disk{Image: store, Mount: storeDir, Writable: true})
			return err
		})
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// writeImages writes the disk of the images that every node has and those of the options.
func (c *Cluster) writeImages(ctx context.Context, disk, dir string) error {
	pause, tools := filepath.Join(dir, "pause.tar"), filepath.Join(dir, "tools.tar")
	err := errors.Join(writePause(ctx, pause), writeTools(ctx, tools))
	if err == nil {
		err = writeStore(ctx, disk, dir, append([]string{pause, tools}, c.options.Images...))
	}
	if err != nil {
		return fmt.Errorf("write disk of images: %w", err)
	}
	return nil
}

func (c *Cluster) startAPI(ctx context.Context) (*kube.API, error) {
	var names []string
	for n := range c.nodes {
		names = append(names, NodeName(n+1))
	}
	api, err := kube.Start(ctx, kube.Options{
		Dir: c.options.Dir, Address: hostAddress, Port: apiPort,
		Nodes: names, CRDs: c.options.CRDs, Controllers: true, Audit: c.options.Audit,
	})
	if err == nil {
		c.options.say("control plane is ready")
	}
	return api, err
}

func (c *Cluster) boot(ctx context.Context, n int, disks ...machine.Disk) (*machine.Machine, error) {
	o := c.options.Machine
	o.Index = n
	o.Disks = append(o.Disks[:len(o.Disks):len(o.Disks)], disks...)
	m, err := machine.Boot(ctx, o)
	if err == nil {
		c.options.say("%s has booted", NodeName(n))
	}
	return m, err
}

// eachNode does something to all nodes at the same time.
func (c *Cluster) eachNode(do func(n int) error) error {
	var g errgroup.Group
	for n := range c.nodes {
		g.Go(func() error { return do(n + 1) })
	}
	return g.Wait()
}

// Nodes is how many nodes there are.
func (c *Cluster) Nodes() int { return len(c.nodes) }

// Node is the machine of node n, counted from 1.
func (c *Cluster) Node(n int) *machine.Machine { return c.nodes[n-1] }

// API is the control plane.
func (c *Cluster) API() *kube.API { return c.api }

// RESTConfig is the configuration of a client for the administrator.
func (c *Cluster) RESTConfig() (*rest.Config, error) { return c.api.RESTConfig(kube.Admin) }

// Close ends the machines and the control plane.
func (c *Cluster) Close() error {
	var errs []error
	for _, m := range c.nodes {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if c.api != nil {
		errs = append(errs, c.api.Close())
	}
	return errors.Join(errs...)
}
