package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Our tables: "tendril" of family inet translates what leaves the node, that of
// family bridge drops forged frames. Each rule carries the mark of its
// attachment, and is deleted by it.
const (
	tableName   = "tendril"
	masquerades = "masquerade"
	forgeries   = "forgeries"
)

// beforeTheBridge is where the reference looks at frames too: before anything
// translates (priority -300).
var beforeTheBridge = nftables.ChainPriorityRef(-300)

func masqueradeChain() *nftables.Chain {
	return &nftables.Chain{
		Name: masquerades, Table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet},
		Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}
}

func forgeryChain() *nftables.Chain {
	return &nftables.Chain{
		Name: forgeries, Table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyBridge},
		Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: beforeTheBridge,
	}
}

// guard sets up what filters and translates the pod's packets. Repeating it
// replaces what is there.
func guard(conf netconf.Bridge, a cni.Attachment, mac string) error {
	if err := unguard(conf, a); err != nil {
		return err
	}
	if conf.MACSpoofCheck {
		if err := add(forgeryChain(), a, [][]expr.Any{forged(portName(a), mac)}); err != nil {
			return unable(err, a, "macspoofchk")
		}
	}
	if !conf.Masquerade {
		return nil
	}
	var rules [][]expr.Any
	for _, ad := range a.Addresses {
		rules = append(rules, masquerade(ad.Prefix))
	}
	return unable(add(masqueradeChain(), a, rules), a, "ipMasq")
}

// unable names the field that the kernel cannot serve.
func unable(err error, a cni.Attachment, field string) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, fs.ErrNotExist) {
		return refusal.New(stacked.Object(a), field, true, "false, on a kernel without nf_tables for it (CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_MASQ)").Because(err)
	}
	return err
}

func add(chain *nftables.Chain, a cni.Attachment, rules [][]expr.Any) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	c.AddTable(chain.Table)
	c.AddChain(chain)
	for _, exprs := range rules {
		c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: exprs, UserData: comment(a)})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("add rules of %s: %w", a.IfName, err)
	}
	return nil
}

// unguard deletes the rules of the attachment. Absent is done.
func unguard(conf netconf.Bridge, a cni.Attachment) error {
	var errs []error
	if conf.MACSpoofCheck {
		errs = append(errs, drop(forgeryChain(), a))
	}
	if conf.Masquerade {
		errs = append(errs, drop(masqueradeChain(), a))
	}
	return errors.Join(errs...)
}

func drop(chain *nftables.Chain, a cni.Attachment) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	rules, err := c.GetRules(chain.Table, chain)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	found := false
	for _, r := range rules {
		if !bytes.Equal(r.UserData, comment(a)) {
			continue
		}
		found = true
		if err := c.DelRule(r); err != nil {
			return fmt.Errorf("delete rule: %w", err)
		}
	}
	if !found {
		return nil
	}
	if err := c.Flush(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete rules of %s: %w", a.IfName, err)
	}
	return nil
}

// comment is the attachment's mark as nft(8) shows it: type 0, length, text with
// its closing zero. 128 bytes are all there is room for, so it is the port's name.
func comment(a cni.Attachment) []byte {
	text := append([]byte("tendril "+portName(a)), 0)
	return append([]byte{0, byte(len(text))}, text...)
}

// forged drops frames that come in by the port from another hardware address.
func forged(port, mac string) []expr.Any {
	hw, _ := net.ParseMAC(mac) // as the kernel printed it
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, port)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: hw},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// masquerade hides the address behind the node's, except towards its own subnet
// and multicast groups, as the reference does.
func masquerade(p netip.Prefix) []expr.Any {
	family, src, dst, groups := byte(unix.NFPROTO_IPV6), uint32(8), uint32(24), netip.MustParsePrefix("ff00::/8")
	if p.Addr().Is4() {
		family, src, dst, groups = unix.NFPROTO_IPV4, 12, 16, netip.MustParsePrefix("224.0.0.0/4")
	}
	size := uint32(p.Addr().BitLen() / 8)
	out := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: src, Len: size},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
	for _, not := range []netip.Prefix{p.Masked(), groups} {
		out = append(out,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: dst, Len: size},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(not.Bits(), int(size)*8), Xor: make([]byte, size)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: not.Addr().AsSlice()})
	}
	return append(out, &expr.Masq{})
}

// markOf is the alias of both ends of the pair.
func markOf(a cni.Attachment) string { return netns.Mark(a.ContainerID, a.Network, a.IfName) }
