package ubus

// Type is the type of a blobmsg value; its number is the one on the wire.
type Type uint8

const (
	TypeNull   Type = 0
	TypeArray  Type = 1
	TypeTable  Type = 2
	TypeString Type = 3
	TypeInt64  Type = 4
	TypeInt32  Type = 5
	TypeInt16  Type = 6
	TypeBool   Type = 7 // one byte, also int8
	TypeDouble Type = 8
	// TypeAnyInt occurs in signatures only: an argument that takes any integer.
	TypeAnyInt Type = 9
)

// String is the name that `ubus -v list` prints for an argument of this type.
func (t Type) String() string {
	switch t {
	case TypeBool:
		return "Boolean"
	case TypeInt32:
		return "Integer"
	case TypeString:
		return "String"
	case TypeArray:
		return "Array"
	case TypeTable:
		return "Table"
	}
	return "(unknown)"
}

// Int8 is a one-byte value other than 0 and 1, which are bool.
type Int8 int8

// TypeOf is the type that v is sent as; false if v is none of the Go types of blobmsg values (see Table).
func TypeOf(v any) (Type, bool) {
	switch v.(type) {
	case nil:
		return TypeNull, true
	case Array:
		return TypeArray, true
	case Table:
		return TypeTable, true
	case string:
		return TypeString, true
	case int64:
		return TypeInt64, true
	case int32:
		return TypeInt32, true
	case int16:
		return TypeInt16, true
	case bool, Int8:
		return TypeBool, true
	case float64:
		return TypeDouble, true
	}
	return 0, false
}
