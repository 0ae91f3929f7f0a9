/* SPDX-License-Identifier: Apache-2.0 */
/* The container's cgroup in the guest: its limits, what it has used, and who is in it. */
#include "oci/agent/box_private.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define ROOT           "/sys/fs/cgroup"
#define PROCESSES_ROOM (LISTING_MAX * 12UL)

/* Null-terminated, as far as there is room. */
static int read_file(const char *path, char *text, size_t room)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;
	size_t length = 0;

	if (fd < 0)
		return -errno;
	while ((got = read(fd, text + length, room - 1 - length)) > 0)
		length += (size_t)got;
	text[length] = 0;
	return got < 0 ? -errno : (int)length;
}

static int set_limit(const char *file, uint64_t value, struct error *err)
{
	char path[96], text[24];
	int ret;

	snprintf(path, sizeof(path), BOX_CGROUP "/%s", file);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	ret = value ? write_file(path, text, strlen(text)) : 0;
	return ret < 0 ? error_errno(err, -ret, "the limit %s", file) : 0;
}

int box_make_cgroup(const struct setup *setup, struct error *err)
{
	static const char controllers[] = "+cpu +memory +pids";
	int ret = write_file(ROOT "/cgroup.subtree_control", controllers, strlen(controllers));

	if (ret == 0 && mkdir(BOX_CGROUP, 0755) < 0)
		ret = -errno;
	if (ret < 0)
		return error_errno(err, -ret, "the container's cgroup");
	return set_limit("memory.max", setup->memory, err)
		       ?: set_limit("pids.max", setup->pids, err);
}

static uint64_t read_number(const char *file)
{
	char path[96], text[32];

	snprintf(path, sizeof(path), BOX_CGROUP "/%s", file);
	if (read_file(path, text, sizeof(text)) < 0)
		return 0;
	return strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
}

static uint64_t find_ns(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) * 1000 : 0;
}

int box_usage(struct usage *usage, struct error *err)
{
	char text[1024];
	const int ret = read_file(BOX_CGROUP "/cpu.stat", text, sizeof(text));

	if (ret < 0)
		return error_errno(err, -ret, "what the container has used");
	*usage = (struct usage){.cpu_ns = find_ns(text, "usage_usec "),
		.user_ns = find_ns(text, "user_usec "),
		.system_ns = find_ns(text, "system_usec "),
		.memory = read_number("memory.current"),
		.memory_peak = read_number("memory.peak"),
		.memory_limit = read_number("memory.max"),
		.pids = read_number("pids.current"),
		.pids_limit = read_number("pids.max")};
	return 0;
}

/* ---- who is in it ---- */

/* "NSpid:\t42\t7": the last number is the one in the container. */
static uint32_t own_number(const char *status)
{
	const char *at = strstr(status, "\nNSpid:"), *end = at ? strchr(at + 1, '\n') : NULL;
	uint32_t number = 0;

	while (at && end && (at = strpbrk(at + 1, "\t")) && at < end)
		number = (uint32_t)strtoul(at + 1, NULL, 10);
	return number;
}

static void describe(struct listed *listed, unsigned long pid)
{
	char path[64], text[4096];
	const char *uid;
	int length;

	snprintf(path, sizeof(path), "/proc/%lu/status", pid);
	if (read_file(path, text, sizeof(text)) < 0)
		return;
	uid = strstr(text, "\nUid:");
	listed->uid = uid ? (uint32_t)strtoul(uid + 5, NULL, 10) : 0;
	listed->pid = own_number(text);
	snprintf(path, sizeof(path), "/proc/%lu/cmdline", pid);
	length = read_file(path, text, sizeof(text));
	for (int i = 0; i < length - 1; i++)
		if (!text[i])
			text[i] = ' ';
	if (length > 0)
		listed->command = strdup(text);
}

/* The numbers of its processes, a line each; malloc()ed, null: an errno. */
static char *read_processes(void)
{
	char *text = malloc(PROCESSES_ROOM);
	const int ret =
		text ? read_file(BOX_CGROUP "/cgroup.procs", text, PROCESSES_ROOM) : -ENOMEM;

	if (ret >= 0)
		return text;
	free(text);
	errno = -ret;
	return NULL;
}

int box_list(struct listing *listing, struct error *err)
{
	_cleanup_free_ char *text = read_processes();
	char *at = text;

	listing->items = text ? calloc(LISTING_MAX, sizeof(*listing->items)) : NULL;
	if (!listing->items)
		return error_errno(err, errno, "the container's processes");
	while (*at && listing->count < LISTING_MAX) {
		struct listed *listed = &listing->items[listing->count];

		describe(listed, strtoul(at, &at, 10));
		at += *at == '\n';
		/* One that has ended meanwhile has no command, and no line. */
		if (listed->command)
			listing->count++;
	}
	return 0;
}

void box_signal_all(int number)
{
	_cleanup_free_ char *text = read_processes();
	char *at = text;

	while (at && *at) {
		kill((pid_t)strtol(at, &at, 10), number);
		at += *at == '\n';
	}
}
