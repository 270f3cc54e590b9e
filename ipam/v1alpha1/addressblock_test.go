package v1alpha1_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

func block() *v1alpha1.AddressBlock {
	return v1alpha1.New("blue", ipam.CellOf(netip.MustParseAddr("10.0.0.70")))
}

func TestSlotsHaveOneOwnerEachInOrder(t *testing.T) {
	b := block()
	for _, s := range []v1alpha1.Slot{{Slot: 5, Node: "a", UID: "1"}, {Slot: 2, Node: "b"}, {Slot: 9, Claim: "x/y"}, {Slot: 5, Node: "b", Suspect: true}} {
		b.Set(s)
	}
	var got []string
	for _, s := range b.Spec.Slots {
		got = append(got, fmt.Sprintf("%d %s%s #%d", s.Slot, s.Node, s.Claim, s.Seq))
	}
	if text := strings.Join(got, ", "); text != "2 b #2, 5 b #4, 9 x/y #3" {
		t.Error(text)
	}
	if mine, suspect := b.Of("b", ""); mine != 0b100100 || suspect != 0b100000 {
		t.Errorf("b has %b, suspect %b", mine, suspect)
	}
	if mine, _ := b.Of("a", "1"); mine != 0 {
		t.Errorf("a still has %b", mine)
	}
	if mine, _ := b.Of("", ""); mine != 0 {
		t.Errorf("nobody has %b", mine)
	}
	b.Free(1 << 5)
	if b.At(5) != nil || b.At(2) == nil {
		t.Errorf("after Free: %+v", b.Spec.Slots)
	}
}

func TestQuarantineLapses(t *testing.T) {
	b, now := block(), time.Now()
	until := metav1.NewTime(now.Add(time.Minute))
	b.Set(v1alpha1.Slot{Slot: 1, Until: &until})
	b.Set(v1alpha1.Slot{Slot: 3, Node: "a"})
	if got := b.Taken(now); got != 0b1010 {
		t.Errorf("now %b", got)
	}
	if got := b.Taken(now.Add(2 * time.Minute)); got != 0b1000 {
		t.Errorf("later %b", got)
	}
}

func TestNamesAreTheBlocksOwn(t *testing.T) {
	b := block()
	if b.Name != "10-0-0-64.blue" {
		t.Error(b.Name)
	}
	if space, c, ok := b.Parse(); !ok || space != "blue" || c.String() != "10.0.0.64/26" {
		t.Errorf("%q %v %v", space, c, ok)
	}
	b.Spec.Cell = "10.0.0.0/26"
	if _, _, ok := b.Parse(); ok {
		t.Error("a block whose name and cell disagree is taken")
	}
}

func TestTheFullestBlockStaysSmall(t *testing.T) {
	b := block()
	until := metav1.Now()
	for i := range ipam.CellSize {
		b.Set(v1alpha1.Slot{Slot: i, Node: strings.Repeat("n", 63), UID: strings.Repeat("u", 36), Suspect: true, Holder: strings.Repeat("p", 100)})
		b.Spec.Wants = append(b.Spec.Wants, v1alpha1.Want{Node: strings.Repeat("n", 63), Until: until})
	}
	data, err := json.Marshal(b)
	if err != nil || len(data) >= 32<<10 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
