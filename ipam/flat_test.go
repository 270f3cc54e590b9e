package ipam_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/ipam"
)

func TestMergeFlatFillsOnlyWhatIsLeftOut(t *testing.T) {
	for _, tt := range []struct{ raw, flat, want string }{
		{wb(`"range":"10.0.0.0/30"`), `{"range":"10.9.0.0/24","gateway":"10.0.0.1"}`, "10.0.0.1-10.0.0.2 /30 gw 10.0.0.1 not []\n"},
		{wb(`"range":""`), `{"range":"10.9.0.0/30","exclude":["10.9.0.1"]}`, "10.9.0.1-10.9.0.2 /30 gw invalid IP not [10.9.0.1/32]\n"},
		{wb(`"range":"10.0.0.0/30","kubernetes":{"k8s_api_root":"x"}`), `{"kubernetes":{"kubeconfig":"/x"}}`, "10.0.0.1-10.0.0.2 /30 gw invalid IP not []\n"},
	} {
		merged, err := ipam.MergeFlat([]byte(tt.raw), []byte(tt.flat))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, printShared(config(t, string(merged)).Cluster)); d != "" {
			t.Errorf("%s: %s", tt.raw, d)
		}
	}
	_, err := ipam.MergeFlat([]byte(wb(`"range":"10.0.0.0/30"`)), []byte(`[]`))
	wantRefusal(t, "list", err, "ipam", "[]")
}

func TestUsageAddsUp(t *testing.T) {
	store := mapStore{}
	c := config(t, wb(`"range":"10.0.0.0/24","network_name":"blue"`))
	give(store, "blue", "10.0.0.0/26", 0b111110)
	give(store, "blue", "10.0.0.64/26", 0b1)
	playShared(t, store, c, "+1;+2;+3;-2")
	l := ipam.NewLedger(store)
	l.Leave("blue", cell("10.0.0.64/26"), 0b1)
	l.Expect("blue", cell("10.0.0.64/26"), "7", 0)
	must(l.Err())
	want := []ipam.Usage{{Space: "blue", Held: 2, Idle: 2, Cooling: 1, Away: 1, Cells: 2, Unsettled: 1}}
	if d := cmp.Diff(want, l.Usage()); d != "" {
		t.Error(d)
	}
}
