/* SPDX-License-Identifier: Apache-2.0 */
#include "guestd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "duet/coop.h"

static struct duet_coop_request buffered[DUET_COOP_BATCH_MAX];
static size_t count;
static int failed; /* errno of the first write that did, of this answer */

/* The device takes some of the first ones at a time. */
static bool flush(const struct answer *answer)
{
	const char *at = (const char *)buffered;
	size_t left = count * sizeof(*buffered);

	count = 0;
	while (left) {
		ssize_t taken = write(answer->device, at, left);

		if (taken <= 0 && errno != EINTR) {
			failed = errno;
			return false;
		}
		if (taken > 0) {
			at += taken;
			left -= (size_t)taken;
		}
	}
	return true;
}

static bool add(const struct answer *answer, const struct run *run)
{
	buffered[count++] = (struct duet_coop_request){
		.function = answer->function,
		.arguments = {run->address, run->pages, run->vcpu, run->seen, answer->number},
	};
	return count < DUET_COOP_BATCH_MAX || flush(answer);
}

static bool print(const struct answer *answer, const struct run *run)
{
	printf("%#" PRIx64 " %" PRIu64, run->address, run->pages);
	if (answer->function == DUET_COOP_LOCALITY)
		printf(" vcpu %" PRIu32 " seen %" PRIu32, run->vcpu, run->seen);
	return putchar('\n') != EOF;
}

bool answer_run(const struct answer *answer, const struct run *run)
{
	return answer->device < 0 ? print(answer, run) : add(answer, run);
}

bool answer_end(const struct answer *answer)
{
	static const struct run end;
	bool all;

	if (answer->device < 0)
		return fflush(stdout) == 0;
	all = !failed && flush(answer);
	if (!all)
		fprintf(stderr, "duet-guestd: the host refused a run: %s\n", strerror(failed));
	all = add(answer, &end) && flush(answer) && all;
	failed = 0;
	return all;
}
