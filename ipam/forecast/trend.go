package forecast

import "time"

// window is how far a Trend looks back.
const window = time.Hour

// Trend is how much of something was taken over the last hour.
type Trend struct{ seen []sample }

type sample struct {
	at    time.Time
	taken float64
}

// Add notes what is taken at a time. Times ascend.
func (t *Trend) Add(at time.Time, taken uint64) {
	t.seen = append(t.seen, sample{at, float64(taken)})
	for len(t.seen) > 0 && at.Sub(t.seen[0].at) > window {
		t.seen = t.seen[1:]
	}
}

// Full says in how much time after the last Add capacity is reached: the straight
// line that fits what was seen best (least squares) goes on. ok is false where it
// does not rise, or less than ten minutes were seen.
func (t *Trend) Full(capacity uint64) (in time.Duration, ok bool) {
	if len(t.seen) < 2 {
		return 0, false
	}
	last := t.seen[len(t.seen)-1]
	if last.at.Sub(t.seen[0].at) < 10*time.Minute {
		return 0, false
	}
	left := float64(capacity) - last.taken
	if left <= 0 {
		return 0, true
	}
	slope := t.slope(last.at)
	if slope <= 0 || left/slope > float64(1<<62)/1e9 {
		return 0, false
	}
	return time.Duration(left / slope * float64(time.Second)), true
}

// slope is in addresses a second.
func (t *Trend) slope(end time.Time) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, s := range t.seen {
		x := s.at.Sub(end).Seconds()
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+s.taken, sxx+x*x, sxy+x*s.taken
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
