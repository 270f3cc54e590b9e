package validate

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// multiPolicy is k8s.cni.cncf.io MultiNetworkPolicy, v1beta1 and v1beta2: the
// specification is that of a NetworkPolicy.
type multiPolicy struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              networkingv1.NetworkPolicySpec `json:"spec"`
}

// MultiNetworkPolicy judges a MultiNetworkPolicy, as JSON, in namespace unless it
// names its own.
func MultiNetworkPolicy(namespace string, raw []byte, f Facts) []Finding {
	var p multiPolicy
	l := &list{object: "MultiNetworkPolicy"}
	if err := json.Unmarshal(raw, &p); err != nil {
		l.all = append(l.all, Finding{BadPolicy, Deny, unwrap(err).In(l.object)})
		return l.all
	}
	if p.Namespace == "" {
		p.Namespace = namespace
	}
	l.object = objectName("MultiNetworkPolicy", p.Namespace, p.Name)
	l.policyFor(p, f)
	for i, r := range p.Spec.Ingress {
		l.peers(fmt.Sprintf("spec.ingress[%d].from", i), r.From)
		l.ports(fmt.Sprintf("spec.ingress[%d].ports", i), r.Ports)
	}
	for i, r := range p.Spec.Egress {
		l.peers(fmt.Sprintf("spec.egress[%d].to", i), r.To)
		l.ports(fmt.Sprintf("spec.egress[%d].ports", i), r.Ports)
	}
	return l.all
}

// policyFor judges the annotation that names the networks: [<namespace>/]<name>
// separated by commas.
func (l *list) policyFor(p multiPolicy, f Facts) {
	field, text := annotationField(PolicyForAnnotation), p.Annotations[PolicyForAnnotation]
	if strings.TrimSpace(text) == "" {
		l.add(BadPolicy, Deny, field, text, "[<namespace>/]<name> of at least one network")
		return
	}
	elements, err := netconf.ParseSelections(text, p.Namespace)
	if err != nil {
		l.refuse(BadPolicy, field, err)
		return
	}
	for i, e := range elements {
		d := f.network(e.Namespace, e.Name)
		at := fmt.Sprintf("%s[%d]", field, i)
		if d == nil {
			if f.Complete {
				l.add(BadPolicy, Warn, at, e.Ref(), "a NetworkAttachmentDefinition that exists")
			}
			continue
		}
		for _, r := range ResourcesOf(d, f.ResourceKeys) {
			if f.Userspace[r] {
				l.add(IdlePolicy, Warn, at, e.Ref(), "a network of kernel devices: those of "+r+" have a userspace driver, whose packets no policy sees")
			}
		}
	}
}

func (l *list) peers(path string, peers []networkingv1.NetworkPolicyPeer) {
	for i, p := range peers {
		if p.IPBlock == nil {
			continue
		}
		at := fmt.Sprintf("%s[%d].ipBlock", path, i)
		block, err := netip.ParsePrefix(p.IPBlock.CIDR)
		if err != nil {
			l.add(BadPolicy, Deny, at+".cidr", p.IPBlock.CIDR, "a CIDR")
			continue
		}
		for j, text := range p.IPBlock.Except {
			x, err := netip.ParsePrefix(text)
			if err != nil || !block.Contains(x.Addr()) || x.Bits() < block.Bits() {
				l.add(BadPolicy, Deny, fmt.Sprintf("%s.except[%d]", at, j), text, "a CIDR within "+p.IPBlock.CIDR)
			}
		}
	}
}

func (l *list) ports(path string, ports []networkingv1.NetworkPolicyPort) {
	for i, p := range ports {
		if p.EndPort == nil {
			continue
		}
		field := fmt.Sprintf("%s[%d].endPort", path, i)
		switch {
		case p.Port == nil || p.Port.Type == intstr.String:
			l.add(BadPolicy, Deny, field, *p.EndPort, "absent, or together with a port number")
		case *p.EndPort < p.Port.IntVal:
			l.add(BadPolicy, Deny, field, *p.EndPort, fmt.Sprintf("%d..65535", p.Port.IntVal))
		}
	}
}
