package household

// item is something that happens at a moment of the household's life.
type item struct {
	at   int64  // Unix time in microseconds
	seq  uint64 // keeps the order of what happens at the same time
	what action
	line []byte // the event; empty when events are not wanted
	row  *Row   // flowEnded: the row, or nil; connecting: the row to name
	dev  *device
	host *host
	v6   bool // answered: the addresses asked for
}

type action uint8

const (
	seen       action = iota // an event that changes nothing
	answered                 // a DNS answer: the device now knows the host by these addresses
	connecting               // a connection begins that only DNS can name; no event
	flowEnded                // the flow's record
)

// queue is a binary heap, earliest first.
type queue []item

func (q queue) before(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}

func (q *queue) push(it item) {
	h := append(*q, it)
	*q = h
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.before(i, up) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *queue) pop() item {
	h := *q
	top := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = item{}
	h = h[:last]
	*q = h
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			return top
		}
		if c+1 < last && h.before(c+1, c) {
			c++
		}
		if !h.before(c, i) {
			return top
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}
