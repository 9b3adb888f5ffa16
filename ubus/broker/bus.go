package broker

import (
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"pakon/ubus"
)

// firstID is the smallest id that is given out; those below are the system's.
const firstID = 1024

// What one client may hold.
const (
	maxObjects       = 1024    // objects
	maxPatterns      = 1024    // event patterns
	maxSubscriptions = 1024    // subscriptions to other clients' objects
	maxHeld          = 4 << 20 // bytes of its paths, signatures and patterns
)

// client is one connection.
type client struct {
	conn        *net.UnixConn
	id          uint32
	user, group string
	out         *queue

	objects       []*object // in the order they were added
	patterns      int
	subscriptions int
	held          int // bytes, see maxHeld

	monitorSeq uint16
}

// object is what a client has added: a published one, or a nameless one that hears events and notifications.
type object struct {
	id     uint32
	owner  *client
	path   string
	public bool // has a path, which may be empty
	typ    *objectType
	// seq numbers what the broker tells the owner about the object.
	seq uint16
	// subscribers are the objects that hear this one's notifications, the newest first; one that has subscribed twice
	// is in twice. targets are the objects that this one hears.
	subscribers []*object
	targets     []*object
	// heard is the number of the last event that was sent to the object.
	heard uint64
}

// size is what the object takes of what its owner may hold.
func (o *object) size() int {
	if o.typ == nil {
		return len(o.path)
	}
	return len(o.path) + len(o.typ.signature)
}

// objectType is a signature that objects share.
type objectType struct {
	id        uint32
	signature []byte
	uses      int
}

// listening is a pattern that an object has registered for events.
type listening struct {
	pattern string // without the final "*"
	prefix  bool
	object  *object
}

// bus is all that the broker knows of its clients. The broker's lock guards it.
type bus struct {
	clients  map[uint32]*client
	objects  map[uint32]*object
	types    map[uint32]*objectType
	paths    []*object   // those with a path, sorted by it
	patterns []listening // sorted by pattern

	watchers []*client // that monitor
	eventSeq uint16
	events   uint64
}

func newBus() bus {
	return bus{
		clients: make(map[uint32]*client),
		objects: make(map[uint32]*object),
		types:   make(map[uint32]*objectType),
	}
}

func newID[T any](taken map[uint32]T) uint32 {
	for {
		id := rand.Uint32()
		if _, used := taken[id]; !used && id >= firstID {
			return id
		}
	}
}

// send queues a message for a client, unless there is no room, and shows it to those who monitor.
func (b *Broker) send(c *client, m ubus.Message) {
	b.watch(c, &m, true)
	b.enqueue(c, &m)
}

func (b *Broker) enqueue(c *client, m *ubus.Message) {
	if c.out.put(m.Append(make([]byte, 0, ubus.HeaderLen+len(m.Body)))) {
		b.log.Warn("bus client does not read: messages to it are dropped", "user", c.user, "client", c.id)
	}
}

func (b *Broker) join(c *client) {
	c.id = newID(b.clients)
	b.clients[c.id] = c
	b.send(c, ubus.Message{Type: ubus.MsgHello, Peer: c.id})
}

func (b *Broker) leave(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c.id)
	b.unmonitor(c)
	for len(c.objects) > 0 {
		b.remove(c.objects[len(c.objects)-1])
	}
}

// find returns the object of a path's place, and whether it is taken.
func (b *bus) find(path string) (int, bool) {
	return slices.BinarySearchFunc(b.paths, path, func(o *object, path string) int { return strings.Compare(o.path, path) })
}

// remove takes an object off the bus and tells those who had to do with it.
func (b *Broker) remove(o *object) {
	for len(o.targets) > 0 {
		b.unsubscribe(o, o.targets[len(o.targets)-1])
	}
	for len(o.subscribers) > 0 {
		s := o.subscribers[0]
		s.seq++
		body := ubus.AppendUint32(nil, ubus.AttrObjID, s.id)
		body = ubus.AppendUint32(body, ubus.AttrTarget, o.id)
		b.send(s.owner, ubus.Message{Type: ubus.MsgUnsubscribe, Seq: s.seq, Body: body})
		b.unsubscribe(s, o)
	}
	b.patterns = slices.DeleteFunc(b.patterns, func(l listening) bool {
		if l.object != o {
			return false
		}
		o.owner.patterns--
		o.owner.held -= len(l.pattern)
		return true
	})
	if o.public {
		b.objectEvent("ubus.object.remove", o)
		i, _ := b.find(o.path)
		b.paths = slices.Delete(b.paths, i, i+1)
	}
	b.release(o.typ)
	delete(b.objects, o.id)
	i := slices.Index(o.owner.objects, o)
	o.owner.objects = slices.Delete(o.owner.objects, i, i+1)
	o.owner.held -= o.size()
}

func (b *Broker) release(t *objectType) {
	if t == nil {
		return
	}
	if t.uses--; t.uses == 0 {
		delete(b.types, t.id)
	}
}

// subscribe lets o hear the notifications of target, whose owner is told of the first subscriber.
func (b *Broker) subscribe(o, target *object) {
	target.subscribers = slices.Insert(target.subscribers, 0, o)
	o.targets = append(o.targets, target)
	o.owner.subscriptions++
	if len(target.subscribers) == 1 {
		b.tellActive(target, 1)
	}
}

// unsubscribe ends one subscription; false: there is none.
func (b *Broker) unsubscribe(o, target *object) bool {
	i := slices.Index(o.targets, target)
	if i < 0 {
		return false
	}
	o.targets = slices.Delete(o.targets, i, i+1)
	i = slices.Index(target.subscribers, o)
	target.subscribers = slices.Delete(target.subscribers, i, i+1)
	o.owner.subscriptions--
	if len(target.subscribers) == 0 {
		b.tellActive(target, 0)
	}
	return true
}

func (b *Broker) tellActive(o *object, active uint8) {
	o.seq++
	body := ubus.AppendUint32(nil, ubus.AttrObjID, o.id)
	body = ubus.AppendUint8(body, ubus.AttrActive, active)
	b.send(o.owner, ubus.Message{Type: ubus.MsgNotify, Seq: o.seq, Body: body})
}
