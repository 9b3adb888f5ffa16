package conntrack

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// onlyNews is a socket filter that lets through beginnings and ends, and of the
// changes in between those that end a TCP connection: each connection has half a
// dozen others, and to be woken up for them costs more than all the rest.
func onlyNews() ([]bpf.RawInstruction, error) {
	const (
		typeAt  = 4 // in struct nlmsghdr
		flagsAt = 6
		attrsAt = headerLen + nfgenLen
		valueAt = 4 // in struct nlattr
		all     = ^uint32(0)
	)
	// Netlink is of the machine's byte order, the filter's loads are big-endian.
	native := func(n uint16) uint32 {
		var b [2]byte
		binary.NativeEndian.PutUint16(b[:], n)
		return uint32(binary.BigEndian.Uint16(b[:]))
	}
	// inside finds an attribute: of the message, or within the one found before.
	inside := func(typ uint32, where bpf.Extension, skip uint8) []bpf.Instruction {
		return []bpf.Instruction{
			bpf.LoadConstant{Dst: bpf.RegX, Val: typ},
			bpf.LoadExtension{Num: where},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: skip},
		}
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: typeAt, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: native(msgNew), SkipTrue: 16}, // an end
		bpf.LoadAbsolute{Off: flagsAt, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: native(unix.NLM_F_CREATE | unix.NLM_F_EXCL), SkipTrue: 14}, // a beginning
		bpf.LoadConstant{Dst: bpf.RegA, Val: attrsAt},
	}
	program = append(program, inside(ctaProtoInfo, bpf.ExtNetlinkAttr, 11)...)
	program = append(program, inside(ctaProtoInfoTCP, bpf.ExtNetlinkAttrNested, 8)...)
	program = append(program, inside(ctaProtoInfoTCPState, bpf.ExtNetlinkAttrNested, 5)...)
	program = append(program,
		bpf.TAX{},
		bpf.LoadIndirect{Off: valueAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: TimeWait, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: Close, SkipTrue: 1},
		bpf.RetConstant{Val: all},
		bpf.RetConstant{Val: 0},
	)
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("assemble the filter of connections' events: %w", err)
	}
	return raw, nil
}
