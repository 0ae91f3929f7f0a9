/* SPDX-License-Identifier: Apache-2.0 */
/* The filters that compile.c has made, and how one is put on a thread. */
#include "base/checked.h"
#include "sandbox/constants.h"
#include "sandbox/private.h"

#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filters.h"

/* On the stack of small threads. */
#define STEPS_MAX 384

static const struct {
	const struct sock_filter *code;
	unsigned length;
} filters[] = {
	[THREAD_MAIN] = {filter_main, ARRAY_SIZE(filter_main)},
	[THREAD_CALLER] = {filter_caller, ARRAY_SIZE(filter_caller)},
	[THREAD_VCPU] = {filter_vcpu, ARRAY_SIZE(filter_vcpu)},
	[THREAD_IO] = {filter_io, ARRAY_SIZE(filter_io)},
	[THREAD_DISCARD] = {filter_discard, ARRAY_SIZE(filter_discard)},
	[THREAD_ARRIVE] = {filter_arrive, ARRAY_SIZE(filter_arrive)},
};

_Static_assert(ARRAY_SIZE(filters) == THREAD_KINDS, "each kind of thread has a filter");
_Static_assert(ARRAY_SIZE(filter_main) <= STEPS_MAX && ARRAY_SIZE(filter_caller) <= STEPS_MAX &&
		       ARRAY_SIZE(filter_vcpu) <= STEPS_MAX && ARRAY_SIZE(filter_io) <= STEPS_MAX &&
		       ARRAY_SIZE(filter_discard) <= STEPS_MAX &&
		       ARRAY_SIZE(filter_arrive) <= STEPS_MAX,
	"filters fit");

bool filter_is_there(void)
{
	const uint32_t action = SECCOMP_RET_TRAP;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int filter_load(enum thread_kind kind)
{
	struct sock_filter code[STEPS_MAX];
	const struct sock_fprog program = {
		.len = (unsigned short)filters[kind].length, .filter = code};

	memcpy(code, filters[kind].code, program.len * sizeof(code[0]));
	for (unsigned i = 0; i < program.len; i++)
		if (code[i].k == OWN_PID)
			code[i].k = (uint32_t)getpid();
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}

const char *filter_call_name(int number)
{
	if (number < 0 || number >= (int)ARRAY_SIZE(call_names) || !call_names[number][0])
		return "?";
	return call_names[number];
}
