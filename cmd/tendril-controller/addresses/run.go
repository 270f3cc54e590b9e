package addresses

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"

	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/reclaim"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// LeaseName is the Lease whose holder is at work.
const LeaseName = "tendril-controller"

// How the lease is held, as the controllers of Kubernetes hold theirs. A replica
// that ends gives it up at once.
const (
	leaseTime  = 15 * time.Second
	renewTime  = 10 * time.Second
	retryPause = 2 * time.Second
)

// component is the source of events.
const component = "tendril-controller"

// reasonReclaimed is that of the event on a block whose addresses were reclaimed.
const reasonReclaimed = "AddressesReclaimed"

// Options are what Run needs.
type Options struct {
	Kubeconfig string
	// Namespace is where the Lease is. Identity tells replicas apart.
	Namespace, Identity string
	// Ranges gets how full ranges are; see NewRanges.
	Ranges *Ranges
	// Every and Quarantine are those of reclaim.Options.
	Every, Quarantine time.Duration
	Log               *slog.Logger
}

// Run waits for the lease and works while it has it, until ctx ends, and returns
// nil then.
func Run(ctx context.Context, o Options) error {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return fmt.Errorf("configure client: %w", err)
	}
	config = rest.AddUserAgent(config, component)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	definitions, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client of definitions: %w", err)
	}
	blocks, err := kube.NewBlocks(config)
	if err != nil {
		return err
	}
	claims, err := kube.NewIPAMClaims(config)
	if err != nil {
		return err
	}
	events, closeEvents := recorder(client)
	defer closeEvents()
	work := func(ctx context.Context) {
		o.Log.Info("reclaims addresses from now on", "identity", o.Identity)
		o.Ranges.begin()
		defer o.Ranges.end()
		r := reclaim.New(blocks, client, reclaim.Options{
			Every: o.Every, Quarantine: o.Quarantine, Log: o.Log, Claims: claims, Seen: o.Ranges.add,
			Reclaimed: func(b *v1alpha1.AddressBlock, slots int, reason string) {
				b.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.Group + "/" + v1alpha1.Version, Kind: v1alpha1.Kind}
				events.Eventf(reference(b), corev1.EventTypeNormal, reasonReclaimed, "%d addresses of %s: %s", slots, b.Spec.Cell, reason)
			},
			Before: func(ctx context.Context) error { return o.Ranges.read(ctx, definitions) },
			After:  o.Ranges.publish,
		})
		_ = r.Run(ctx) // it ends with ctx
	}
	return o.elect(ctx, client, work)
}

// elect calls work each time that the lease is this replica's, until ctx ends.
func (o Options) elect(ctx context.Context, client kubernetes.Interface, work func(context.Context)) error {
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, o.Namespace, LeaseName,
		client.CoreV1(), client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: o.Identity})
	if err != nil {
		return fmt.Errorf("make lease: %w", err)
	}
	// The library does not say when work has ended.
	atWork := make(chan struct{}, 1)
	defer func() { atWork <- struct{}{} }()
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: leaseTime, RenewDeadline: renewTime, RetryPeriod: retryPause,
			ReleaseOnCancel: true, Name: LeaseName,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					atWork <- struct{}{}
					defer func() { <-atWork }()
					if ctx.Err() == nil {
						work(ctx)
					}
				},
				OnStoppedLeading: func() { o.Log.Info("reclaims addresses no longer", "identity", o.Identity) },
			},
		})
		if err != nil {
			return fmt.Errorf("make elector: %w", err)
		}
		elector.Run(ctx)
	}
	return nil
}

// reference is a block as the object of an event.
func reference(b *v1alpha1.AddressBlock) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: v1alpha1.Group + "/" + v1alpha1.Version, Kind: v1alpha1.Kind, Name: b.Name, UID: b.UID}
}

// recorder writes events; the second result ends it.
func recorder(client kubernetes.Interface) (record.EventRecorder, func()) {
	b := record.NewBroadcaster()
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component}), b.Shutdown
}
