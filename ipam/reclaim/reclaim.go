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
	// Seen, if set, gets every block of a round, as it was read. Before is called at
	// the beginning of a round, After when all blocks were seen.
	Seen   func(*v1alpha1.AddressBlock)
	Before func(context.Context) error
	After  func()
	// EmptyAfter is how long a block has had no address taken before it is deleted;
	// 1 h.
	EmptyAfter time.Duration
}

// Reclaimer reclaims.
type Reclaimer struct {
	Options
	blocks *kube.Blocks
	// client reads nodes, StatefulSets and pods.
	client kubernetes.Interface
	// empty are the blocks that nobody has an address of.
	empty map[string]vacancy
}

// vacancy is since when a block is empty, and its resourceVersion then.
type vacancy struct {
	version string
	since   time.Time
}

// New returns a Reclaimer.
func New(blocks *kube.Blocks, client kubernetes.Interface, o Options) *Reclaimer {
	if o.Quarantine == 0 {
		o.Quarantine = 10 * time.Minute
	}
	if o.Every == 0 {
		o.Every = time.Minute
	}
	if o.EmptyAfter == 0 {
		o.EmptyAfter = time.Hour
	}
	return &Reclaimer{Options: o, blocks: blocks, client: client, empty: map[string]vacancy{}}
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

// Once looks at every claim of a StatefulSet's pod, then at every block. It tries
// all of them and joins the errors.
func (r *Reclaimer) Once(ctx context.Context) error {
	known, still := verdicts{}, map[string]vacancy{}
	var failed []error
	if r.Before != nil {
		failed = append(failed, r.Before(ctx))
	}
	failed = append(failed, r.ordinals(ctx))
	err := r.blocks.List(ctx, func(b *v1alpha1.AddressBlock) error {
		if r.Seen != nil {
			r.Seen(b)
		}
		failed = append(failed, r.block(ctx, b, known), r.vacate(ctx, b, still))
		return ctx.Err()
	})
	if err == nil {
		r.empty = still
		if r.After != nil {
			r.After()
		}
	}
	return errors.Join(err, errors.Join(failed...))
}

// forgetAfter is how long after its quarantine an address that nobody wanted is
// suspect.
const forgetAfter = 24 * time.Hour

// vacate deletes a block that has been empty for long. A node that wants an address
// of it at that moment has its update refused, and makes the block anew.
func (r *Reclaimer) vacate(ctx context.Context, b *v1alpha1.AddressBlock, still map[string]vacancy) error {
	now := time.Now()
	for _, s := range b.Spec.Slots {
		if s.Until == nil || now.Before(s.Until.Add(forgetAfter)) {
			return nil
		}
	}
	if len(b.Spec.Slots) > 0 {
		return r.forget(ctx, b)
	}
	was, known := r.empty[b.Name]
	if !known || was.version != b.ResourceVersion {
		was = vacancy{b.ResourceVersion, now}
	}
	if now.Sub(was.since) < r.EmptyAfter {
		still[b.Name] = was
		return nil
	}
	err := r.blocks.Delete(ctx, b)
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// forget frees every slot of a block. Nobody may delete one that names an address: the
// installation's policy.
func (r *Reclaimer) forget(ctx context.Context, b *v1alpha1.AddressBlock) error {
	b.Spec.Slots = nil
	b.Spec.Seq++
	if _, err := r.blocks.Write(ctx, b); err != nil && !apierrors.IsConflict(err) {
		return err
	}
	return nil
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
		key = s.Claim + " " + s.UID
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
	if ref, ok := strings.CutPrefix(s.Claim, v1alpha1.PodClaim); ok {
		return r.pod(ctx, ref, s.UID)
	}
	if r.Claims == nil {
		return "", nil
	}
	namespace, name, _ := strings.Cut(s.Claim, "/")
	uid, err := r.Claims.UID(ctx, namespace, name)
	switch {
	case err != nil:
		return "", err
	case uid == "":
		return fmt.Sprintf("IPAMClaim %s is gone", s.Claim), nil
	case s.UID != "" && s.UID != uid:
		return fmt.Sprintf("IPAMClaim %s is gone; another has its name", s.Claim), nil
	}
	return "", nil
}

// pod is claim for the address that another allocator gave a pod.
func (r *Reclaimer) pod(ctx context.Context, ref, uid string) (string, error) {
	namespace, name, _ := strings.Cut(ref, "/")
	pod, err := r.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("pod %s is gone", ref), nil
	case err != nil:
		return "", fmt.Errorf("read pod %s: %w", ref, err)
	case uid != "" && string(pod.UID) != uid:
		return fmt.Sprintf("pod %s is gone; another has its name", ref), nil
	}
	return "", nil
}
