# Everything is built by Go alone; tests and the demo also use the programs that
# `make tools` installs.

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
DESTDIR   ?=
# The router's processor, for `make install`: GOOS=linux GOARCH=arm GOARM=7 make install DESTDIR=...
BIN       := bin
LDFLAGS   := -s -w -X main.version=$(VERSION)
BUILD     := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

FUZZTIME  ?= 5000x
SCRIPTS   := $(wildcard files/etc/init.d/* files/etc/uci-defaults/*) .ci/run tests/tools

.PHONY: build demo test lint fuzz bench bench-capture size data install tools clean

build:
	$(BUILD) -o $(BIN)/pakon ./daemon
	$(BUILD) -o $(BIN)/ubus ./ubus/cmd/ubus

# A whole router at work, in network namespaces. ONCE=1 ends by itself.
demo: tools build
	$(GO) run ./tests/demo -pakon $(BIN)/pakon -ubus $(BIN)/ubus $(if $(ONCE),-once)

test: tools build lint
	$(GO) test -shuffle=on -race ./...
	$(GO) test -shuffle=on ./daemon/store
	$(MAKE) --no-print-directory fuzz

lint:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt: $$out"; exit 1; fi
	$(GO) vet ./...
	GOARCH=arm GOARM=7 $(GO) vet ./daemon/... ./suricata/... ./ubus/... ./uci/... ./lists/...
	$(GO) tool staticcheck ./...
	shellcheck $(SCRIPTS)

# Each fuzz target, briefly: the seeds and a few thousand mutations. (By number:
# with a time, Go 1.26 fails if it is over at the wrong moment, golang/go#75804.)
fuzz:
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		dir=$$(dirname "$$file"); \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "fuzz $$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" >$(BIN)/fuzz.log 2>&1 || { cat $(BIN)/fuzz.log; exit 1; }; \
		done || exit 1; \
	done

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
