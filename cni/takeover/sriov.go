package takeover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni"
)

// vfState is the file of sriov-cni (pkg/types, NetConf with VfState), as far as it
// says what was set and what was before.
type vfState struct {
	DeviceID string `json:"deviceID"`
	// MAC is the one that was asked for, in whatever spelling of the key.
	MAC         string           `json:"mac"`
	Vlan        *int             `json:"vlan"`
	SpoofChk    string           `json:"spoofchk"`
	Trust       string           `json:"trust"`
	LinkState   string           `json:"link_state"`
	MinTxRate   *int             `json:"min_tx_rate"`
	MaxTxRate   *int             `json:"max_tx_rate"`
	IPAM        *json.RawMessage `json:"ipam"`
	OrigVfState struct {
		HostIFName   string
		SpoofChk     bool
		Trust        bool
		AdminMAC     string
		EffectiveMAC string
		Vlan         int
		VlanQoS      int
		VlanProto    int
		MinTxRate    int
		MaxTxRate    int
		LinkState    uint32
		MTU          int
	}
}

// note is the note of package sriov about a VF before its attachment. The names of
// its fields are kept across upgrades there; a test of this package holds the two
// together.
type note struct {
	VF         string      `json:"vf"`
	PF         string      `json:"pf"`
	Index      int         `json:"index"`
	Driver     string      `json:"driver"`
	Netdev     string      `json:"netdev,omitempty"`
	MAC        string      `json:"mac,omitempty"`
	MTU        int         `json:"mtu,omitempty"`
	Attributes *attributes `json:"attributes,omitempty"`
	Asked      []string    `json:"asked,omitempty"`
}

type attributes struct {
	MAC       string `json:"mac"`
	VLAN      vlan   `json:"vlan"`
	Rates     rates  `json:"rates"`
	SpoofChk  *bool  `json:"spoofChk,omitempty"`
	Trust     *bool  `json:"trust,omitempty"`
	LinkState string `json:"linkState"`
}

type vlan struct {
	ID    int    `json:"id"`
	QoS   int    `json:"qos"`
	Proto string `json:"proto"`
}

type rates struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// vf makes an attachment of sriov-cni native, if all of it is known.
func (s sandbox) vf(rec cni.Record) (cni.Record, error) {
	a := &rec.Attachment
	if len(a.Config.Plugins) != 1 || a.Config.Plugins[0].Type != cni.KindSriov || a.Device == "" {
		return rec, nil
	}
	data, err := os.ReadFile(filepath.Join(s.dirs.Sriov, a.ContainerID+"-"+a.IfName))
	if errors.Is(err, fs.ErrNotExist) {
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	var state vfState
	if err := json.Unmarshal(data, &state); err != nil {
		return rec, fmt.Errorf("read state of sriov-cni: %w", err)
	}
	if !strings.EqualFold(state.DeviceID, a.Device) || addressed(state.IPAM) {
		return rec, nil
	}
	pf, index, driver, err := s.host.VF(a.Device)
	if err != nil {
		return rec, nil // gone, or not there at the moment: its own plugin looks again
	}
	n := state.note(a.Device, pf, index, driver)
	if rec.Prior, err = json.Marshal(n); err != nil {
		return rec, err
	}
	a.Kind = cni.KindSriov
	rec.Link = linkOf(rec)
	rec.Result = nil
	return rec, nil
}

// linkOf is what the plugin reported of the VF. It has no index: whoever looks for
// the VF goes by its PCI address.
func linkOf(rec cni.Record) cni.Link {
	l := cni.Link{Name: rec.Attachment.IfName, PCI: rec.Attachment.Device}
	var res struct {
		Interfaces []struct {
			Name, Mac string
			Mtu       int
		}
	}
	if json.Unmarshal(rec.Result, &res) != nil {
		return l
	}
	for _, i := range res.Interfaces {
		if i.Name == l.Name {
			l.MAC, l.MTU = i.Mac, i.Mtu
		}
	}
	return l
}

// addressed says whether an IPAM plugin gave the VF addresses: only that plugin
// can take them back, and sriov-cni's DEL runs it.
func addressed(ipam *json.RawMessage) bool {
	if ipam == nil {
		return false
	}
	var conf struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(*ipam, &conf) != nil || conf.Type != ""
}

func (v vfState) note(device, pf string, index int, driver string) note {
	was := v.OrigVfState
	n := note{VF: device, PF: pf, Index: index, Driver: driver, Asked: v.asked(), Attributes: &attributes{
		MAC: or(strings.ToLower(was.AdminMAC), "00:00:00:00:00:00"), VLAN: vlan{ID: was.Vlan, QoS: was.VlanQoS, Proto: proto(was.VlanProto)},
		Rates: rates{Min: was.MinTxRate, Max: was.MaxTxRate}, SpoofChk: &was.SpoofChk, Trust: &was.Trust, LinkState: linkState(was.LinkState),
	}}
	if !slices.Contains(userspace, driver) {
		n.Netdev, n.MAC, n.MTU = was.HostIFName, strings.ToLower(was.EffectiveMAC), was.MTU
	}
	return n
}

// userspace are the drivers of VFs without a network device (sriov-cni,
// pkg/utils).
var userspace = []string{"vfio-pci", "uio_pci_generic", "igb_uio"}

// asked are the fields that sriov-cni has set, by their names in package vf/link.
func (v vfState) asked() []string {
	var out []string
	for field, set := range map[string]bool{
		"vlan": v.Vlan != nil, "mac": v.MAC != "", "spoofchk": v.SpoofChk != "", "trust": v.Trust != "",
		"link_state": v.LinkState != "", "max_tx_rate": v.MinTxRate != nil || v.MaxTxRate != nil,
	} {
		if set {
			out = append(out, field)
		}
	}
	slices.Sort(out)
	return out
}

// etherTypeQinQ is ETH_P_8021AD (linux/if_ether.h).
const etherTypeQinQ = 0x88a8

func proto(etherType int) string {
	if etherType == etherTypeQinQ {
		return "802.1ad"
	}
	return "802.1q"
}

// linkState names IFLA_VF_LINK_STATE (linux/if_link.h).
func linkState(n uint32) string {
	switch n {
	case 1:
		return "enable"
	case 2:
		return "disable"
	}
	return "auto"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
