package main

import (
	"context"
	"io"
	"log/slog"
)

// newLogger logs lines without a time: procd hands them to syslog, which has
// its own. Of what comes by standard error procd makes errors, of the rest
// information: so errors go there, and nothing else.
func newLogger(stdout, stderr io.Writer) *slog.Logger {
	options := slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	return slog.New(byLevel{slog.NewTextHandler(stdout, &options), slog.NewTextHandler(stderr, &options)})
}

// byLevel gives a record to one of two handlers.
type byLevel struct {
	normal, trouble slog.Handler
}

func (h byLevel) of(level slog.Level) slog.Handler {
	if level >= slog.LevelError {
		return h.trouble
	}
	return h.normal
}

func (h byLevel) Enabled(ctx context.Context, level slog.Level) bool {
	return h.of(level).Enabled(ctx, level)
}

func (h byLevel) Handle(ctx context.Context, r slog.Record) error {
	return h.of(r.Level).Handle(ctx, r)
}

func (h byLevel) WithAttrs(attrs []slog.Attr) slog.Handler {
	return byLevel{h.normal.WithAttrs(attrs), h.trouble.WithAttrs(attrs)}
}

func (h byLevel) WithGroup(name string) slog.Handler {
	return byLevel{h.normal.WithGroup(name), h.trouble.WithGroup(name)}
}
