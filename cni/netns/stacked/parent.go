package stacked

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Parent is the link that a child rides on, as Prior found it. It is what the
// journal keeps for a driver of this kind. The zero Parent stands for one inside
// the pod, which only Attach can see.
type Parent struct {
	Name  string `json:"name,omitempty"`
	Index int    `json:"index,omitempty"`
	MTU   int    `json:"mtu,omitempty"`
	MAC   string `json:"mac,omitempty"`

	// inPod says that Index counts in the pod's namespace; it is never recorded.
	inPod bool
}

// listed bounds the links that a refusal names.
const listed = 16

// parent finds the child's parent through conn and checks that it can carry it.
func (c Child) parent(conn *netns.Conn) (Parent, error) {
	l, err := c.lookUp(conn)
	if err != nil {
		return Parent{}, err
	}
	p := Parent{Name: l.Name, Index: l.Index, MTU: l.MTU, MAC: l.MAC, inPod: c.InPod}
	if l.Flags&unix.IFF_LOOPBACK != 0 || l.Type != unix.ARPHRD_ETHER {
		return p, refusal.New(c.Object, "master", l.Name, "an Ethernet link, other than the loopback")
	}
	switch {
	case c.Port:
	case l.SlaveKind == "bridge", l.SlaveKind == "bond", l.SlaveKind == "team", l.SlaveKind == "openvswitch":
		above := l.SlaveKind
		if m, err := conn.LinkByIndex(l.Master); err == nil {
			above = fmt.Sprintf("%s %s", l.SlaveKind, m.Name)
		}
		return p, refusal.New(c.Object, "master", l.Name, fmt.Sprintf("a link that is no port of another; this one is a port of %s, which takes all its frames", above))
	}
	if c.MTU < 0 || c.MTU > l.MTU {
		return p, refusal.New(c.Object, "mtu", c.MTU, fmt.Sprintf("0..%d, the MTU of master %s", l.MTU, l.Name))
	}
	return p, nil
}

// lookUp reads the master, or the link of the default route if none is named.
func (c Child) lookUp(conn *netns.Conn) (netns.Link, error) {
	if c.Master != "" {
		l, err := conn.LinkByName(c.Master)
		if errors.Is(err, netns.ErrNotFound) {
			return l, refusal.New(c.Object, "master", c.Master, "the name or alternative name of a link "+c.place()+": "+candidates(conn)).Because(netns.ErrNotFound)
		}
		return l, err
	}
	index, err := conn.DefaultRouteLink()
	if errors.Is(err, netns.ErrNotFound) {
		return netns.Link{}, refusal.New(c.Object, "master", "", "a link's name, since there is no default route "+c.place()+" to take it from: "+candidates(conn)).Because(err)
	}
	if err != nil {
		return netns.Link{}, err
	}
	return conn.LinkByIndex(index)
}

func (c Child) place() string {
	if c.InPod {
		return "in the pod"
	}
	return "on the host"
}

// candidates names the links that could be meant.
func candidates(conn *netns.Conn) string {
	links, err := conn.Links()
	if err != nil {
		return "(not readable)"
	}
	var names []string
	for _, l := range links {
		if l.Type == unix.ARPHRD_ETHER && l.Kind != "veth" {
			names = append(names, l.Name)
		}
	}
	if len(names) > listed {
		names = append(names[:listed], "...")
	}
	if len(names) == 0 {
		return "there is none"
	}
	return strings.Join(names, ", ")
}

// Names lists links in words: name and, where there is one, the mark or alias.
func Names(links []netns.Link) string {
	var names []string
	for i, l := range links {
		if i == listed {
			names = append(names, "...")
			break
		}
		name := l.Kind + " " + l.Name
		if l.Alias != "" {
			name += " (" + l.Alias + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
