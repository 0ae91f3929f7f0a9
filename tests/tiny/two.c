/* SPDX-License-Identifier: Apache-2.0 */
/* Two machines at once in one process: each has its own console, its own life and its own end. */
#include "tiny.h"
#include "whole.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LETTERS 200
#define MORE    20 /* resets of one, after the end of the other */

/* Letters at the serial port, then a reset. */
static const uint8_t typing[] = {
	0xb9, LETTERS, 0, 0, 0, /* mov $LETTERS, %ecx */
	0x66, 0xba, 0xf8, 0x03, /* mov $0x3f8, %dx */
	0xb0, 'x',              /* 1: mov $'x', %al */
	0xee,                   /* out %al, %dx */
	0xe2, 0xfb,             /* loop 1b */
	0xb0, 0xfe,             /* mov $0xfe, %al */
	0xe6, 0x64,             /* out %al, $0x64 */
	0xeb, 0xfe,             /* 2: jmp 2b */
};
#define LETTER_AT 10

struct one {
	char letter;
	char kernel[32];
	int out[2]; /* the console's pipe */
	struct machine *machine;
	unsigned ends; /* times that its owner was told */
	uint64_t resets, typed;
};

static void changed(void *opaque, enum machine_state state)
{
	struct one *one = opaque;

	one->ends += state == MACHINE_ENDED;
}

static void begin(struct one *one, char letter, enum reset_kind on_reset)
{
	struct machine_owner owner = {.loop = whole_loop, .changed = changed, .opaque = one};
	uint8_t code[sizeof(typing)];
	struct machine_config config;
	struct error err = {0};

	*one = (struct one){.letter = letter, .kernel = "/tmp/duet-two-XXXXXX"};
	memcpy(code, typing, sizeof(code));
	code[LETTER_AT] = (uint8_t)letter;
	whole_kernel(one->kernel, code, sizeof(code));
	CHECK(pipe2(one->out, O_CLOEXEC | O_NONBLOCK) == 0);
	owner.output = one->out[1];
	whole_config(&config, one->kernel);
	config.on_reset = on_reset;
	one->machine = whole_new(&config, &owner, false);
	CHECK(machine_start(one->machine, &err) == 0);
}

/* Nobody else's letters come out. */
static void read_console(struct one *one)
{
	char bytes[4096];
	ssize_t got;

	while ((got = read(one->out[0], bytes, sizeof(bytes))) > 0) {
		for (ssize_t i = 0; i < got; i++)
			CHECK(bytes[i] == one->letter);
		one->typed += (uint64_t)got;
	}
}

static bool has_ended(void *opaque)
{
	struct one *one = opaque;

	read_console(one);
	return machine_state(one->machine) == MACHINE_ENDED;
}

static bool has_gone_on(void *opaque)
{
	struct one *one = opaque;

	read_console(one);
	return whole_resets(one->machine) >= one->resets;
}

static void end(struct one *one, enum machine_end how)
{
	const char *why;

	CHECK(machine_outcome(one->machine, &why) == how && one->ends == 1);
	machine_free(one->machine);
	read_console(one);
	close(one->out[0]);
	close(one->out[1]);
	unlink(one->kernel);
}

static void test_two_at_once(void)
{
	struct one lasting, brief;

	begin(&lasting, 'a', RESET_RESTART);
	begin(&brief, 'b', RESET_EXIT);
	whole_run_until(has_ended, &brief);
	CHECK(lasting.ends == 0 && machine_state(lasting.machine) == MACHINE_RUNNING);
	end(&brief, MACHINE_RESET);
	CHECK(brief.typed == LETTERS);
	lasting.resets = whole_resets(lasting.machine) + MORE;
	whole_run_until(has_gone_on, &lasting);
	machine_kill(lasting.machine, "test");
	whole_run_until(has_ended, &lasting);
	end(&lasting, MACHINE_KILLED);
	CHECK(lasting.typed >= LETTERS * MORE);
}

int main(void)
{
	if (!whole_open())
		return 77;
	test_two_at_once();
	tiny_ok("two machines at once");
	whole_close();
	return 0;
}
