package head

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableName is of the tables that are ours, in each of families.
const tableName = "pakon"

var families = []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyNetdev}

// The head of a connection: with 40 packets of both directions, 20 of each as a
// rule, 99.5 % of TLS names are found at 5 % loss. The bytes are for packets
// that GRO merged.
const (
	headPackets = 40
	headBytes   = 64 << 10
	// The head of one direction where packets are mirrored. A connection that
	// lasts has it again after quotaTime. The packets are for those that carry
	// nothing but an acknowledgement.
	quotaPackets = 40
	quotaBytes   = 24 << 10
	quotaTime    = 2 * time.Minute
	// quotaFlows bounds memory. Where there are more at a time, the heads of
	// the newest are not seen.
	quotaFlows = 65536
	// All of a client's packets of port 53 are seen, as each answer has a name,
	// but of what floods that port no more than this: the log has no room for it.
	dnsRate  = 250 // a second
	dnsBurst = 1000
	// dnsClients bounds memory; a client is forgotten after quotaTime.
	dnsClients = 16384
)

// The priorities: before fw4's chains, which may end a packet's way, and before
// its flowtables.
const (
	logPriority    = -5
	mirrorPriority = -100
)

// The flags of a TCP header, at tcpFlags in it.
const (
	tcpFlags = 13
	tcpFIN   = 1
	tcpSYN   = 2
	tcpRST   = 4
)

// dynsetDelete takes an element out of a set (NFT_DYNSET_OP_DELETE).
const dynsetDelete = 2

// Registers: register holds 16 bytes and is also called small and the three
// behind that, of 4 bytes each. Registers behind each other hold a key.
const (
	register = unix.NFT_REG_1
	small    = unix.NFT_REG32_00
)

// ruleset is a table in the order in which the kernel is told of it.
type ruleset struct {
	table  *nftables.Table
	sets   []*nftables.Set
	chains []*chain
}

type chain struct {
	*nftables.Chain
	rules []rule
}

// rule is its expressions, and the set without a name that it alone uses.
type rule struct {
	exprs []expr.Any
	set   *nftables.Set
	elems []nftables.SetElement
}

// rules makes the tables of the plan.
func (p plan) rules() []*ruleset {
	switch p.way {
	case NFLOG:
		return []*ruleset{p.logRules()}
	case Mirror:
		return []*ruleset{p.mirrorRules()}
	}
	return nil
}

// logRules log what the router forwards, and what passes between it and its
// clients. A packet passes one of the base chains, and each of its rules ends
// the chain: none is logged twice.
func (p plan) logRules() *ruleset {
	r := &ruleset{table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}}
	head := r.chain("head")
	r.onlyTCPAndUDP(head)
	// Connections that are not counted have 0 packets for ever: no head rather
	// than all of them.
	head.add(counted(expr.CtKeyPKTS, expr.CmpOpGt, 0), counted(expr.CtKeyPKTS, expr.CmpOpLt, headPackets),
		counted(expr.CtKeyBYTES, expr.CmpOpLt, headBytes), logged, verdict(expr.VerdictReturn, ""))
	r.limitDNS(head, "", logged)
	head.add(tcp, flags(tcpFIN|tcpRST), logged)
	for _, base := range []struct {
		name string
		hook *nftables.ChainHook
		keys []expr.MetaKey
	}{
		{"forward", nftables.ChainHookForward, []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME}},
		{"input", nftables.ChainHookInput, []expr.MetaKey{expr.MetaKeyIIFNAME}},
		{"output", nftables.ChainHookOutput, []expr.MetaKey{expr.MetaKeyOIFNAME}},
	} {
		c := r.baseChain(base.name, base.hook, logPriority, "")
		for _, key := range base.keys {
			for _, n := range p.networks {
				c.add(meta(key, expr.CmpOpEq, ifname(n.name)), verdict(expr.VerdictGoto, head.Name))
			}
		}
	}
	return r
}

// mirrorRules copy what enters and leaves the hooks. Connection tracking is out
// of reach there: each direction of a connection has a quota of its own.
func (p plan) mirrorRules() *ruleset {
	r := &ruleset{table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev}}
	v4 := r.dynamicSet("v4", quotaFlows, connectionKey(nftables.TypeIPAddr))
	v6 := r.dynamicSet("v6", quotaFlows, connectionKey(nftables.TypeIP6Addr))
	for i, n := range p.networks {
		if len(n.hooks) == 0 {
			continue // the interface is not there
		}
		// What begins or ends a connection: the next one of the same ports
		// starts with a new quota.
		edge := r.chain(fmt.Sprintf("edge%d", i))
		edge.add(protocol(unix.ETH_P_IP), key4, dynset(v4, dynsetDelete))
		edge.add(protocol(unix.ETH_P_IPV6), key6, dynset(v6, dynsetDelete))
		edge.add(duplicate(n.mirror))
		head := r.chain(fmt.Sprintf("head%d", i))
		r.onlyTCPAndUDP(head)
		head.add(tcp, flags(tcpFIN|tcpSYN|tcpRST), verdict(expr.VerdictGoto, edge.Name))
		r.limitDNS(head, strconv.Itoa(i), duplicate(n.mirror))
		// A limit that lets one a minute through beyond its burst.
		packets := &expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeMinute, Burst: quotaPackets}
		quota := &expr.Quota{Bytes: quotaBytes}
		head.add(protocol(unix.ETH_P_IP), key4, dynset(v4, unix.NFT_DYNSET_OP_ADD, packets, quota), duplicate(n.mirror))
		head.add(protocol(unix.ETH_P_IPV6), key6, dynset(v6, unix.NFT_DYNSET_OP_ADD, packets, quota), duplicate(n.mirror))
		for j, d := range n.hooks {
			in := r.baseChain(fmt.Sprintf("in%d_%d", i, j), nftables.ChainHookIngress, mirrorPriority, d.name)
			in.add(mac(0, n.mac), verdict(expr.VerdictGoto, head.Name))
			out := r.baseChain(fmt.Sprintf("out%d_%d", i, j), nftables.ChainHookEgress, mirrorPriority, d.name)
			out.add(mac(macLength, n.mac), verdict(expr.VerdictGoto, head.Name))
		}
	}
	return r
}

func (r *ruleset) chain(name string) *chain {
	c := &chain{Chain: &nftables.Chain{Name: name, Table: r.table}}
	r.chains = append(r.chains, c)
	return c
}

func (r *ruleset) baseChain(name string, hook *nftables.ChainHook, priority nftables.ChainPriority, device string) *chain {
	accept := nftables.ChainPolicyAccept
	c := r.chain(name)
	c.Type, c.Hooknum, c.Priority, c.Policy, c.Device = nftables.ChainTypeFilter, hook, &priority, &accept, device
	return c
}

func (c *chain) add(parts ...[]expr.Any) {
	var r rule
	for _, p := range parts {
		r.exprs = append(r.exprs, p...)
	}
	c.rules = append(c.rules, r)
}

// onlyTCPAndUDP ends the chain for other protocols, and for fragments but the
// first: they have no ports to compare.
func (r *ruleset) onlyTCPAndUDP(c *chain) {
	id := uint32(1)
	for _, c := range r.chains {
		for _, r := range c.rules {
			if r.set != nil {
				id++
			}
		}
	}
	set := &nftables.Set{
		Table: r.table, ID: id, Name: "__set%d", Anonymous: true, Constant: true, KeyType: nftables.TypeInetProto,
	}
	c.add(load(expr.MetaKeyL4PROTO), []expr.Any{&expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: id, Invert: true}},
		verdict(expr.VerdictReturn, ""))
	last := &c.rules[len(c.rules)-1]
	last.set, last.elems = set, []nftables.SetElement{{Key: []byte{unix.IPPROTO_TCP}}, {Key: []byte{unix.IPPROTO_UDP}}}
}

// dynamicSet is a set of what was seen by key. A table has one by each name.
func (r *ruleset) dynamicSet(name string, size uint32, key nftables.SetDatatype) *nftables.Set {
	for _, s := range r.sets {
		if s.Name == name {
			return s
		}
	}
	s := &nftables.Set{
		// Anonymous sets count from 1.
		Table: r.table, ID: 1<<16 + uint32(len(r.sets)), Name: name, Dynamic: true,
		KeyType: key, Concatenation: strings.Contains(key.Name, " . "),
		Size: size, HasTimeout: true, Timeout: quotaTime,
	}
	r.sets = append(r.sets, s)
	return s
}

// connectionKey is the key of one direction of a connection.
func connectionKey(address nftables.SetDatatype) nftables.SetDatatype {
	return nftables.MustConcatSetType(address, address, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeInetService)
}

// limitDNS has the packets of port 53 seen, up to the limit of their client, and
// ends the chain for them.
func (r *ruleset) limitDNS(head *chain, suffix string, seen []expr.Any) {
	v4 := r.dynamicSet("dns4", dnsClients, nftables.TypeIPAddr)
	v6 := r.dynamicSet("dns6", dnsClients, nftables.TypeIP6Addr)
	limit := &expr.Limit{Type: expr.LimitTypePkts, Rate: dnsRate, Unit: expr.LimitTimeSecond, Burst: dnsBurst}
	for _, d := range []struct {
		name            string
		port            uint32 // where 53 is
		client, client6 uint32 // where the client's address is in the headers
	}{
		{"answers", sourcePort, destination4, destination6},
		{"questions", destinationPort, source4, source6},
	} {
		c := r.chain(d.name + suffix)
		c.add(protocol(unix.ETH_P_IP), []expr.Any{payload(expr.PayloadBaseNetworkHeader, d.client, 4, register)},
			dynset(v4, unix.NFT_DYNSET_OP_ADD, limit), seen)
		c.add(protocol(unix.ETH_P_IPV6), []expr.Any{payload(expr.PayloadBaseNetworkHeader, d.client6, 16, register)},
			dynset(v6, unix.NFT_DYNSET_OP_ADD, limit), seen)
		head.add(port(d.port, 53), verdict(expr.VerdictGoto, c.Name))
	}
}

// The parts of rules.

var (
	logged = []expr.Any{&expr.Log{
		Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_QTHRESHOLD, Group: Group, QThreshold: 1,
	}}
	tcp = meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_TCP})
)

const (
	sourcePort, destinationPort = 0, 2 // in the header of TCP and UDP
	source4, destination4       = 12, 16
	source6, destination6       = 8, 24
)

func load(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: register}} }

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: register, Data: data}
}

func meta(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return append(load(key), compare(op, data))
}

// protocol is IPv4 or IPv6.
func protocol(ethernet uint16) []expr.Any {
	return meta(expr.MetaKeyPROTOCOL, expr.CmpOpEq, binaryutil.BigEndian.PutUint16(ethernet))
}

func payload(base expr.PayloadBase, offset, length, register uint32) expr.Any {
	return &expr.Payload{Base: base, Offset: offset, Len: length, DestRegister: register}
}

func port(offset uint32, n uint16) []expr.Any {
	return []expr.Any{payload(expr.PayloadBaseTransportHeader, offset, 2, register), compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(n))}
}

// flags matches a TCP packet with any of the flags.
func flags(mask byte) []expr.Any {
	return []expr.Any{
		payload(expr.PayloadBaseTransportHeader, tcpFlags, 1, register),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		compare(expr.CmpOpNeq, []byte{0}),
	}
}

// mac matches an address of the Ethernet header; "" matches all.
func mac(offset uint32, address string) []expr.Any {
	if address == "" {
		return nil
	}
	return []expr.Any{payload(expr.PayloadBaseLLHeader, offset, macLength, register), compare(expr.CmpOpEq, []byte(address))}
}

// counted compares what connection tracking counted of both directions: the
// library leaves out which of them. It is in the machine's byte order, which
// does not compare by size.
func counted(key expr.CtKey, op expr.CmpOp, n uint64) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: register},
		&expr.Byteorder{Op: expr.ByteorderHton, SourceRegister: register, DestRegister: register, Len: 8, Size: 8},
		compare(op, binaryutil.BigEndian.PutUint64(n)),
	}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

// duplicate sends a copy of the packet out of a device.
func duplicate(d device) []expr.Any {
	index := binary.NativeEndian.AppendUint32(nil, d.index)
	return []expr.Any{&expr.Immediate{Register: register, Data: index}, &expr.Dup{RegDev: register, IsRegDevSet: true}}
}

// The keys of the sets v4 and v6, loaded from register on: source, destination,
// protocol, ports.
var key4, key6 = key(source4, 4), key(source6, 16)

func key(offset, length uint32) []expr.Any {
	words := length / 4
	return []expr.Any{
		payload(expr.PayloadBaseNetworkHeader, offset, length, register),
		payload(expr.PayloadBaseNetworkHeader, offset+length, length, small+words),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: small + 2*words},
		payload(expr.PayloadBaseTransportHeader, sourcePort, 2, small+2*words+1),
		payload(expr.PayloadBaseTransportHeader, destinationPort, 2, small+2*words+2),
	}
}

func dynset(s *nftables.Set, operation uint32, exprs ...expr.Any) []expr.Any {
	return []expr.Any{&expr.Dynset{SrcRegKey: register, SetName: s.Name, SetID: s.ID, Operation: operation, Exprs: exprs}}
}

// ifname is a name as the kernel keeps it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// transactionBuffer holds a transaction, and its answers, of a hundred
// interfaces.
const transactionBuffer = 4 << 20

// dial makes a connection whose requests end by themselves.
func dial() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetDeadline(time.Now().Add(netlinkTimeout)),
			c.SetWriteBuffer(transactionBuffer), c.SetReadBuffer(transactionBuffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return c, nil
}

// writeRules replaces our tables by these, in one transaction.
func writeRules(rules []*ruleset) error {
	c, err := dial()
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	for _, t := range tables {
		if t.Name != tableName {
			continue
		}
		for _, family := range families {
			if t.Family == family {
				c.AddTable(t) // there is one to delete, even if it was deleted meanwhile
				c.DelTable(t)
			}
		}
	}
	for _, r := range rules {
		if err := r.queue(c); err != nil {
			return err
		}
	}
	return c.Flush()
}

// queue adds the table to the transaction.
func (r *ruleset) queue(c *nftables.Conn) error {
	c.AddTable(r.table)
	for _, s := range r.sets {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	// All chains before the rules that go to them.
	for _, ch := range r.chains {
		c.AddChain(ch.Chain)
	}
	var errs []error
	for _, ch := range r.chains {
		for _, rule := range ch.rules {
			if rule.set != nil {
				errs = append(errs, c.AddSet(rule.set, rule.elems))
			}
			c.AddRule(&nftables.Rule{Table: r.table, Chain: ch.Chain, Exprs: rule.exprs})
		}
	}
	return errors.Join(errs...)
}
