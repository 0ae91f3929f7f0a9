# SPDX-License-Identifier: Apache-2.0
# For people: make demo, make test, make soak, make bench, make lint, make fuzz, make shell.
# The build itself is Meson's (meson.build).

BUILD := build
.PHONY: all help deps build demo test soak bench experiments report lint fuzz shell clean

all: build

help:
	@echo "make demo    boot a stock Debian kernel under duet and show what it does"
	@echo "make test    all tests (in the nested lab without hardware virtualization)"
	@echo "make soak    the same with its long matrices: some hours"
	@echo "make bench   performance, beside the peers that are installed"
	@echo "make experiments  measure what the textbook claims of the I/O spectrum"
	@echo "make report  $(BUILD)/report/index.html: what the experiments found, with plots"
	@echo "make shell   an interactive guest"
	@echo "make lint    formatting, clang-tidy, layers"
	@echo "make fuzz    each fuzz target for a minute (SECONDS_EACH=60)"
	@echo "make build   build/duet alone"

deps:
	@lab/deps

$(BUILD)/build.ninja: | deps
	@echo "==> configuring"
	@meson setup $(BUILD) -Dstatic_link=true >$(BUILD).log 2>&1 || \
		{ cat $(BUILD).log; echo "duet: configuring failed; see above"; exit 1; }
	@mv $(BUILD).log $(BUILD)/configure.log

build: deps $(BUILD)/build.ninja
	@echo "==> building"
	@ninja -C $(BUILD) --quiet

demo: build
	@lab/demo

test: build
	@tests/run

soak: build
	@DUET_SOAK=1 DUET_MANY=$(or $(DUET_MANY),50) tests/run

bench: build
	@lab/bench

experiments: build
	@lab/lab experiment all

# Experiments that have a record are not run again: make experiments does that.
report: build
	@[ -n "$$(ls $(BUILD)/experiments/*.json 2>/dev/null)" ] || lab/lab experiment all
	@lab/lab report

shell: build
	@lab/demo --shell

lint: build
	@tests/lint/run

fuzz: deps
	@fuzz/run --seconds $(or $(SECONDS_EACH),60)

clean:
	rm -rf $(BUILD) build-*
