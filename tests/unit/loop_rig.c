/* SPDX-License-Identifier: Apache-2.0 */
#include "loop_rig.h"

#include "base/checked.h"
#include "base/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct end {
	struct loop_timer timer;
	struct loop *loop;
};

static void is_over(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct end, timer)->loop);
}

/* Not on the stack: a callback's assertion that fails leaves by longjmp(), and the test's tear-down
 * may run the loop, with this timer, once more. */
void loop_run_for(struct loop *loop, unsigned ms)
{
	struct end *end = calloc(1, sizeof(*end));

	assert_non_null(end);
	end->timer.expired = is_over;
	end->loop = loop;
	loop_timer_after(loop, &end->timer, ms * 1000000ULL);
	assert_int_equal(loop_run(loop), 0);
	loop_timer_stop(&end->timer);
	free(end);
}
