package ipam

// Usage is what a node has of one address space, in addresses.
type Usage struct {
	Space string `json:"space"`
	// Held are with attachments. Idle are free to hand out, Cooling were freed a
	// moment ago, Away are on the way back or set aside.
	Held    int `json:"held"`
	Idle    int `json:"idle"`
	Cooling int `json:"cooling"`
	Away    int `json:"away"`
	// Cells is how many blocks they are spread over, Unsettled how many of those
	// the API server has to be asked about.
	Cells     int `json:"cells"`
	Unsettled int `json:"unsettled"`
}

// Usage returns what the node has, a space each, in the order in which they were
// first used.
func (l *Ledger) Usage() []Usage {
	var out []Usage
	for _, space := range l.Spaces() {
		u := Usage{Space: space}
		for _, c := range l.Cells(space) {
			h := l.Holding(space, c)
			away := h.Leaving | h.Aside
			u.Cells++
			u.Held += h.Held().Count()
			u.Cooling += (h.Cooling &^ away).Count()
			u.Away += away.Count()
			u.Idle += (h.Idle &^ h.Cooling &^ away).Count()
			if h.Pending || h.Doubt {
				u.Unsettled++
			}
		}
		out = append(out, u)
	}
	return out
}
