/* SPDX-License-Identifier: Apache-2.0 */
#include "whole.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "machine/internal.h"
#include "tiny.h"

#include <elf.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#define CODE_AT    0x1000
#define NOTE_AT    0x800
#define NOTE_SIZE  24
#define NOTE_PVH   18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define LOOK_NS    2000000
#define PATIENCE_S 120

struct loop *whole_loop;

const uint8_t whole_halting[3] = {
	0xf4,       /* 1: hlt */
	0xeb, 0xfd, /* jmp 1b */
};

bool whole_open(void)
{
	struct kvm_host host;
	struct error err = {0};

	if (kvm_host_open(&host, &err) < 0) {
		printf("%s\n", err.text);
		return false;
	}
	kvm_host_close(&host);
	/* What guests do wrong and what kernels are not there is said for each of them. */
	log_set_level(LOG_LEVEL_ERROR);
	CHECK(loop_new(&whole_loop, 16, &err) == 0);
	return true;
}

void whole_close(void)
{
	loop_free(whole_loop);
}

void whole_config(struct machine_config *config, const char *kernel)
{
	machine_config_init(config);
	config->kernel = strdup(kernel);
	config->memory = 16ULL << 20;
	config->cpus = 2;
}

struct machine *whole_new(
	struct machine_config *config, const struct machine_owner *owner, bool bare)
{
	struct machine *machine;
	struct error err = {0};
	int ret = machine_new(&machine, config, owner, &err);

	machine_config_free(config);
	if (ret == 0)
		ret = bare ? machine_build_bare(machine, &err) : machine_build(machine, &err);
	if (ret < 0) {
		printf("machine: %s\n", err.text);
		exit(1);
	}
	return machine;
}

struct look {
	struct loop_timer timer;
	bool (*done)(void *opaque);
	void *opaque;
};

static void look(struct loop_timer *timer)
{
	struct look *look = container_of(timer, struct look, timer);

	if (look->done(look->opaque))
		loop_stop(whole_loop);
	else
		loop_timer_after(whole_loop, timer, LOOK_NS);
}

void whole_run_until(bool (*done)(void *opaque), void *opaque)
{
	struct look own = {.timer.expired = look, .done = done, .opaque = opaque};

	loop_timer_after(whole_loop, &own.timer, LOOK_NS);
	CHECK(loop_run(whole_loop) == 0);
	loop_timer_stop(&own.timer);
}

static bool has_ended(void *opaque)
{
	return machine_state(opaque) == MACHINE_ENDED;
}

void whole_end(struct machine *machine)
{
	alarm(PATIENCE_S);
	machine_end(machine, MACHINE_KILLED, "test");
	whole_run_until(has_ended, machine);
	alarm(0);
	CHECK(!machine_is_stuck(machine));
}

uint64_t whole_resets(struct machine *machine)
{
	json_t *stats = machine_stats(machine);
	const json_t *resets = json_object_get(json_object_get(stats, "machine"), "resets");
	uint64_t count = (uint64_t)json_integer_value(resets);

	CHECK(json_is_integer(resets));
	json_decref(stats);
	return count;
}

static void put_program(uint8_t *file, unsigned index, Elf64_Phdr program)
{
	memcpy(file + sizeof(Elf64_Ehdr) + index * sizeof(program), &program, sizeof(program));
}

static void put_headers(uint8_t *file)
{
	const Elf64_Ehdr header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					   ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = WHOLE_KERNEL,
		.e_phoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2};

	memcpy(file, &header, sizeof(header));
	put_program(file, 0,
		(Elf64_Phdr){.p_type = PT_LOAD,
			.p_offset = CODE_AT,
			.p_paddr = WHOLE_KERNEL,
			.p_filesz = 4096,
			.p_memsz = 4096});
	put_program(file, 1,
		(Elf64_Phdr){.p_type = PT_NOTE, .p_offset = NOTE_AT, .p_filesz = NOTE_SIZE});
	store_le32(file + NOTE_AT, 4);
	store_le32(file + NOTE_AT + 4, 8);
	store_le32(file + NOTE_AT + 8, NOTE_PVH);
	memcpy(file + NOTE_AT + 12, "Xen", 4);
	store_le64(file + NOTE_AT + 16, WHOLE_KERNEL);
}

void whole_kernel(char *path, const void *code, size_t length)
{
	static uint8_t file[CODE_AT + 4096];
	int fd = mkstemp(path);

	CHECK(fd >= 0 && length <= 4096);
	memset(file, 0, sizeof(file));
	put_headers(file);
	memcpy(file + CODE_AT, code, length);
	CHECK(write(fd, file, sizeof(file)) == sizeof(file));
	close(fd);
}
