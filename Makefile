# SPDX-License-Identifier: Apache-2.0
# For people: make help lists what there is.
# The build itself is Meson's (meson.build).

BUILD := build
PREFIX ?= /usr/local
DESTDIR ?=
UNITS := duet@.service duetd.service
# Where Pacemaker looks for agents, whatever the prefix.
OCF := /usr/lib/ocf
FLEET_UNITS := duet-move@.service duet-utilization.service
.PHONY: all help deps build install uninstall install-fleet uninstall-fleet demo test soak bench experiments report lint fuzz shell guest-kit deb clean

all: build

help:
	@echo "make demo         boot a stock Debian kernel under duet and show what it does"
	@echo "make test         all tests but the slow ones (in the nested lab without hardware virtualization)"
	@echo "make soak         the same with its long matrices: some hours"
	@echo "make bench        performance, beside the peers that are installed"
	@echo "make experiments  measure what the textbook claims"
	@echo "make report       $(BUILD)/report/index.html: what the experiments found, with plots"
	@echo "make shell        an interactive guest"
	@echo "make lint         formatting, layers, lengths, names, clang-tidy"
	@echo "make fuzz         each fuzz target for a minute (SECONDS_EACH=60)"
	@echo "make deb          Debian packages of all of it, in $(BUILD)/packages"
	@echo "make guest-kit    Debian packages for guests, in $(BUILD)/guest-kit"
	@echo "make build        builds alone: duet, duetd, duetctl and duet-oci, in $(BUILD)"
	@echo "make install      the programs, manual pages, units, bash's completion (PREFIX=/usr/local, DESTDIR=)"
	@echo "make uninstall    takes away what install put there (the same PREFIX and DESTDIR)"
	@echo "make install-fleet  Pacemaker's agent ocf:duet:VM, beside it (docs/fleet.md); uninstall-fleet"
	@echo "make clean        removes $(BUILD) and build-*"

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

# As whoever may write there: sudo make install builds nothing that make has built already.
install: $(BUILD)/duet $(BUILD)/duetd $(BUILD)/duetctl $(BUILD)/duet-oci $(BUILD)/duet-agent
	install -D -m 755 $(BUILD)/duet "$(DESTDIR)$(PREFIX)/bin/duet"
	install -D -m 755 $(BUILD)/duetctl "$(DESTDIR)$(PREFIX)/bin/duetctl"
	install -D -m 755 $(BUILD)/duetd "$(DESTDIR)$(PREFIX)/sbin/duetd"
	install -D -m 755 $(BUILD)/duet-oci "$(DESTDIR)$(PREFIX)/bin/duet-oci"
	install -D -m 755 $(BUILD)/duet-agent "$(DESTDIR)$(PREFIX)/libexec/duet/duet-agent"
	install -D -m 644 docs/duet-oci.1 "$(DESTDIR)$(PREFIX)/share/man/man1/duet-oci.1"
	install -D -m 644 docs/container.json "$(DESTDIR)$(PREFIX)/share/doc/duet/examples/config.json"
	install -D -m 644 $(BUILD)/src/cli/duet.1 "$(DESTDIR)$(PREFIX)/share/man/man1/duet.1"
	install -D -m 644 docs/duetctl.1 "$(DESTDIR)$(PREFIX)/share/man/man1/duetctl.1"
	install -D -m 644 docs/duetd.8 "$(DESTDIR)$(PREFIX)/share/man/man8/duetd.8"
	install -D -m 644 $(BUILD)/src/cli/duet "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/duet"
	install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system"
	for unit in $(UNITS); do \
		sed 's|@\(s*bin\)dir@|$(PREFIX)/\1|' packaging/$$unit.in >"$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit" && \
		chmod 644 "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit" || exit 1; \
	done

$(BUILD)/duet $(BUILD)/duetd $(BUILD)/duetctl $(BUILD)/duet-oci $(BUILD)/duet-agent:
	@$(MAKE) --no-print-directory build

uninstall:
	cd "$(DESTDIR)$(PREFIX)" && rm -f bin/duet bin/duetctl bin/duet-oci sbin/duetd \
		libexec/duet/duet-agent share/man/man1/duet-oci.1 share/doc/duet/examples/config.json \
		share/man/man1/duet.1 share/man/man8/duetd.8 share/man/man1/duetctl.1 \
		share/bash-completion/completions/duet $(UNITS:%=lib/systemd/system/%)

install-fleet:
	install -D -m 755 fleet/VM "$(DESTDIR)$(OCF)/resource.d/duet/VM"
	install -d "$(DESTDIR)$(OCF)/lib/duet"
	install -m 644 fleet/lib/*.sh "$(DESTDIR)$(OCF)/lib/duet"
	install -D -m 755 fleet/send "$(DESTDIR)$(PREFIX)/lib/duet/send"
	install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system"
	for unit in $(FLEET_UNITS); do \
		sed 's|@prefix@|$(PREFIX)|' fleet/$$unit.in >"$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit" && \
		chmod 644 "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit" || exit 1; \
	done

uninstall-fleet:
	rm -rf "$(DESTDIR)$(OCF)/resource.d/duet/VM" "$(DESTDIR)$(OCF)/lib/duet" "$(DESTDIR)$(PREFIX)/lib/duet/send"
	cd "$(DESTDIR)$(PREFIX)/lib/systemd/system" && rm -f $(FLEET_UNITS)

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

deb: build
	@packaging/packages $(BUILD) $(BUILD)/packages
	@guest/packages $(BUILD)/packages

guest-kit: deps
	@guest/packages $(BUILD)/guest-kit

lint: build
	@tests/lint/run

fuzz: deps
	@fuzz/run --seconds $(or $(SECONDS_EACH),60)

clean:
	rm -rf $(BUILD) build-*
