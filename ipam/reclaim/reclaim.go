package reclaim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// Options of a Reclaimer.
type Options struct {
	// Quarantine is how long a reclaimed address is nobody's; 10 min. It must be
	// longer than a minute, in which a node that lives takes back what it uses.
	Quarantine time.Duration
	// Every is the pause between two rounds; 1 min.
	Every time.Duration
	Log   *slog.Logger
	// Claims are the IPAMClaims; nil leaves the slots of claims alone.
	Claims *kube.IPAMClaims
	// Reclaimed, if set, is told of every change: for events.
	Reclaimed func(block *v1alpha1.AddressBlock, slots int, reason string)
}

// Reclaimer reclaims.
type Reclaimer struct {
	Options
	blocks *kube.Blocks
	// client reads nodes, StatefulSets and pods.
	client kubernetes.Interface
}

// New returns a Reclaimer.
func New(blocks *kube.Blocks, client kubernetes.Interface, o Options) *Reclaimer {
	if o.Quarantine == 0 {
		o.Quarantine = 10 * time.Minute
	}
	if o.Every == 0 {
		o.Every = time.Minute
	}
	return &Reclaimer{Options: o, blocks: blocks, client: client}
}

// Run reclaims until ctx ends, and returns nil then. A round that fails is logged
// and tried again.
func (r *Reclaimer) Run(ctx context.Context) error {
	t := time.NewTicker(r.Every)
	defer t.Stop()
	for {
		if err := r.Once(ctx); err != nil && ctx.Err() == nil {
			r.Log.Warn("reclaim addresses", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// verdicts is what is known of owners in one round: owner to reason, empty for
// one that lives.
type verdicts map[string]string

// Once looks at every claim of a StatefulSet's pod, then at every block. It tries all of them and joins the errors.
func (r *Reclaimer) Once(ctx context.Context) error {
	known := verdicts{}
	failed := []error{r.ordinals(ctx)}
	err := r.blocks.List(ctx, func(b *v1alpha1.AddressBlock) error {
		if err := r.block(ctx, b, known); err != nil {
			failed = append(failed, err)
		}
		return ctx.Err()
	})
	return errors.Join(err, errors.Join(failed...))
}

func (r *Reclaimer) block(ctx context.Context, b *v1alpha1.AddressBlock, known verdicts) error {
	reasons := map[string]int{}
	until := metav1.NewTime(time.Now().Add(r.Quarantine))
	for _, s := range b.Spec.Slots {
		reason, err := r.verdict(ctx, s, known)
		if err != nil {
			return err
		}
		if reason == "" {
			continue
		}
		b.Set(v1alpha1.Slot{Slot: s.Slot, Until: &until, Suspect: true, Reason: reason})
		reasons[reason]++
	}
	if len(reasons) == 0 {
		return nil
	}
	// Somebody else's change in between is no failure: the next round sees it.
	if _, err := r.blocks.Write(ctx, b); err != nil && !apierrors.IsConflict(err) {
		return err
	} else if err != nil {
		return nil
	}
	for reason, n := range reasons {
		r.Log.Info("addresses reclaimed", "space", b.Spec.Space, "cell", b.Spec.Cell, "slots", n, "reason", reason)
		if r.Reclaimed != nil {
			r.Reclaimed(b, n, reason)
		}
	}
	return nil
}

// verdict returns why the owner of a slot is gone, empty if it is not.
func (r *Reclaimer) verdict(ctx context.Context, s v1alpha1.Slot, known verdicts) (string, error) {
	key := "node/" + s.Node + "/" + s.UID
	if s.Claim != "" {
		key = s.Claim
	}
	if s.Node == "" && s.Claim == "" {
		return "", nil
	}
	if reason, ok := known[key]; ok {
		return reason, nil
	}
	judge := r.node
	if s.Claim != "" {
		judge = r.claim
	}
	reason, err := judge(ctx, s)
	if err == nil {
		known[key] = reason
	}
	return reason, err
}

func (r *Reclaimer) node(ctx context.Context, s v1alpha1.Slot) (string, error) {
	var node *corev1.Node
	node, err := r.client.CoreV1().Nodes().Get(ctx, s.Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		node, err = nil, nil
	}
	if err != nil {
		return "", fmt.Errorf("read node %s: %w", s.Node, err)
	}
	reason, gone := Gone(node, s.UID)
	if !gone {
		return "", nil
	}
	return fmt.Sprintf("reclaimed from node %s: %s", s.Node, reason), nil
}

func (r *Reclaimer) claim(ctx context.Context, s v1alpha1.Slot) (string, error) {
	if r.Claims == nil {
		return "", nil
	}
	namespace, name, _ := strings.Cut(s.Claim, "/")
	there, err := r.Claims.Exists(ctx, namespace, name)
	if err != nil {
		return "", fmt.Errorf("read IPAMClaim %s: %w", s.Claim, err)
	}
	if there {
		return "", nil
	}
	return fmt.Sprintf("IPAMClaim %s is gone", s.Claim), nil
}
