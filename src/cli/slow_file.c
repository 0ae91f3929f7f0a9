/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/slow_file.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Twice as long each time: who never reads costs next to nothing. */
#define PAUSE_FIRST_MS 50
#define PAUSE_LAST_MS  60000

static void forget(struct slow_file *file)
{
	loop_timer_stop(&file->again);
	free(file->line);
	file->line = NULL;
}

/* -EAGAIN: the rest waits. */
static int go_on(struct slow_file *file)
{
	while (file->taken < file->length) {
		ssize_t written =
			write(file->fd, file->line + file->taken, file->length - file->taken);

		if (written >= 0)
			file->taken += (size_t)written;
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int try_on(struct slow_file *file)
{
	int ret = go_on(file);

	if (ret != -EAGAIN) {
		forget(file);
		return ret;
	}
	loop_timer_after(file->loop, &file->again, file->pause_ms * MS_NS);
	file->pause_ms = (unsigned)min_u64(file->pause_ms * 2ULL, PAUSE_LAST_MS);
	return 0;
}

static void again(struct loop_timer *timer)
{
	struct slow_file *file = container_of(timer, struct slow_file, again);
	int ret = try_on(file);

	if (ret < 0)
		log_warning("metrics: %s", strerror(-ret));
}

void slow_file_init(struct slow_file *file, struct loop *loop)
{
	*file = (struct slow_file){.loop = loop, .again.expired = again, .fd = -1};
}

void slow_file_set(struct slow_file *file, int fd)
{
	forget(file);
	if (file->fd >= 0)
		close(file->fd);
	file->fd = fd;
	file->left_out = 0;
}

int slow_file_write(struct slow_file *file, const char *line, struct error *err)
{
	int ret;

	if (file->line) {
		/* Told once, until one is written again. */
		if (!file->left_out++)
			log_warning("metrics: their reader takes nothing; lines are left out");
		return 0;
	}
	file->line = strdup(line);
	if (!file->line)
		return error_errno(err, ENOMEM, "metrics");
	file->length = strlen(line);
	file->taken = 0;
	file->pause_ms = PAUSE_FIRST_MS;
	file->left_out = 0;
	ret = try_on(file);
	return ret < 0 ? error_errno(err, -ret, "metrics") : 0;
}

void slow_file_close(struct slow_file *file)
{
	slow_file_set(file, -1);
}
