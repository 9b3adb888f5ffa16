package api

import (
	"errors"
	"fmt"
	"slices"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store"
	"pakon/ubus"
)

// The notifications of the object. They are lost where the bus is, which the
// errors tell.

// NotifySuricata tells subscribers that Suricata's state has changed.
func (a *API) NotifySuricata(state string) error {
	return a.object.Notify("suricata", ubus.Table{{Name: "state", Value: state}})
}

// NotifyClient tells subscribers of a device that was never seen before, or is back
// with another MAC, and of how many more there were of which nothing else is told.
func (a *API) NotifyClient(d client.Device, more int) error {
	address := ""
	if a := d.Address(); a.IsValid() {
		address = a.String()
	}
	notice := ubus.Table{
		{Name: "mac", Value: d.MAC.String()},
		{Name: "name", Value: d.Name},
		{Name: "vendor", Value: d.Vendor},
		{Name: "address", Value: address},
		{Name: "interface", Value: d.Interface},
	}
	if !d.Earlier.IsZero() {
		notice = append(notice, ubus.Field{Name: "earlier", Value: d.Earlier.String()})
	}
	if more > 0 {
		notice = append(notice, ubus.Field{Name: "more", Value: int64(more)})
	}
	return a.object.Notify("client.new", notice)
}

// Stored tells subscribers of flows that were stored: "flows", in the form of
// the method query, with "hidden" and of a client without a MAC with its address as
// "alias", and "before", how many were told earlier, by which those who listen notice
// what the bus has lost. A connection that goes on is told of when it is first stored
// and when it is over, and when it has moved too much to be hidden any more. It is called
// by one goroutine and costs next to nothing while nobody listens.
func (a *API) Stored(flows []flow.Flow) error {
	news := a.news(flows)
	before := a.stored
	a.stored += int64(len(news))
	if len(news) == 0 || !a.object.HasSubscribers() {
		return nil
	}
	var errs []error
	for chunk := range slices.Chunk(news, chunkFlows) {
		errs = append(errs, a.notifyFlows(chunk, before))
		before += int64(len(chunk))
	}
	return errors.Join(errs...)
}

// told is how a connection stood when it was last told of, or could have been.
type told struct{ over, large bool }

// news are the flows that are to be told of.
func (a *API) news(flows []flow.Flow) []flow.Flow {
	if !slices.ContainsFunc(flows, func(f flow.Flow) bool { return f.State != flow.Whole }) {
		return flows
	}
	news := make([]flow.Flow, 0, len(flows))
	for i := range flows {
		f := &flows[i]
		before, known := a.told[f.Track.Key]
		switch f.State {
		case flow.Whole:
			news = append(news, *f)
		case flow.Done, flow.Void:
			delete(a.told, f.Track.Key)
		case flow.Running, flow.Over:
			now := told{over: f.State == flow.Over, large: store.Large(f)}
			if !known || now.over && !before.over || now.large && !before.large && a.Lists().Classify(f.Name).Hidden != "" {
				news = append(news, *f)
			}
			a.told[f.Track.Key] = now
		}
	}
	return news
}

func (a *API) notifyFlows(flows []flow.Flow, before int64) error {
	var b ubus.Builder
	n := names{lists: a.Lists()}
	b.Int("before", before)
	b.Array("flows")
	for i := range flows {
		f := &flows[i]
		row := store.Row{Flow: *f, Flows: 1, Duration: f.End/1000 - f.Start/1000, Large: store.Large(f)}
		if f.Name != "" {
			row.Group = n.lists.Classify(f.Name).Group
		}
		a.appendFlow(&b, &row)
		n.appendHidden(&b, &row)
		if id := client.IDOf(f.Client, f.ClientAddr); id.Addr.IsValid() {
			b.String("alias", id.Addr.String())
		}
		b.Close()
		n.use(row.Group)
	}
	b.Close()
	n.appendGroups(&b)
	t, err := ubus.Decode(b.Bytes())
	if err != nil {
		return fmt.Errorf("notification of %d flows: %w", len(flows), err)
	}
	return a.object.Notify("flows", t)
}
