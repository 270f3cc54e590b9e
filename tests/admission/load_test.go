//go:build cluster

package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// load creates pods that need injection, as dry runs, until it is ended.
type load struct {
	play  *play
	stop  chan struct{}
	group sync.WaitGroup

	mu       sync.Mutex // guards what follows
	made     int
	slowest  time.Duration
	failures []error
}

// pace is how often a client creates a pod: the node has one or two processors,
// for the replicas and for all else.
const pace = 100 * time.Millisecond

// under starts a load of four clients.
func (p *play) under() *load {
	l := &load{play: p, stop: make(chan struct{})}
	for i := range 4 {
		l.group.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-tick.C:
					l.one(fmt.Sprintf("load-%d-%d", i, n))
				case <-l.stop:
					return
				}
			}
		})
	}
	return l
}

// await waits until n more pods were created, or tried to be.
func (l *load) await(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.made
	}
	first := count()
	l.play.Wait(t, fmt.Sprintf("%d pods under load", n), func(context.Context) (string, bool, error) {
		made := count() - first
		return fmt.Sprint(made), made >= n, nil
	})
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// one creates a pod. One that comes back without its resource is a failure too.
func (l *load) one(name string) {
	start := time.Now()
	made, err := l.play.create(pod(name, "fast"), true)
	if err == nil && len(made.Spec.Containers[0].Resources.Limits) == 0 {
		err = errors.New("admitted without the resource of its network")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made++
	l.slowest = max(l.slowest, time.Since(start))
	if err != nil {
		l.failures = append(l.failures, fmt.Errorf("%s: %w", time.Now().Format(time.TimeOnly), err))
	}
}

// end returns what failed.
func (l *load) end(t *testing.T) []error {
	t.Helper()
	close(l.stop)
	l.group.Wait()
	t.Logf("%d pods created, %d failed, slowest %v", l.made, len(l.failures), l.slowest.Round(time.Millisecond))
	if l.made < 10 {
		t.Error("that is no load")
	}
	return l.failures
}

// unfailing ends the load and wants that nothing failed.
func (l *load) unfailing(t *testing.T) {
	t.Helper()
	for _, err := range l.end(t) {
		t.Errorf("under load: %v", err)
	}
}

// replaced takes one replica away as a drain or an upgrade does.
func (p *play) replaced(t *testing.T) {
	l := p.under()
	gone := p.controllers(p.Ctx)[0].Name
	l.await(t, 10)
	p.Ask(t, "-n", system, "delete", "pod", gone, "--wait=true")
	p.ready(t, 2)
	l.await(t, 10)
	l.unfailing(t)
}

// killed ends the process of one replica as a crash does. Requests that are with
// it at that moment have no answer, and until its endpoint is gone others may be
// sent there: how many is told, and that all is well again without anybody.
func (p *play) killed(t *testing.T) {
	l := p.under()
	l.await(t, 10)
	victim := p.controllers(p.Ctx)[0]
	_, err := p.Script(p.Ctx, 1, fmt.Sprintf("kill -9 $(grep -l %s /proc/[0-9]*/cgroup | cut -d/ -f3 | while read p; do grep -q tendril-control /proc/$p/comm && echo $p; done)", victim.UID))
	p.Must(t, err)
	p.Wait(t, "the replica to run again", func(ctx context.Context) (string, bool, error) {
		pod, err := p.api.CoreV1().Pods(system).Get(ctx, victim.Name, metav1.GetOptions{})
		if err != nil || len(pod.Status.ContainerStatuses) == 0 {
			return "", false, err
		}
		s := pod.Status.ContainerStatuses[0]
		return fmt.Sprint(s), s.RestartCount > 0 && s.Ready, nil
	})
	if failures := l.end(t); len(failures) > 0 {
		t.Logf("the last: %v", failures[len(failures)-1])
	}
	after := p.under()
	after.await(t, 40)
	after.unfailing(t)
}

// rotated gives the replicas certificates that live for seconds, which is a
// rolling update, and looks on while authority and leaf turn over twice.
func (p *play) rotated(t *testing.T) {
	l := p.under()
	args := `[{"op":"add","path":"/spec/template/spec/containers/0/args","value":["--cert-ca-validity=90s","--cert-validity=60s","--cert-overlap=8s","--cert-interval=1s"]}]`
	_, err := p.api.AppsV1().Deployments(system).Patch(p.Ctx, "tendril-controller", types.JSONPatchType, []byte(args), metav1.PatchOptions{})
	p.Must(t, err)
	p.ready(t, 2)
	s := p.shake(t)
	p.Wait(t, "authority and leaf to turn over twice", func(ctx context.Context) (string, bool, error) {
		authorities, leaves := s.seen(&s.authorities), s.seen(&s.leaves)
		return fmt.Sprintf("%d authorities, %d leaves", authorities, leaves), authorities >= 3 && leaves >= 3 || s.failed.Load() > 0, nil
	})
	s.end()
	t.Logf("%d handshakes, %d failed; %d authorities, %d leaves", s.made.Load(), s.failed.Load(), s.seen(&s.authorities), s.seen(&s.leaves))
	l.unfailing(t)
	p.install(t)
	p.ready(t, 2)
}

// shaker does with both replicas what an API server does that read the bundle a
// second ago.
type shaker struct {
	play    *play
	stop    chan struct{}
	group   sync.WaitGroup
	trusted atomic.Pointer[[]byte]

	made, failed        atomic.Int64
	authorities, leaves sync.Map
}

func (p *play) shake(t *testing.T) *shaker {
	t.Helper()
	s := &shaker{play: p, stop: make(chan struct{})}
	s.read()
	for _, replica := range p.controllers(p.Ctx) {
		s.group.Go(func() {
			for tick := time.NewTicker(pace); !closed(s.stop); <-tick.C {
				s.made.Add(1)
				if err := s.handshake(replica.Status.PodIP); err != nil {
					s.failed.Add(1)
					t.Errorf("handshake with %s: %v", replica.Name, err)
					return
				}
			}
		})
	}
	s.group.Go(func() {
		for tick := time.NewTicker(time.Second); ; s.read() {
			select {
			case <-tick.C:
			case <-s.stop:
				tick.Stop()
				return
			}
		}
	})
	return s
}

func (s *shaker) end() {
	close(s.stop)
	s.group.Wait()
}

func (s *shaker) seen(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

// read takes the bundle that API servers are told to trust.
func (s *shaker) read() {
	c, err := s.play.api.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(s.play.Ctx, "tendril", metav1.GetOptions{})
	if err != nil {
		return // the old one holds, as in an API server
	}
	bundle := c.Webhooks[0].ClientConfig.CABundle
	s.trusted.Store(&bundle)
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return
		}
		s.authorities.Store(string(bytes.Clone(block.Bytes)), true)
	}
}

func (s *shaker) handshake(ip string) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(*s.trusted.Load())
	d := &net.Dialer{Timeout: time.Minute}
	c, err := tls.DialWithDialer(d, "tcp", net.JoinHostPort(ip, "8443"), &tls.Config{RootCAs: roots, ServerName: "tendril-webhook." + system + ".svc"})
	if err != nil {
		return err
	}
	defer c.Close()
	s.leaves.Store(c.ConnectionState().PeerCertificates[0].SerialNumber.String(), true)
	return nil
}
