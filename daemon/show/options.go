package show

import (
	"fmt"
	"io"
	"strings"
)

// option is one option of a command.
type option struct {
	short byte   // 0 if it has none
	long  string // without the dashes
	value string // what the value is called in the help; "" if there is none
	help  string
	set   func(value string) error
}

// usageError is a mistake in how a command was called.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// flag is an option without a value.
func flag(short byte, long, help string, to *bool) option {
	return option{short: short, long: long, help: help, set: func(string) error { *to = true; return nil }}
}

// parse reads arguments as getopt_long does: -s VALUE, -sVALUE, -As VALUE,
// --start VALUE, --start=VALUE, unambiguous beginnings of long names, and --
// before operands. A value may begin with a dash. There are no operands.
func parse(args []string, options []option) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			if len(args) > 0 {
				return usagef("unexpected argument %q", args[0])
			}
		case strings.HasPrefix(arg, "--"):
			args, err = parseLong(arg[2:], args, options)
		case len(arg) > 1 && arg[0] == '-':
			args, err = parseShort(arg[1:], args, options)
		default:
			err = usagef("unexpected argument %q", arg)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func parseLong(arg string, rest []string, options []option) ([]string, error) {
	name, value, hasValue := strings.Cut(arg, "=")
	o, err := findLong(name, options)
	if err != nil {
		return nil, err
	}
	switch {
	case o.value == "" && hasValue:
		return nil, usagef("option --%s takes no value", o.long)
	case o.value != "" && !hasValue:
		if len(rest) == 0 {
			return nil, usagef("option --%s needs a value: %s", o.long, o.value)
		}
		value, rest = rest[0], rest[1:]
	}
	return rest, o.set(value)
}

func findLong(name string, options []option) (*option, error) {
	var found *option
	for i := range options {
		o := &options[i]
		if o.long == name {
			return o, nil
		}
		if name != "" && strings.HasPrefix(o.long, name) {
			if found != nil {
				return nil, usagef("option --%s is ambiguous: --%s or --%s", name, found.long, o.long)
			}
			found = o
		}
	}
	if found == nil {
		return nil, usagef("unknown option %q", "--"+name)
	}
	return found, nil
}

func parseShort(letters string, rest []string, options []option) ([]string, error) {
	for i := range len(letters) {
		var o *option
		for j := range options {
			if options[j].short == letters[i] {
				o = &options[j]
			}
		}
		if o == nil {
			return nil, usagef("unknown option %q", "-"+letters[i:])
		}
		if o.value == "" {
			if err := o.set(""); err != nil {
				return nil, err
			}
			continue
		}
		value := letters[i+1:]
		if value == "" {
			if len(rest) == 0 {
				return nil, usagef("option -%c needs a value: %s", o.short, o.value)
			}
			value, rest = rest[0], rest[1:]
		}
		return rest, o.set(value)
	}
	return rest, nil
}

// printHelp writes what a command is for and its options.
func printHelp(w io.Writer, usage, about string, options []option, after string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s\n\n%s\n\noptions:\n", usage, about)
	for _, o := range options {
		left := "      --" + o.long
		if o.short != 0 {
			left = fmt.Sprintf("  -%c, --%s", o.short, o.long)
		}
		if o.value != "" {
			left += " " + o.value
		}
		fmt.Fprintf(&b, "%-28s %s\n", left, strings.ReplaceAll(o.help, "\n", "\n"+strings.Repeat(" ", 29)))
	}
	if after != "" {
		b.WriteString("\n" + after)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
