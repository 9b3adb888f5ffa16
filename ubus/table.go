package ubus

// Table is an ordered list of named values. The values are nil, Array, Table, string, int64, int32, int16, bool, Int8
// (one byte other than 0 and 1) and float64. A name may occur more than once.
type Table []Field

// Field is one named value of a Table.
type Field struct {
	Name  string
	Value any
}

// Array is a list of values of the types that Table names; they may differ.
type Array []any

// Get returns the first value of that name, whatever its type.
func (t Table) Get(name string) (any, bool) {
	for i := range t {
		if t[i].Name == name {
			return t[i].Value, true
		}
	}
	return nil, false
}

// The typed getters below see, as a libubus policy does, only values of their type: a value of another type is as
// absent, and the first of several that fits is taken.

// String returns the string of that name.
func (t Table) String(name string) (string, bool) { return typed[string](t, name) }

// Table returns the table of that name.
func (t Table) Table(name string) (Table, bool) { return typed[Table](t, name) }

// Array returns the array of that name.
func (t Table) Array(name string) (Array, bool) { return typed[Array](t, name) }

// Double returns the double of that name.
func (t Table) Double(name string) (float64, bool) { return typed[float64](t, name) }

func typed[T any](t Table, name string) (T, bool) {
	for i := range t {
		if t[i].Name == name {
			if v, ok := t[i].Value.(T); ok {
				return v, true
			}
		}
	}
	var zero T
	return zero, false
}

// Int returns the integer of that name, of any width; a bool is none.
func (t Table) Int(name string) (int64, bool) {
	for i := range t {
		if t[i].Name == name {
			if v, ok := AsInt(t[i].Value); ok {
				return v, true
			}
		}
	}
	return 0, false
}

// Bool returns the truth of that name: a bool, or an integer, which is true when not 0.
func (t Table) Bool(name string) (v, ok bool) {
	for i := range t {
		if t[i].Name != name {
			continue
		}
		if b, ok := t[i].Value.(bool); ok {
			return b, true
		}
		if n, ok := AsInt(t[i].Value); ok {
			return n != 0, true
		}
	}
	return false, false
}

// AsInt returns the integer that v is, of any width.
func AsInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int32:
		return int64(v), true
	case int16:
		return int64(v), true
	case Int8:
		return int64(v), true
	}
	return 0, false
}
