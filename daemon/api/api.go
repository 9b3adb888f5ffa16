// Package api is the ubus object `pakon`: what the command line, the web pages
// and scripts ask the daemon. It reads and checks arguments, turns clients'
// names into addresses, and writes replies that stay far below the limit of the
// bus. Finding flows is left to the store, knowing clients to package client;
// what status shows is collected by package main.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/store"
	"pakon/lists"
	"pakon/ubus"
)

// Path is the name of the object on the bus.
const Path = "pakon"

// Store answers questions about recorded flows.
type Store interface {
	Flows(context.Context, store.Query) (store.Page, error)
	// Count counts the flows that a filter wants, and those that it hides.
	Count(context.Context, store.Filter) (wanted, hidden store.Count, err error)
	// Summary sums up flows; hidden are those that its filter hides.
	Summary(context.Context, store.SummaryQuery) (rows []store.SummaryRow, hidden store.Count, err error)
	// Totals are the bytes of each client since the time, in Unix milliseconds; of those
	// that are known always.
	Totals(ctx context.Context, since int64, known func(client.ID) bool) (store.Totals, error)
	// LeftOut is what was not recorded on days that end after the time, likewise.
	LeftOut(ctx context.Context, since int64) ([]store.LeftOut, error)
}

// Clients knows the devices of the monitored networks.
type Clients interface {
	// Name is the device's name and what gave it, "" if it has none.
	Name(client.MAC) (name, source string)
	// NameAt is that of the device with an address.
	NameAt(client.MAC, netip.Addr) (name, source string)
	// Meant finds the clients that are meant by a name, whatever its case.
	Meant(name string) []client.ID
	// Devices are those that were seen lately.
	Devices() []client.Device
}

// Lists group names and hide names.
type Lists interface {
	Classify(name string) lists.Class
	Service(key string) (lists.Service, bool)
	// ByLabel returns the keys of the services that are called so, whatever its case.
	ByLabel(label string) []string
}

// Config is what the object is built from. Every field must be set.
type Config struct {
	Store   Store
	Clients Clients
	// Lists tell what names are to people; asked for at each call as they may change.
	Lists func() Lists
	// Status collects what the method status shows. It is called for each call.
	Status func(context.Context) Status
	// Reload reads configuration and lists again and returns when that is done.
	Reload func(context.Context) error
	// Archive moves flows to the archive and returns when that is done.
	Archive func(context.Context) (store.ArchiveRun, error)
	// Backup backs up the live flows.
	Backup func(context.Context) (store.BackupRun, error)
	// Forget deletes flows wherever they are, and returns how many. Hostnames are as
	// hostname.Parse returns them, or keys of services.
	Forget func(context.Context, store.Forgetting) (deleted int64, err error)
	// Location is the router's time zone, asked for at each call as it may change.
	Location func() *time.Location
	Log      *slog.Logger
}

// Lanes of the methods. Who asks about flows, however often, keeps nobody else
// from asking, and no other method waiting.
var (
	// asking is of what reads flows. The web page asks several things at once, and
	// some callers are scripts that start many of themselves. The command ubus and
	// pakon-show leave after 30 seconds, LuCI after 20.
	asking = &ubus.Lane{AtOnce: store.Queries, PerCaller: 1, Waiting: 64, Patience: 25 * time.Second}
	// looking is of what can be said at once.
	looking = &ubus.Lane{AtOnce: 2, Waiting: 64, Patience: 25 * time.Second}
	// ordering is of what changes something. It is done, whoever waits for it.
	ordering = &ubus.Lane{AtOnce: 4, Waiting: 64}
)

// API is the object. Its methods may be called from any goroutine.
type API struct {
	Config
	now    func() time.Time
	object *ubus.Object
	stored int64           // flows told of by Stored so far
	told   map[uint64]told // the running connections that were told of, by Track.Key

	wrong, failed complaints
}

// New returns the object, which is on no bus until Object is published.
func New(c Config) *API {
	a := &API{Config: c, now: time.Now, told: make(map[uint64]told)}
	flowFilter := []ubus.Arg{
		{Name: "start", Type: ubus.TypeString},
		{Name: "end", Type: ubus.TypeString},
		{Name: "mac", Type: ubus.TypeArray},
		{Name: "hostname", Type: ubus.TypeArray},
		{Name: "filter", Type: ubus.TypeBool},
		{Name: "direction", Type: ubus.TypeString},
		{Name: "limit", Type: ubus.TypeInt32},
	}
	a.object = &ubus.Object{Path: Path, Methods: []ubus.Method{
		{Name: "query", Lane: asking, Handler: a.handler(a.query), Args: append(flowFilter[:len(flowFilter):len(flowFilter)],
			ubus.Arg{Name: "aggregate", Type: ubus.TypeBool},
			ubus.Arg{Name: "sort", Type: ubus.TypeString},
			ubus.Arg{Name: "cursor", Type: ubus.TypeString},
			ubus.Arg{Name: "count", Type: ubus.TypeBool})},
		{Name: "summary", Lane: asking, Handler: a.handler(a.summary), Args: append(flowFilter[:len(flowFilter):len(flowFilter)],
			ubus.Arg{Name: "by", Type: ubus.TypeArray})},
		{Name: "clients", Lane: asking, Handler: a.handler(a.clients), Args: []ubus.Arg{
			{Name: "limit", Type: ubus.TypeInt32},
			{Name: "cursor", Type: ubus.TypeString},
			{Name: "folded", Type: ubus.TypeBool},
		}},
		{Name: "status", Lane: looking, Handler: a.handler(a.status)},
		{Name: "forget", Lane: ordering, Handler: a.handler(a.forget), Args: []ubus.Arg{
			{Name: "mac", Type: ubus.TypeArray},
			{Name: "hostname", Type: ubus.TypeArray},
			{Name: "before", Type: ubus.TypeString},
			{Name: "all", Type: ubus.TypeBool},
		}},
		{Name: "archive", Lane: ordering, Handler: a.handler(a.archive)},
		{Name: "backup", Lane: ordering, Handler: a.handler(a.backup)},
		{Name: "reload", Lane: ordering, Handler: a.handler(a.reload)},
	}}
	return a
}

// Object is what is to be published.
func (a *API) Object() *ubus.Object { return a.object }

// builders keep the memory of a reply for the next one: whoever walks through
// pages makes many large ones. A sync.Pool would be emptied in between by the
// collector, for which they make so much work.
var builders = make(chan *ubus.Builder, 1)

func takeBuilder() *ubus.Builder {
	select {
	case b := <-builders:
		b.Reset()
		return b
	default:
		return new(ubus.Builder)
	}
}

func keepBuilder(b *ubus.Builder) {
	select {
	case builders <- b:
	default:
	}
}

// method answers one call: it appends the reply to b.
type method func(ctx context.Context, args ubus.Table, b *ubus.Builder) error

// handler makes a handler of a method, and is the one place where its errors
// are logged and become a status.
func (a *API) handler(m method) func(context.Context, *ubus.Request) {
	return func(ctx context.Context, r *ubus.Request) {
		b := takeBuilder()
		defer keepBuilder(b)
		err := m(ctx, r.Args, b)
		if err == nil {
			err = r.ReplyBlob(b)
		}
		var wrong *argumentError
		switch {
		case err == nil:
			r.Done(ubus.StatusOK)
		case errors.As(err, &wrong):
			a.wrong.say(a.now(), a.Log.Warn, "wrong argument in a call of the ubus object", "method", Path+"."+r.Method,
				"argument", wrong.name, "value", wrong.value, "want", wrong.want, "user", r.User)
			// A caller may show this; an error means that it is gone.
			_ = r.Reply(ubus.Table{{Name: "error", Value: wrong.Error()}})
			r.Done(ubus.StatusInvalidArgument)
		case ctx.Err() != nil: // the daemon ends, or the caller's connection did
			r.Done(ubus.StatusTimeout)
		default:
			a.failed.say(a.now(), a.Log.Error, "call of the ubus object failed", "method", Path+"."+r.Method, "err", err)
			r.Done(ubus.StatusUnknownError)
		}
	}
}

// complaintEvery is how often calls may have a line of one kind written to the log.
const complaintEvery = time.Minute

// complaints are lines of one kind that calls have written to the log. Whoever may
// call can do so without end, and is told in the reply.
type complaints struct {
	mu      sync.Mutex
	last    time.Time // when one was written
	skipped int       // since
}

// say writes a line unless one was written lately; it then tells how many were not.
func (c *complaints) say(now time.Time, write func(string, ...any), msg string, attrs ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since := now.Sub(c.last); !c.last.IsZero() && since >= 0 && since < complaintEvery {
		c.skipped++
		return
	}
	if c.skipped > 0 {
		attrs = append(attrs, "not_logged_before", c.skipped)
	}
	c.last, c.skipped = now, 0
	write(msg, attrs...)
}

func (a *API) reload(ctx context.Context, _ ubus.Table, _ *ubus.Builder) error {
	return a.Reload(ctx)
}
