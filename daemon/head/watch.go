package head

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Rules that another program removes again and again are put back restoreBurst
// times in restoreTime: neither is to win by wearing the router out. An attempt
// that failed is repeated after retryTime.
const (
	restoreBurst = 5
	restoreTime  = time.Minute
	retryTime    = 10 * time.Second
)

// readBuffer holds the notifications of a whole firewall.
const readBuffer = 1 << 20

// String names the task.
func (h *Head) String() string { return "head" }

// Run puts the rules back whenever another program changed or removed them, and
// follows flowtables, until the context ends. The rules stay.
func (h *Head) Run(ctx context.Context) error {
	told := false
	for ctx.Err() == nil {
		err := h.follow(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, unix.ENOBUFS): // notifications were lost: follow begins with a look
			h.tellChange()
		case !told && h.State().Way != None:
			told = true
			h.log.Warn("changes of nftables can not be followed: rules that others remove are put back late", "err", err)
			fallthrough
		default:
			select {
			case <-ctx.Done():
			case <-time.After(retryTime):
			}
		}
	}
	return nil
}

func (h *Head) follow(ctx context.Context) error {
	events, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("open netfilter's netlink: %w", err)
	}
	defer events.Close()
	if err := events.SetReadBuffer(readBuffer); err != nil {
		return fmt.Errorf("set the buffer for changes of nftables: %w", err)
	}
	if err := events.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("subscribe to changes of nftables: %w", err)
	}
	defer context.AfterFunc(ctx, func() { events.SetReadDeadline(time.Unix(1, 0)) })()

	touched := true // what happened before this
	var restored []time.Time
	var due time.Time // of the next attempt
	for {
		if touched && !time.Now().Before(due) {
			touched, due = false, time.Time{}
			again, err := h.restore()
			switch {
			case err != nil:
				touched, due = true, time.Now().Add(retryTime)
			case again:
				restored = append(restored, time.Now())
				if n := len(restored); n >= restoreBurst {
					restored = restored[n-restoreBurst:]
					due = restored[0].Add(restoreTime)
				}
			}
		}
		var deadline time.Time
		if touched {
			deadline = due
		}
		events.SetReadDeadline(deadline)
		if ctx.Err() != nil {
			return nil // perhaps before the deadline was set
		}
		messages, err := events.Receive()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("read changes of nftables: %w", err)
		}
		for _, m := range messages {
			touched = touched || concerns(m)
			if ofFlowtable(m) {
				h.tellChange()
			}
		}
	}
}

// restore makes the rules as they should be, and tells whether others had
// changed them.
func (h *Head) restore() (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.settings.Way == None || h.plan.way == None {
		return false, nil // nothing was put in force, or Apply failed and said so
	}
	restored, before := h.restored, h.err
	h.err = h.enforce()
	if h.err != nil && (before == nil || before.Error() != h.err.Error()) {
		h.log.Warn("nftables rules are gone and can not be put back", "err", h.err)
	}
	return h.restored > restored, h.err
}

// concerns tells whether a notification is about a table of ours. Its first
// attribute names the table, whatever it is about.
func concerns(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < nfgenmsgLength {
		return false
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN,
		unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		return tableOf(m) == tableName
	}
	return false
}

// ofFlowtable tells whether a notification is about a flowtable.
func ofFlowtable(m netlink.Message) bool {
	return m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|nftables.NFT_MSG_NEWFLOWTABLE ||
		m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|nftables.NFT_MSG_DELFLOWTABLE
}

const nfgenmsgLength = 4

// tableOf is the name of the table that the message is about: the same
// attribute of tables, chains and rules.
func tableOf(m netlink.Message) string {
	ad, err := netlink.NewAttributeDecoder(m.Data[nfgenmsgLength:])
	if err != nil {
		return ""
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_TABLE_NAME {
			return ad.String()
		}
	}
	return ""
}

// fingerprint is of our tables as the kernel shows them: handles, which it
// gives anew to what is written anew, chains, hooks, rules. Nothing in it counts
// packets.
func fingerprint() (string, error) {
	print, _, err := dumpTables()
	return print, err
}

// fingerprint is of the tables if they are what the plan wrote, else "".
func (p plan) fingerprint() (string, error) {
	print, got, err := dumpTables()
	if err != nil {
		return "", err
	}
	want := 0
	for _, r := range p.rules() {
		want++
		for _, c := range r.chains {
			want += 1 + len(c.rules)
		}
	}
	if got != want {
		return "", nil
	}
	return print, nil
}

// dumpTables returns our tables, chains and rules, and how many they are.
func dumpTables() (string, int, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return "", 0, fmt.Errorf("open netfilter's netlink: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return "", 0, fmt.Errorf("set the deadline of netfilter's netlink: %w", err)
	}
	var b strings.Builder
	n := 0
	for _, family := range families {
		for _, what := range []netlink.HeaderType{unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE} {
			messages, err := dump(c, family, what)
			if err != nil {
				return "", 0, err
			}
			for _, m := range messages {
				if len(m.Data) >= nfgenmsgLength && tableOf(m) == tableName {
					n++
					b.Write(m.Data[nfgenmsgLength:]) // the header has the number of the last transaction
				}
			}
		}
	}
	return b.String(), n, nil
}

// dumpAttempts bounds how often a list is asked for that others change
// meanwhile.
const dumpAttempts = 10

func dump(c *netlink.Conn, family nftables.TableFamily, what netlink.HeaderType) ([]netlink.Message, error) {
	request := netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | what, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{byte(family), unix.NFNETLINK_V0, 0, 0},
	}
	if what == unix.NFT_MSG_GETRULE {
		name, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(tableName + "\x00")}})
		if err != nil {
			return nil, err
		}
		request.Data = append(request.Data, name...)
	}
	for try := 1; ; try++ {
		messages, err := c.Execute(request)
		if err != nil {
			return nil, fmt.Errorf("list what nftables has: %w", err)
		}
		torn := false
		for _, m := range messages {
			torn = torn || m.Header.Flags&netlink.DumpInterrupted != 0
		}
		if !torn || try == dumpAttempts {
			return messages, nil
		}
	}
}
