package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pakon/daemon/api/timespec"
	"pakon/daemon/store"
	"pakon/ubus"
)

// The bounds of arguments.
const (
	maxListed = store.MaxTerms // MACs or hostnames in one call
	maxString = 255            // bytes of one name
	maxURL    = 4096           // bytes of a URL, of which its host is meant
	maxCursor = 1024           // bytes of a cursor
	maxLogged = 100            // bytes of a wrong value in the log
)

// argumentError is a wrong argument of a call.
type argumentError struct {
	name  string // the argument
	value string // what was given, shortened
	want  string // what would be right
}

func (e *argumentError) Error() string {
	return fmt.Sprintf("argument %s: %s: want %s", e.name, e.value, e.want)
}

func wrong(name string, value any, want string) error {
	s := fmt.Sprint(value)
	if t, ok := value.(string); ok {
		s = t
	}
	if len(s) > maxLogged {
		s = strings.ToValidUTF8(s[:maxLogged], "") + "..."
	}
	return &argumentError{name, s, want}
}

// given returns an argument; one that is null or an empty string is absent, as
// forms and scripts send what was not filled in.
func given(args ubus.Table, name string) (any, bool) {
	v, ok := args.Get(name)
	if v == nil || v == "" {
		return nil, false
	}
	return v, ok
}

// boolean reads a bool, the numbers 0 and 1, or one of their usual spellings.
func boolean(args ubus.Table, name string, otherwise bool) (bool, error) {
	v, ok := given(args, name)
	if !ok {
		return otherwise, nil
	}
	switch strings.ToLower(fmt.Sprint(v)) {
	case "1", "true", "yes", "on":
		return true, nil
	case "0", "false", "no", "off":
		return false, nil
	}
	return false, wrong(name, v, "true or false")
}

// number is the integer that a number is, of any width; a double, as JavaScript has
// them, is cut to whole numbers.
func number(v any) (n int64, ok bool) {
	f, ok := v.(float64)
	if !ok {
		return ubus.AsInt(v)
	}
	const limit = 1 << 63
	if !(-limit <= f && f < limit) { // nor is NaN
		return 0, false
	}
	return int64(f), true
}

// integer reads a number, or digits in a string.
func integer(args ubus.Table, name string, otherwise int64, want string) (int64, error) {
	v, ok := given(args, name)
	if !ok {
		return otherwise, nil
	}
	if n, ok := number(v); ok {
		return n, nil
	}
	if s, ok := v.(string); ok {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, wrong(name, v, want)
}

// choice reads a string that is one of a few.
func choice(args ubus.Table, name, otherwise string, choices ...string) (string, error) {
	v, ok := given(args, name)
	if !ok {
		return otherwise, nil
	}
	s, _ := v.(string)
	for _, c := range choices {
		if strings.EqualFold(s, c) {
			return c, nil
		}
	}
	return "", wrong(name, v, strings.Join(choices, ", "))
}

// bound is a bound of the window of time.
type bound struct {
	ms       int64 // Unix milliseconds, 0 if there is none
	relative bool  // it moves with the clock
}

// moment reads a time as Unix seconds, a number or digits in a string, or in
// any form of timespec.ParseTime. A negative number counts back from now, as
// "-7d" does.
func moment(args ubus.Table, name string, now time.Time, loc *time.Location) (bound, error) {
	const want = "Unix seconds, " + timespec.Forms
	v, ok := given(args, name)
	if !ok {
		return bound{}, nil
	}
	s, isString := v.(string)
	if n, ok := number(v); ok {
		s = strconv.FormatInt(n, 10)
	} else if !isString {
		return bound{}, wrong(name, v, want)
	}
	s = strings.TrimSpace(s)
	form := s
	if s != "" && strings.Trim(s, "0123456789") == "" {
		form = "@" + s
	}
	ms, err := timespec.ParseTime(form, now, loc)
	if err != nil {
		return bound{}, wrong(name, v, want)
	}
	relative := strings.HasPrefix(form, "-") || strings.EqualFold(form, "now")
	return bound{max(ms, 1), relative}, nil // 0 would mean no bound
}

// list reads an array of strings, or one string whose parts are separated by
// white space, each of at most so many bytes. It is nil only if the argument is absent
// or an empty array.
func list(args ubus.Table, name, want string, longest int) ([]string, error) {
	v, ok := given(args, name)
	if !ok {
		return nil, nil
	}
	var parts []string
	switch v := v.(type) {
	case string:
		parts = strings.Fields(v)
		if len(parts) == 0 {
			return nil, wrong(name, strconv.Quote(v), want)
		}
	case ubus.Array:
		for _, e := range v {
			s, ok := e.(string)
			if s = strings.TrimSpace(s); !ok || s == "" {
				return nil, wrong(name, fmt.Sprintf("%q in the list", fmt.Sprint(e)), want)
			}
			parts = append(parts, s)
		}
	default:
		return nil, wrong(name, v, want)
	}
	if len(parts) > maxListed {
		return nil, wrong(name, fmt.Sprintf("%d values", len(parts)), fmt.Sprintf("at most %d", maxListed))
	}
	for _, p := range parts {
		if len(p) > longest || !utf8.ValidString(p) {
			return nil, wrong(name, strings.ToValidUTF8(p, "?"), want)
		}
	}
	return parts, nil
}
