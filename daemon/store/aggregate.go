package store

import (
	"context"

	"pakon/daemon/flow"
	"pakon/daemon/name"
)

// fetchSums reads the first sums that follow after, at most limit, for a query
// that is sorted or puts flows together. more tells whether there are others.
func (s *Store) fetchSums(ctx context.Context, q Query, after position, limit int) (f found, more bool, err error) {
	take := (*gatherer).takeFlows
	if q.Aggregate {
		take = (*gatherer).takeGroups
	}
	g, err := s.newGatherer(q.Filter, after.batch, q.Aggregate, front{limit: limit + 1, sort: q.Sort, descending: q.Descending, after: after}, take)
	if err != nil {
		return f, false, err
	}
	if q.Aggregate && len(q.Hostnames) == 0 { // what is summed up may have lost its names
		g.daily = func(span64) bool { return true }
	}
	if err := g.gather(ctx); err != nil {
		return f, false, err
	}
	sums := g.front.sorted()
	more = len(sums) > limit
	return found{sums: sums[:min(limit, len(sums))], texts: g.texts}, more, nil
}

// takeFlows offers the flows of a block.
func (g *gatherer) takeFlows() {
	r := &g.reading
	for i := range r.Flows {
		f := &r.Flows[i]
		if !g.match.wants(f) {
			continue
		}
		s := sum{
			amounts: amounts{id: f.ID, seconds: f.End()/1000 - f.Start()/1000, flows: f.Flows, of: int64(f.Port)<<8 | int64(f.Proto), client: differs, shown: differs},
			end:     f.End(), source: f.Source, direction: f.Direction, large: large(f),
		}
		s.sent, s.recvd = g.window.inside(f, r.HoursOf(f))
		if !g.front.wants(s.key(g.front.sort), s.id) {
			continue
		}
		s.running = r.live && g.s.w.tracker.runs(f.ID)
		r.enter(f, &s)
		g.front.offer(&s)
	}
}

// takeGroups puts the flows of a block together that have client, far end as it
// is shown, port and protocol in common.
func (g *gatherer) takeGroups() {
	r := &g.reading
	for i := range r.Flows {
		f := &r.Flows[i]
		if !g.match.wants(f) {
			continue
		}
		of := int64(f.Port)<<8 | int64(f.Proto)
		hash := uint32(mix(mix(r.hashClient(f), r.hashShown(f)), uint64(of)))
		if !g.share.has(hash) {
			continue
		}
		n, isNew := g.table.find(hash, r.client(f), r.shown(f), of)
		s := g.table.sum(n)
		if isNew {
			s.id, s.source, s.direction = f.ID, f.Source, f.Direction
			r.enter(f, s)
		} else {
			r.compare(f, s)
			if s.source != f.Source {
				s.source = 0
			}
			s.direction = min(s.direction, f.Direction)
		}
		sent, recvd := g.window.inside(f, r.HoursOf(f))
		s.sent += sent
		s.recvd += recvd
		s.id, s.end = min(s.id, f.ID), max(s.end, f.End())
		s.seconds += int64(secondsOf(f))
		s.flows = plus32(s.flows, f.Flows)
		s.running = s.running || r.live && g.s.w.tracker.runs(f.ID)
		s.large = s.large || large(f)
		if isNew {
			g.full()
		}
	}
}

// plus32 adds without wrapping around.
func plus32(a, b uint32) uint32 { return uint32(min(uint64(a)+uint64(b), 1<<32-1)) }

// rowsOf makes rows of sums.
func (s *Store) rowsOf(sums []sum, t *texts) []Row {
	if len(sums) == 0 {
		return nil
	}
	names := make([]string, len(sums))
	for i := range sums {
		if n := sums[i].name; n != differs {
			names[i] = t.names.values[n]
		}
	}
	classes := s.known.classes.of(names, s.classify, make([]class, 0, len(names)))
	rows := make([]Row, len(sums))
	for i := range sums {
		m, r := &sums[i], &rows[i]
		r.Start, r.End = m.id>>idShift, m.end
		r.Port, r.Proto, r.Source, r.Direction = uint16(m.of>>8), uint8(m.of), name.Source(m.source), flow.Direction(m.direction)
		r.Sent, r.Recvd, r.Flows, r.Duration, r.Large = m.sent, m.recvd, int64(m.flows), m.seconds, m.large
		if m.running {
			r.State = flow.Running
		}
		if m.endpoint != differs {
			e := t.endpoints.values[m.endpoint]
			r.Client, r.ClientAddr, r.Interface = e.MAC, e.Address, e.Interface
		}
		if m.app != differs {
			r.App = t.names.values[m.app]
		}
		if m.remote != differs {
			r.Remote = t.remotes.values[m.remote]
		}
		r.Name, r.Group = names[i], classes[i].group
		if m.client != differs {
			e := t.endpoints.values[m.client]
			r.Client = e.MAC
			if e.MAC.IsZero() {
				r.ClientAddr = e.Address
			}
			r.shownAs(m.shown, t)
		}
	}
	return rows
}

// shownAs sets the name and the group of flows put together that have nothing of
// these in common but what they are shown as.
func (r *Row) shownAs(shown uint32, t *texts) {
	if r.Name != "" {
		return
	}
	if shown&isAddress == 0 {
		r.Group = t.names.values[shown]
		return
	}
	// An address, which some of them may have had as a name.
	if a := t.remotes.values[shown&^isAddress]; a.IsValid() && a != r.Remote {
		r.Name = a.String()
	}
}
