package netconf

// VRF is the configuration of a VRF device in the pod.
type VRF struct {
	Name string
	// Table 0 takes the first one from 1 up that no VRF of the pod has.
	Table uint32
}

// ParseVRF reads the configuration of vrf (containernetworking plugins v1.9,
// meta/vrf). Every error is a refusal.Refusal without an object.
func ParseVRF(p Plugin) (VRF, error) {
	o := openObject("", p.Raw)
	v := VRF{Name: o.linkName("vrfname"), Table: uint32(o.number("table", 0, 1<<32-1))}
	if v.Name == "" {
		o.refuse("vrfname", "", "the name of the VRF device in the pod")
	}
	if o.err != nil {
		return VRF{}, o.err
	}
	return v, nil
}
