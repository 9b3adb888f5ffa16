package uci

import (
	"bytes"
	"strings"
)

// A reader cuts a file into lines and words as libuci does. It holds one line
// at a time; where a quoted value or a backslash goes on to the next line,
// that line is fetched behind what was read of this one.
type reader struct {
	rest []byte // what was not fetched yet
	buf  []byte // the current line or lines, newline included
	pos  int    // what was read of buf
	line int    // newlines fetched
}

// next starts the next line; false at the end of the file.
func (r *reader) next() bool {
	if len(r.rest) == 0 {
		return false
	}
	r.pos = 0
	r.fetch()
	return true
}

// fetch replaces what is unread of buf by the next line. libuci handles lines
// as C strings: a NUL hides what follows it in its line, the newline included,
// so that a tail of zeros, as a power cut leaves, is nothing.
func (r *reader) fetch() {
	r.buf = r.buf[:r.pos]
	for len(r.rest) > 0 {
		end := len(r.rest)
		newline := bytes.IndexByte(r.rest, '\n')
		if newline >= 0 {
			end = newline + 1
		}
		line := r.rest[:end]
		r.rest = r.rest[end:]
		nul := bytes.IndexByte(line, 0)
		if nul < 0 {
			r.buf = append(r.buf, line...)
			if newline >= 0 {
				r.line++
			}
			return
		}
		r.buf = append(r.buf, line[:nul]...)
		if nul == 0 {
			return
		}
	}
}

// cur is the next unread byte of the line, 0 at its end.
func (r *reader) cur() byte {
	if r.pos < len(r.buf) {
		return r.buf[r.pos]
	}
	return 0
}

// cut leaves out the rest of the line.
func (r *reader) cut() { r.buf = r.buf[:r.pos] }

func (r *reader) errorf(msg string) error {
	return &ParseError{Line: r.line, Byte: r.pos, Msg: msg}
}

func (r *reader) skipSpace() {
	for isSpace(r.cur()) {
		r.pos++
	}
}

// isSpace is C's isspace.
func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// keyword returns the next word, which ends at a blank or tab, without going
// past it; empty at the end of the line.
func (r *reader) keyword() string {
	word := strings.TrimLeft(string(r.buf[r.pos:]), " \t")
	if end := strings.IndexAny(word, " \t"); end >= 0 {
		word = word[:end]
	}
	return word
}

// skipKeyword goes past the word that keyword returned and the blank behind
// it; false if the line ends with the word.
func (r *reader) skipKeyword(word string) bool {
	end := r.pos + bytes.Index(r.buf[r.pos:], []byte(word)) + len(word)
	if end >= len(r.buf) {
		return false
	}
	r.pos = end + 1
	return true
}

// arg reads one argument: pieces that are plain, in single quotes or in double
// quotes, up to white space. It is empty at the end of the line, at a comment
// and at the ';' between two commands.
func (r *reader) arg() (string, error) {
	r.skipSpace()
	if r.cur() == ';' {
		r.pos++
		return "", nil
	}
	var out []byte
	start := r.pos
	for {
		var err error
		switch r.cur() {
		case '\'':
			out, err = r.quoted(out, '\'')
		case '"':
			out, err = r.quoted(out, '"')
		case '#':
			r.cut()
		case ';':
			// libuci ends the argument in place: where nothing (quotes, a
			// backslash) made it shorter, its end falls on the ';', and the
			// rest of the line is lost.
			if len(out) == r.pos-start {
				r.cut()
			}
			return string(out), nil
		case '\\':
			if r.escape() {
				out = append(out, r.cur())
				r.pos++
			}
		case 0:
		default:
			out = append(out, r.cur())
			r.pos++
		}
		if err != nil {
			return "", err
		}
		if r.cur() == 0 {
			return string(out), nil
		}
		if isSpace(r.cur()) {
			r.pos++
			return string(out), nil
		}
	}
}

// quoted appends what stands between two quotes, over as many lines as it
// takes; only double quotes know the backslash.
func (r *reader) quoted(out []byte, quote byte) ([]byte, error) {
	r.pos++
	for {
		switch c := r.cur(); {
		case c == quote:
			r.pos++
			return out, nil
		case c == 0:
			if r.fetch(); r.cur() == 0 {
				return nil, r.errorf("EOF with unterminated " + string(quote))
			}
			continue
		case c == '\\' && quote == '"':
			if !r.escape() {
				continue
			}
		}
		out = append(out, r.cur())
		r.pos++
	}
}

// escape goes past a backslash. It is true if the byte behind it is to be
// taken as it is; a backslash at the end of a line joins the next to it.
func (r *reader) escape() bool {
	r.pos++
	switch string(r.buf[r.pos:]) {
	case "", "\n", "\r\n":
		r.fetch()
		return false
	}
	return true
}
