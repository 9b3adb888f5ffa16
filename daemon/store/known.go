package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"pakon/daemon/client"
)

// known is what readers remember of the rows that flows refer to. An id is never
// used again (AUTOINCREMENT), so only the group of a name can change.
type known struct {
	mu        sync.Mutex
	changes   int // of groups, counted
	names     recent[namedAs]
	endpoints recent[endpointOf]
	apps      recent[string]
	classes   classes
}

// references are the ids in a flow, 0 for none.
type references struct {
	endpoint, name, app id
}

// id is a column that may be NULL, which is 0.
type id int64

// Scan implements sql.Scanner.
func (i *id) Scan(v any) error {
	switch n := v.(type) {
	case nil:
		*i = 0
	case int64:
		*i = id(n)
	default:
		return fmt.Errorf("%T is no id", v)
	}
	return nil
}

type namedAs struct{ name, group string }

type endpointOf struct {
	client  client.MAC
	address netip.Addr
	iface   string
}

// recent are the entries used last, in two generations: when the newer is full,
// the older is forgotten.
type recent[V any] struct {
	newer, older map[id]V
}

// get returns what is known of an id, or reads it; NULL is the zero value. Of
// an id without a row, too: what the cleaner deletes is shown by nobody.
func (r *recent[V]) get(i id, read func(id) (V, error)) (v V, err error) {
	if i == 0 {
		return v, nil
	}
	if v, ok := r.newer[i]; ok {
		return v, nil
	}
	v, ok := r.older[i]
	if !ok {
		if v, err = read(i); errors.Is(err, sql.ErrNoRows) {
			return v, nil
		}
		if err != nil {
			return v, err
		}
	}
	if len(r.newer) >= cacheSize || r.newer == nil {
		r.older, r.newer = r.newer, make(map[id]V)
	}
	r.newer[i] = v
	return v, nil
}

// changed is called after names have changed their groups.
func (k *known) changed() {
	k.classes.forget()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.names = recent[namedAs]{}
	k.changes++
}

// now is the state of what is known, to be given to resolve.
func (k *known) now() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changes
}

// resolve fills in what the rows, read in tx, refer to. since is what now said
// before tx began: if groups have changed since, tx does not know of it, and
// what it reads is not remembered.
func (k *known) resolve(ctx context.Context, tx *sql.Tx, since int, rows []Row, refs []references) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := &k.names
	if k.changes != since {
		names = new(recent[namedAs])
	}
	for i := range rows {
		r, ref := &rows[i], refs[i]
		e, err := k.endpoints.get(ref.endpoint, func(i id) (e endpointOf, err error) {
			var owner, address []byte
			err = tx.QueryRowContext(ctx, "SELECT client, address, interface FROM endpoints WHERE id = ?", int64(i)).Scan(&owner, &address, &e.iface)
			e.client, e.address = mac(owner), addr(address)
			return e, err
		})
		if err != nil {
			return fmt.Errorf("read endpoint %d: %w", ref.endpoint, err)
		}
		r.Client, r.ClientAddr, r.Interface = e.client, e.address, e.iface
		n, err := names.get(ref.name, func(i id) (n namedAs, err error) {
			var shown any
			err = tx.QueryRowContext(ctx, "SELECT name, shown FROM names WHERE id = ?", int64(i)).Scan(&n.name, &shown)
			n.group, _ = shown.(string)
			return n, err
		})
		if err != nil {
			return fmt.Errorf("read name %d: %w", ref.name, err)
		}
		r.Name, r.Group = n.name, n.group
		r.App, err = k.apps.get(ref.app, func(i id) (app string, err error) {
			err = tx.QueryRowContext(ctx, "SELECT name FROM apps WHERE id = ?", int64(i)).Scan(&app)
			return app, err
		})
		if err != nil {
			return fmt.Errorf("read application protocol %d: %w", ref.app, err)
		}
	}
	return nil
}
