# Everything is built by Go alone; tests and the demo also use the programs that
# `make tools` installs.

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
DESTDIR   ?=
# The router's processor, for `make install`: GOOS=linux GOARCH=arm GOARM=7 make install DESTDIR=...
BIN       := bin
LDFLAGS   := -s -w -X main.version=$(VERSION)
BUILD     := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

SCRIPTS   := $(wildcard files/etc/init.d/* files/etc/uci-defaults/*) .ci/run tests/tools tests/fuzz tests/mirror tests/suricata8

# What hangs is ended after TIMEOUT; what a test waits for has limits of its own,
# which follow the machine's speed.
TIMEOUT   ?= 1h
# Tests wait most of their time: four of whole systems run at once, and as many
# packages where there are fewer processors. lint has vetted them.
PACKAGES  := $(shell n=$$(nproc); echo $$((n > 4 ? n : 4)))
TEST      := $(GO) test -shuffle=on -timeout $(TIMEOUT) -parallel 4 -p $(PACKAGES) -vet=off
GOFLAGS   := $(shell $(GO) env GOFLAGS)
# As the program is built: what it is made of is compiled once.
PLAIN     := CGO_ENABLED=0 GOFLAGS='$(GOFLAGS) -trimpath'
# SQLite is C made to Go: nearly all of its memory is none that the race detector
# looks at, and nearly all of the detector's time would go there.
RACE      := GOFLAGS='$(GOFLAGS) -gcflags=modernc.org/libc=-race=false -gcflags=modernc.org/sqlite/lib=-race=false'
# The detector is linked by a C compiler.
RACEFLAG   = $(shell command -v "$$($(GO) env CC)" >/dev/null && echo -race || echo 'no C compiler: tests run without the race detector' >&2)
# Packages with tests, and of these the ones that start goroutines. Whole systems run
# with the race detector in a target of their own, race.
TESTED     = $(sort $(dir $(shell find . -name '*_test.go')))
CONCURRENT = ${filter-out ./tests/%,${sort ${dir ${shell grep -rlE --include='*.go' '^[[:space:]]*go |\.Go\(|\.Parallel\(|AfterFunc\(' .}}}}

.PHONY: build demo test race test-suricata8 lint fuzz bench bench-capture size data install tools clean

build:
	$(BUILD) -o $(BIN)/pakon ./daemon
	$(BUILD) -o $(BIN)/ubus ./ubus/cmd/ubus

# A whole router at work, in network namespaces. ONCE=1 ends by itself.
demo: tools build
	$(GO) run ./tests/demo -pakon $(BIN)/pakon -ubus $(BIN)/ubus $(if $(ONCE),-once)

# The race detector where there can be races; daemon/store has much that is done
# without it.
test: tools build lint
	$(PLAIN) $(TEST) $(filter-out $(CONCURRENT),$(TESTED)) ./daemon/store
	$(RACE) $(TEST) $(RACEFLAG) $(filter $(CONCURRENT),$(TESTED))

# Whole systems with the race detector.
race: tools build
	$(RACE) $(TEST) $(RACEFLAG) ./tests/...

# What starts a real Suricata, with Suricata 8: needs root, Debian, and time once.
test-suricata8:
	@tests/suricata8

lint:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt: $$out"; exit 1; fi
	$(PLAIN) $(GO) vet ./...
	$(PLAIN) $(GO) tool staticcheck ./...
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); else echo 'no shellcheck: scripts are not checked'; fi

# What is found depends on chance, so it is no part of test, which tries the seeds
# and what was found before.
fuzz:
	$(PLAIN) tests/fuzz $(BIN)

bench: tools build
	GOARCH=arm GOARM=7 $(BUILD) -o $(BIN)/pakon-arm ./daemon
	$(GO) run ./tests/bench -pakon $(BIN)/pakon -arm $(BIN)/pakon-arm -out bench.json

# What capturing costs, in a router made of network namespaces: needs root.
bench-capture: tools build
	$(GO) run ./tests/capture -pakon $(BIN)/pakon -ubus $(BIN)/ubus -out bench.json

# What the binary weighs, and what of it each dependency. (What is larger than the
# file is memory that begins as zeros.)
size:
	@for arch in arm arm64 amd64; do \
		GOARCH=$$arch GOARM=7 $(BUILD) -o $(BIN)/pakon-$$arch ./daemon && \
		printf '%-6s %9d bytes\n' "$$arch" "$$(stat -c %s $(BIN)/pakon-$$arch)"; \
	done
	@CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/pakon-symbols ./daemon
	@$(GO) tool nm -size $(BIN)/pakon-symbols | awk '$$3 ~ /^[TtRrDd]$$/ && $$2 < 8000000 { \
		name = $$4; sub(/^[a-z]+:(.eq.)?[^A-Za-z]*/, "", name); \
		dir = ""; if (match(name, /^.*\//)) { dir = substr(name, 1, RLENGTH); name = substr(name, RLENGTH + 1) } \
		sub(/[.(\[].*/, "", name); n = split(dir name, part, "/"); \
		mod = (part[1] ~ /\./) ? part[1] "/" part[2] (n > 2 && part[1] ~ /github/ ? "/" part[3] : "") : (part[1] == "pakon" ? "pakon" : "the standard library"); \
		size[mod] += $$2 } \
		END { for (m in size) printf "%9d %s\n", size[m], m }' | sort -rn | head -20

# The lists of names and the vendors that are installed, of lists/data and of the
# IEEE's registry in Debian's package ieee-data.
data:
	$(GO) run ./lists/generate
	$(GO) run ./daemon/client/vendorgen

install: build
	install -d $(DESTDIR)/usr/bin
	install -m 755 $(BIN)/pakon $(DESTDIR)/usr/bin/pakon
	ln -sf pakon $(DESTDIR)/usr/bin/pakon-show
	cp -R files/etc files/usr $(DESTDIR)/
	chmod 755 $(DESTDIR)/etc/init.d/pakon $(DESTDIR)/etc/init.d/pakon-monitor $(DESTDIR)/etc/init.d/suricata-pakon
	install -d $(DESTDIR)/etc/pakon/client-new.d $(DESTDIR)/usr/share/pakon-light/domains_replace $(DESTDIR)/usr/share/pakon-light/domains_ignore
	install -d -m 700 $(DESTDIR)/srv/pakon

# What tests and the demo need besides Go; as root on Debian it is installed.
tools:
	@tests/tools

clean:
	rm -rf $(BIN) bench.json
