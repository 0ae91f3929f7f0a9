/* SPDX-License-Identifier: Apache-2.0 */
#include "touch.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#define CHUNKS 1024 /* 16 GiB; the last one has what is beyond */

/* Of QEMU's plugin interface, the same in versions 1 and 4. */
struct qemu_plugin_hwaddr;
typedef uint32_t meminfo_t;
typedef void memory_fn(unsigned int vcpu, meminfo_t info, uint64_t address, void *data);
enum {
	NO_REGISTERS = 0,
	READ_AND_WRITE = 3
};
void qemu_plugin_register_vcpu_mem_cb(
	struct qemu_plugin_insn *insn, memory_fn *fn, int registers, int accesses, void *data);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(meminfo_t info, uint64_t address);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *address);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *address);

/* Each vCPU's thread adds to its own; whoever asks may be one behind. */
static uint64_t touched[TOUCH_CPUS][CHUNKS];

static void note(unsigned int vcpu, meminfo_t info, uint64_t address, void *data)
{
	const struct qemu_plugin_hwaddr *where = qemu_plugin_get_hwaddr(info, address);
	uint64_t chunk;

	(void)data;
	if (!where || qemu_plugin_hwaddr_is_io(where) || vcpu >= TOUCH_CPUS)
		return;
	chunk = qemu_plugin_hwaddr_phys_addr(where) / TOUCH_CHUNK;
	touched[vcpu][chunk < CHUNKS ? chunk : CHUNKS - 1]++;
}

void touch_watch(struct qemu_plugin_insn *insn)
{
	qemu_plugin_register_vcpu_mem_cb(insn, note, NO_REGISTERS, READ_AND_WRITE, NULL);
}

void touch_answer(FILE *out, unsigned int vcpus)
{
	fprintf(out, "{\"chunk\":%lu,\"vcpus\":[", TOUCH_CHUNK);
	for (unsigned int vcpu = 0; vcpu < vcpus && vcpu < TOUCH_CPUS; vcpu++) {
		const char *comma = "";

		fputs(vcpu ? ",{" : "{", out);
		for (unsigned int i = 0; i < CHUNKS; i++) {
			uint64_t count = *(volatile uint64_t *)&touched[vcpu][i];

			if (!count)
				continue;
			fprintf(out, "%s\"%u\":%" PRIu64, comma, i, count);
			comma = ",";
		}
		fputs("}", out);
	}
	fputs("]}\n", out);
}
