/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/report.h"

#include "base/cleanup.h"
#include "cli/footprint.h"
#include "machine/machine.h"
#include "memory/memory.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *memory_stats(const struct memory *memory)
{
	struct footprint footprint = {0};
	int ret = footprint_read(memory, &footprint);
	json_t *object = json_pack("{s:I}", "guest_ram", (json_int_t)memory_size(memory));

	if (ret == 0) {
		json_object_set_new(
			object, "guest_ram_pss", json_integer((json_int_t)footprint.guest_pss));
		json_object_set_new(
			object, "outside_pss", json_integer((json_int_t)footprint.outside_pss));
		json_object_set_new(
			object, "outside_rss", json_integer((json_int_t)footprint.outside_rss));
	}
	return object;
}

/* The process's memory first, before there is all the rest of this to count. */
static json_t *all_stats(struct machine *machine)
{
	json_t *memory = memory_stats(machine_memory(machine));
	json_t *stats = machine_stats(machine);

	json_object_set_new(stats, "memory", memory);
	return stats;
}

/* To @file, which becomes @path or is only tried. */
static int write_text(
	const char *file, const char *path, const char *text, size_t length, struct error *err)
{
	_cleanup_fclose_ FILE *stream = fopen(file, "we");
	bool failed;

	if (!stream)
		return error_errno(err, errno,
			"--stats %s: cannot be created; name a file in a "
			"directory you may write to",
			path);
	failed = fwrite(text, 1, length, stream) != length;
	failed |= fputc('\n', stream) == EOF;
	failed |= fflush(stream) != 0;
	if (failed)
		return error_errno(err, errno ? errno : EIO,
			"--stats %s: cannot be written; make room or name another file", path);
	return 0;
}

/* What is at @path would be replaced: a device or a pipe must not be, a directory cannot. */
static int check_replaceable(const char *path, struct error *err)
{
	struct stat status;

	if (stat(path, &status) < 0 || S_ISREG(status.st_mode))
		return 0;
	if (S_ISDIR(status.st_mode))
		return error_set(
			err, EISDIR, "--stats %s: is a directory; name a file in it", path);
	return error_set(err, EINVAL, "--stats %s: is no regular file; name another one", path);
}

/* A reader never sees half a file: written beside it, then renamed. */
int report_write(struct machine *machine, const char *path, struct error *err)
{
	json_t *stats = all_stats(machine);
	_cleanup_free_ char *text = json_dumps(stats, JSON_INDENT(2));
	_cleanup_free_ char *beside = NULL;
	int ret;

	json_decref(stats);
	if (!text || asprintf(&beside, "%s.%d.tmp", path, (int)getpid()) < 0) {
		beside = NULL;
		return error_errno(err, ENOMEM, "--stats %s", path);
	}
	ret = write_text(beside, path, text, strlen(text), err);
	if (ret == 0 && rename(beside, path) < 0)
		ret = error_errno(err, errno, "--stats %s: cannot be replaced", path);
	if (ret < 0)
		unlink(beside);
	return ret;
}

int report_check(const char *path, struct error *err)
{
	_cleanup_free_ char *beside = NULL;
	int ret = check_replaceable(path, err);

	if (ret < 0)
		return ret;
	if (asprintf(&beside, "%s.%d.tmp", path, (int)getpid()) < 0) {
		beside = NULL;
		return error_errno(err, ENOMEM, "--stats %s", path);
	}
	ret = write_text(beside, path, "", 0, err);
	unlink(beside);
	return ret;
}
