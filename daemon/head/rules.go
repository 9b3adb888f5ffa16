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
)

// What is seen of one client's packets has limits, as the log has no room for what
// floods it: the names of all others would be lost with it.
var (
	// All packets of port 53 are seen, as each answer has a name: twice what a
	// resolver asks that asks 200 times a second for a whole house.
	dnsLimit = limit{"dns", 1000, 2000}
	// Packets of connections that nobody has answered yet, each of which makes
	// Suricata keep something: more than any client begins.
	newLimit = limit{"new", 2000, 4000}
	// Ends that come after the head. For want of one, the next connection with
	// the same ports may lack its name.
	endLimit = limit{"end", 1000, 2000}
)

// limit is of packets a second and at once.
type limit struct {
	name  string
	rate  uint64
	burst uint32
}

// clientBuckets bounds memory: clients are told apart by a hash. However many
// addresses are made up, each has a limit.
const clientBuckets = 4096

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
	dns, begun, ends := r.limited(dnsLimit, "", logged), r.limited(newLimit, "", logged), r.limited(endLimit, "", logged)
	from, to := r.logHead(fromClient, dns, begun, ends), r.logHead(toClient, dns, begun, ends)
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
			head := from
			if key == expr.MetaKeyOIFNAME {
				head = to
			}
			for _, n := range p.networks {
				c.add(meta(key, expr.CmpOpEq, ifname(n.name)), verdict(expr.VerdictGoto, head.Name))
			}
		}
	}
	return r
}

// logHead makes the chain that logs what is to be seen of one direction.
func (r *ruleset) logHead(d direction, dns, begun, ends limited) *chain {
	known := r.chain("known_" + d.String())
	known.add(stateNew, verdict(expr.VerdictGoto, begun.of(d).Name))
	known.add(logged)
	head := r.chain("head_" + d.String())
	r.onlyTCPAndUDP(head)
	dns.add(head, d)
	// Connections that are not counted have 0 packets for ever: no head rather
	// than all of them.
	head.add(counted(expr.CtKeyPKTS, expr.CmpOpGt, 0), counted(expr.CtKeyPKTS, expr.CmpOpLt, headPackets),
		counted(expr.CtKeyBYTES, expr.CmpOpLt, headBytes), verdict(expr.VerdictGoto, known.Name))
	head.add(tcp, flags(tcpFIN|tcpRST), verdict(expr.VerdictGoto, ends.of(d).Name))
	return head
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
		suffix, copied := strconv.Itoa(i), duplicate(n.mirror)
		dns, edges := r.limited(dnsLimit, suffix, copied), r.limited(newLimit, suffix, copied)
		from, to := r.mirrorHead(fromClient, suffix, copied, dns, edges, v4, v6), r.mirrorHead(toClient, suffix, copied, dns, edges, v4, v6)
		for j, d := range n.hooks {
			in := r.baseChain(fmt.Sprintf("in%d_%d", i, j), nftables.ChainHookIngress, mirrorPriority, d.name)
			in.add(mac(destinationMAC, n.mac), verdict(expr.VerdictGoto, from.Name))
			out := r.baseChain(fmt.Sprintf("out%d_%d", i, j), nftables.ChainHookEgress, mirrorPriority, d.name)
			out.add(mac(sourceMAC, n.mac), verdict(expr.VerdictGoto, to.Name))
		}
	}
	return r
}

// mirrorHead makes the chain that copies what is to be seen of one direction of a
// network.
func (r *ruleset) mirrorHead(d direction, suffix string, copied []expr.Any, dns, edges limited, v4, v6 *nftables.Set) *chain {
	// What begins or ends a connection: the next one of the same ports starts
	// with a new quota.
	edge := r.chain("edge" + suffix + "_" + d.String())
	edge.add(protocol(unix.ETH_P_IP), key4, dynset(v4, dynsetDelete))
	edge.add(protocol(unix.ETH_P_IPV6), key6, dynset(v6, dynsetDelete))
	edge.add(verdict(expr.VerdictGoto, edges.of(d).Name))
	head := r.chain("head" + suffix + "_" + d.String())
	r.onlyTCPAndUDP(head)
	head.add(tcp, flags(tcpFIN|tcpSYN|tcpRST), verdict(expr.VerdictGoto, edge.Name))
	dns.add(head, d)
	// A limit that lets one a minute through beyond its burst.
	packets := &expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeMinute, Burst: quotaPackets}
	quota := &expr.Quota{Bytes: quotaBytes}
	head.add(protocol(unix.ETH_P_IP), key4, dynset(v4, unix.NFT_DYNSET_OP_ADD, packets, quota), copied)
	head.add(protocol(unix.ETH_P_IPV6), key6, dynset(v6, unix.NFT_DYNSET_OP_ADD, packets, quota), copied)
	return head
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

// direction is a way of packets.
type direction bool

const (
	fromClient direction = true
	toClient   direction = false
)

func (d direction) String() string {
	if d == fromClient {
		return "from"
	}
	return "to"
}

// limited are chains that have packets seen up to the limit of who sends or of who
// receives them.
type limited struct{ sender, senderAddress, receiver *chain }

// limited makes the chains of a limit. Who sends is told by the MAC where there is one,
// as addresses are made up more easily.
func (r *ruleset) limited(l limit, suffix string, seen []expr.Any) limited {
	name := func(of string) string { return l.name + suffix + "_" + of }
	c := limited{r.chain(name("from")), r.chain(name("from_address")), r.chain(name("to"))}
	from, to := r.dynamicSet(l.name+"_from", clientBuckets, nftables.TypeMark), r.dynamicSet(l.name+"_to", clientBuckets, nftables.TypeMark)
	add := func(c *chain, clients *nftables.Set, parts []expr.Any, base expr.PayloadBase, offset, length uint32) {
		c.add(parts, []expr.Any{payload(base, offset, length, register), &expr.Hash{
			SourceRegister: register, DestRegister: register, Length: length, Modulus: clientBuckets, Type: expr.HashTypeJenkins,
		}}, dynset(clients, unix.NFT_DYNSET_OP_ADD, &expr.Limit{
			Type: expr.LimitTypePkts, Rate: l.rate, Unit: expr.LimitTimeSecond, Burst: l.burst,
		}), seen)
	}
	c.sender.add(meta(expr.MetaKeyIIFTYPE, expr.CmpOpNeq, binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER)),
		verdict(expr.VerdictGoto, c.senderAddress.Name))
	add(c.sender, from, nil, expr.PayloadBaseLLHeader, sourceMAC, macLength)
	add(c.senderAddress, from, protocol(unix.ETH_P_IP), expr.PayloadBaseNetworkHeader, source4, 4)
	add(c.senderAddress, from, protocol(unix.ETH_P_IPV6), expr.PayloadBaseNetworkHeader, source6, 16)
	add(c.receiver, to, protocol(unix.ETH_P_IP), expr.PayloadBaseNetworkHeader, destination4, 4)
	add(c.receiver, to, protocol(unix.ETH_P_IPV6), expr.PayloadBaseNetworkHeader, destination6, 16)
	return c
}

// of is the chain of the client, for packets of a direction.
func (l limited) of(d direction) *chain {
	if d == fromClient {
		return l.sender
	}
	return l.receiver
}

// add has the packets of port 53 go to the chain of who asks, wherever the server is.
func (l limited) add(head *chain, d direction) {
	asks := l.sender
	if d == toClient {
		asks = l.senderAddress
	}
	head.add(port(sourcePort, 53), verdict(expr.VerdictGoto, l.receiver.Name))
	head.add(port(destinationPort, 53), verdict(expr.VerdictGoto, asks.Name))
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
	destinationMAC, sourceMAC   = 0, macLength // in that of Ethernet
)

// stateNew matches packets of connections that are not answered yet.
var stateNew = []expr.Any{
	&expr.Ct{Key: expr.CtKeySTATE, Register: register},
	&expr.Bitwise{
		SourceRegister: register, DestRegister: register, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4),
	},
	compare(expr.CmpOpNeq, make([]byte, 4)),
}

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
