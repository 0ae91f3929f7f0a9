/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of one vCPU, 512 KiB of RAM and a few bytes of real-mode code: for the paths between
 * KVM and the buses that only a running guest shows. Needs /dev/kvm; exits 77 without it. */
#ifndef DUET_TESTS_TINY_H
#define DUET_TESTS_TINY_H

#include "bus/bus.h"
#include "kvm/internal.h"

#include <stdio.h>
#include <stdlib.h>

#define TINY_CODE      0x1000U /* where the code is loaded and starts */
#define TINY_DATA      0x2000U /* ds:0x2000 by convention of the payloads */
#define TINY_HANDLER   0x1800U /* interrupt handler, if a payload has one */
#define TINY_STACK     0x8000U
#define TINY_RAM       0x80000U
#define TINY_MMIO      0xa0000U /* fs: of the payload points here, outside RAM */
#define TINY_MMIO_SIZE 0x2000U
#define TINY_DONE      0xf4  /* port: OUT ends the run, AL says how */
#define TINY_TEST      0x300 /* ports of the recording device */
#define TINY_TEST_SIZE 0x40

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);             \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

struct access {
	uint64_t offset, value;
	unsigned size;
	bool write, port;
};

struct tiny {
	struct kvm_host host;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct bus *ports, *mmio;
	struct memory memory;
	struct bus_range done_range, port_range, mmio_range;
	int done;              /* AL of the last write to TINY_DONE, else -1 */
	uint64_t answer;       /* what reads of the recording device give */
	struct access log[64]; /* what it saw */
	unsigned logged;
	void (*touched)(struct tiny *tiny, const struct access *access); /* may be null */
	void *opaque;
};

void tiny_open(struct tiny *tiny, enum kvm_vm_irqchip irqchip);
/* Without interrupts, with TINY_MORE_PAGES at TINY_MORE too, in 32-bit protected mode; @ring: as
 * the option. */
#define TINY_MORE       0x1000000U
#define TINY_MORE_PAGES 16384U
void tiny_open_flat(struct tiny *tiny, bool ring);
void tiny_close(struct tiny *tiny);
void tiny_load(struct tiny *tiny, uint32_t address, const void *code, size_t length);
/* Runs until TINY_DONE was written (KVM_RUN_AGAIN) or the vCPU ended otherwise. */
enum kvm_run_result tiny_run(struct tiny *tiny);
uint8_t *tiny_ram(struct tiny *tiny, uint32_t address);
/* A LAPIC as firmware leaves it: software-enabled, with the host's CPUID and in x2APIC mode. */
void tiny_enable_lapic(struct tiny *tiny);
void tiny_set_vector(struct tiny *tiny, unsigned vector, uint32_t handler);
void tiny_ok(const char *name);

#endif
