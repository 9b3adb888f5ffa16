package ubus

import (
	"context"
	"fmt"
)

// ObjectInfo describes an object on the bus, as far as the caller may use it.
type ObjectInfo struct {
	Path    string
	ID      uint32
	Type    uint32
	Methods []MethodInfo
}

// MethodInfo describes a method.
type MethodInfo struct {
	Name string
	Args []Arg
}

// Arg is a named argument of a method and its type.
type Arg struct {
	Name string
	Type Type
}

// Lookup lists objects by path: the one of exactly that path, those whose path begins with what stands before a final
// '*', or, with "", all. StatusNotFound if there are none; the list can yet be empty for an object that is there but
// has no signature or no method that the caller may use.
func (c *Client) Lookup(ctx context.Context, pattern string) ([]ObjectInfo, error) {
	s := c.current()
	if s == nil {
		return nil, fmt.Errorf("look up %q: %w", pattern, errSessionOver)
	}
	var all []ObjectInfo
	err := s.lookup(ctx, pattern, func(a *Attrs) {
		info := ObjectInfo{}
		info.Path, _ = a.String(AttrObjPath)
		info.ID, _ = a.Uint32(AttrObjID)
		info.Type, _ = a.Uint32(AttrObjType)
		sig, _ := a.Nested(AttrSignature)
		info.Methods = parseSignature(sig)
		all = append(all, info)
	})
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", pattern, err)
	}
	return all, nil
}

func (s *session) lookup(ctx context.Context, pattern string, f func(*Attrs)) error {
	return s.do(ctx, request{
		typ: MsgLookup,
		body: func(b []byte) []byte {
			if pattern != "" {
				b = AppendString(b, AttrObjPath, pattern)
			}
			return b
		},
		data: func(a *Attrs) error { f(a); return nil },
	})
}

// find returns the id of the object of exactly that path.
func (s *session) find(ctx context.Context, path string) (uint32, error) {
	if path == "" {
		return 0, StatusInvalidArgument
	}
	var id uint32
	found := false
	err := s.lookup(ctx, path, func(a *Attrs) {
		if p, _ := a.String(AttrObjPath); p == path {
			id, found = a.Uint32(AttrObjID)
		}
	})
	if err == nil && !found {
		err = StatusNotFound
	}
	return id, err
}

// parseSignature reads what it understands of a signature.
func parseSignature(b []byte) []MethodInfo {
	t, err := Decode(b)
	if err != nil {
		return nil
	}
	methods := make([]MethodInfo, 0, len(t))
	for _, f := range t {
		args, ok := f.Value.(Table)
		if !ok {
			continue
		}
		m := MethodInfo{Name: f.Name}
		for _, a := range args {
			if n, ok := AsInt(a.Value); ok {
				m.Args = append(m.Args, Arg{a.Name, Type(n)})
			}
		}
		methods = append(methods, m)
	}
	return methods
}

func appendSignature(b []byte, methods []Method) ([]byte, error) {
	var sig Builder
	for _, m := range methods {
		sig.Table(m.Name)
		for _, a := range m.Args {
			sig.Int(a.Name, int64(a.Type))
		}
		sig.Close()
	}
	if err := sig.Err(); err != nil {
		return b, err
	}
	return append(b, sig.Bytes()...), nil
}
