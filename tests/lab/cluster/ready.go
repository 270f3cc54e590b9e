package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/tendril-cni/tendril/tests/lab/kube"
)

const (
	readyWithin = 3 * time.Minute // ten seconds on an idle machine
	pollEvery   = 200 * time.Millisecond
)

// awaitUsable returns when all nodes are Ready and pods can be created.
func (c *Cluster) awaitUsable(ctx context.Context) error {
	client, err := c.core()
	if err != nil {
		return err
	}
	for n := 1; n <= c.Nodes(); n++ {
		if err := c.awaitNode(ctx, n, metav1.Time{}); err != nil {
			return err
		}
	}
	err = poll(ctx, func(ctx context.Context) error {
		_, err := client.ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for the default service account: %w", err)
	}
	return nil
}

// awaitNode returns when node n is Ready and has said so after the heartbeat last.
func (c *Cluster) awaitNode(ctx context.Context, n int, last metav1.Time) error {
	err := poll(ctx, func(ctx context.Context) error {
		beat, err := c.heartbeat(ctx, n)
		if err == nil && beat.Equal(&last) {
			err = fmt.Errorf("not heard of since %s", last)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w\n%s", NodeName(n), err, c.Logs(context.WithoutCancel(ctx), n))
	}
	c.options.say("%s is Ready", NodeName(n))
	return nil
}

// heartbeat is when, by its own clock, node n last said that it is Ready. A node that said anything
// else, or nothing, is an error.
func (c *Cluster) heartbeat(ctx context.Context, n int) (metav1.Time, error) {
	client, err := c.core()
	if err != nil {
		return metav1.Time{}, err
	}
	node, err := client.Nodes().Get(ctx, NodeName(n), metav1.GetOptions{})
	if err != nil {
		return metav1.Time{}, err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if condition.Status != corev1.ConditionTrue {
			return metav1.Time{}, fmt.Errorf("not ready: %s: %s", condition.Reason, condition.Message)
		}
		return condition.LastHeartbeatTime, nil
	}
	return metav1.Time{}, errors.New("it has no status")
}

func (c *Cluster) core() (*typedcorev1.CoreV1Client, error) {
	config, err := c.api.RESTConfig(kube.Admin)
	if err != nil {
		return nil, err
	}
	return typedcorev1.NewForConfig(config)
}

// poll repeats try until it succeeds or time is up, and then returns the last error.
func poll(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
