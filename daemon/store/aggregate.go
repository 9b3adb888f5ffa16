package store

import (
	"database/sql"

	"pakon/daemon/flow"
)

// sums are the expressions over an aggregate's flows by which Key sorts.
var sums = [...]string{
	ByTime:     "min(id)",
	BySent:     "sum(sent)",
	ByRecvd:    "sum(recvd)",
	ByTotal:    "sum(sent + recvd)",
	ByDuration: "sum(seconds)",
}

// shownColumn is what a flow's far end is shown as: text, or the bytes of an
// address.
const shownColumn = "coalesce(n.shown, n.name, f.remote)"

// aggregateRows is the statement for flows put together. SQLite sorts them by
// group, in memory up to the size of its page cache and else in a temporary
// file, and adds up one group after the other; so memory is bounded however
// many groups there are. A group is known by its first flow, which stays the
// same while a query is paged through.
func aggregateRows(q Query, spans []span, c condition, after position) (string, []any) {
	flows, args := selectFlows(`f.id AS id, (f.id >> 12) + f.duration AS ended, `+seconds+` AS seconds,
		f.endpoint AS endpoint, e.client AS client, f.name AS name, `+shownColumn+` AS shown,
		f.facts AS facts, f.app AS app, f.remote AS remote, f.sent AS sent, f.recvd AS recvd,
		f.id IN (SELECT flow FROM tracked WHERE running = 1) AS running`, joinAll, spans, c)
	key := sums[q.Sort]
	having := q.beyond(key, "min(id)", after)
	// What all flows of a group have in common is the least and the greatest of
	// its values; NULL, which min and max pass over, counts too.
	groups := `SELECT ` + key + ` AS key, min(id) AS id, max(ended) AS ended, sum(seconds) AS seconds,
			sum(sent) AS sent, sum(recvd) AS recvd, count(*) AS flows, client, shown,
			max(running) AS running, min(facts) AS facts, max(facts) AS facts2, min(facts & 1) AS direction,
			CASE WHEN min(endpoint) = max(endpoint) THEN min(endpoint) END AS endpoint,
			CASE WHEN min(name) = max(name) AND count(name) = count(*) THEN min(name) END AS name,
			CASE WHEN min(app) = max(app) AND count(app) = count(*) THEN min(app) END AS app,
			CASE WHEN min(remote) = max(remote) THEN min(remote) END AS remote
		FROM (` + flows + `) GROUP BY client, shown, facts >> 4 HAVING ` + having.String() +
		q.order() + " LIMIT ?"
	statement := `SELECT g.key AS key, g.id AS id, ended, seconds, sent, recvd, flows, g.client, g.shown, facts, facts2, direction,
			e.address, e.interface, n.name, n.shown IS NOT NULL AND typeof(n.shown) = 'text', a.name, remote, running
		FROM (` + groups + `) AS g
		LEFT JOIN endpoints AS e ON e.id = g.endpoint
		LEFT JOIN names AS n ON n.id = g.name
		LEFT JOIN apps AS a ON a.id = g.app` + q.order()
	return statement, append(args, having.args...)
}

func scanAggregate(rows *sql.Rows, r *Row) error {
	var least, greatest, direction, sent, recvd int64
	var owner, address, remote sql.RawBytes
	var iface, name, app sql.NullString
	var shown any
	var grouped, running bool
	err := rows.Scan(&r.key, &r.id, &r.End, &r.Duration, &sent, &recvd, &r.Flows, &owner, &shown,
		&least, &greatest, &direction, &address, &iface, &name, &grouped, &app, &remote, &running)
	if err != nil {
		return err
	}
	// Port and protocol are the same in all, the source need not be.
	unpackFacts(least&^1|direction, &r.Flow)
	if least>>1 != greatest>>1 {
		r.Source = 0
	}
	r.Start = r.id >> idShift
	r.Client, r.ClientAddr, r.Remote = mac(owner), addr(address), addr(remote)
	if r.Client.IsZero() {
		r.ClientAddr = addr(owner)
	}
	if running {
		r.State = flow.Running
	}
	r.Interface, r.App = iface.String, app.String
	r.Sent, r.Recvd = uint64(sent), uint64(recvd)
	r.Name, r.Group = aggregateName(name, grouped, shown, r)
	return nil
}

// aggregateName is the name that all flows of a group have, and their group. If
// they differ in name, they have in common what they are shown as.
func aggregateName(name sql.NullString, grouped bool, shown any, r *Row) (string, string) {
	switch s := shown.(type) {
	case string:
		if !name.Valid || grouped {
			return name.String, s
		}
		return name.String, ""
	case []byte:
		// An address, which some flows may have had as a name.
		if a := addr(s); !name.Valid && r.Remote != a && a.IsValid() {
			return a.String(), ""
		}
	}
	return name.String, ""
}
