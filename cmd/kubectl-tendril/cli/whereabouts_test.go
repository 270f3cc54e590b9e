package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/ipam"
)

// TestExportGoesByNetworkStatus: addresses of whereabouts' ranges alone, whatever
// else the pod has.
func TestExportGoesByNetworkStatus(t *testing.T) {
	c, err := ipam.Parse([]byte(`{"type":"whereabouts","network_name":"s","range":"10.0.0.0/24","addresses":[{"address":"192.0.2.9/24"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: "p", UID: "u", Annotations: map[string]string{
		"k8s.v1.cni.cncf.io/network-status": `[{"name":"lab","interface":"eth0","ips":["10.244.0.5"],"default":true},
			{"name":"blue/red","interface":"net1","ips":["10.0.0.7","192.0.2.9"]},{"name":"blue/other","interface":"net2","ips":["10.0.0.8"]}]`,
	}}}
	var got []string
	for _, a := range addressesOf(pod, map[string]*ipam.Cluster{"blue/red": c.Cluster}) {
		got = append(got, a.Space+" "+a.String())
	}
	if d := cmp.Diff([]string{"s 10.0.0.7 of pod blue/p, interface net1"}, got); d != "" {
		t.Error(d)
	}
}
