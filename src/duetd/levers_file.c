/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the kernel, below the root. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "duetd/levers_private.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define READ_MAX (4U << 20) /* numa_maps of a large process */
/* What the kernel makes of so few bytes comes in one piece: no second read asks whether that was
 * all. */
#define PIECE 1024U

__attribute__((format(printf, 3, 0))) static int open_path(
	const struct levers *levers, int flags, const char *format, va_list args)
{
	char path[PATH_MAX];
	const size_t root = strlen(levers->root);
	int length;

	if (root >= sizeof(path))
		return -ENAMETOOLONG;
	memcpy(path, levers->root, root);
	length = vsnprintf(path + root, sizeof(path) - root, format, args);
	if (length < 0 || (size_t)length >= sizeof(path) - root)
		return -ENAMETOOLONG;
	length = open(path, flags | O_CLOEXEC);
	return length < 0 ? -errno : length;
}

ssize_t lever_read(const struct levers *levers, char *text, size_t room, const char *format, ...)
{
	_cleanup_close_ int fd = -1;
	size_t count = 0;
	ssize_t got = 1;
	va_list args;

	va_start(args, format);
	fd = open_path(levers, O_RDONLY, format, args);
	va_end(args);
	text[0] = 0;
	if (fd < 0)
		return fd;
	while (got > 0 && count < room - 1) {
		got = read(fd, text + count, room - 1 - count);
		count += got > 0 ? (size_t)got : 0;
		if (room <= PIECE)
			break;
	}
	text[count] = 0;
	return got < 0 ? -errno : (ssize_t)count;
}

char *lever_read_all(const struct levers *levers, const char *format, ...)
{
	_cleanup_close_ int fd = -1;
	char *text = NULL;
	size_t count = 0, room = 0;
	ssize_t got;
	va_list args;

	va_start(args, format);
	fd = open_path(levers, O_RDONLY, format, args);
	va_end(args);
	if (fd < 0)
		return NULL;
	do {
		char *more = room < READ_MAX ? realloc(text, room + 16384) : NULL;

		if (!more) {
			free(text);
			return NULL;
		}
		text = more;
		room += 16384;
		while ((got = read(fd, text + count, room - 1 - count)) > 0)
			count += (size_t)got;
	} while (got == 0 && count == room - 1);
	text[count] = 0;
	return text;
}

int lever_write(const struct levers *levers, const char *text, const char *format, ...)
{
	_cleanup_close_ int fd = -1;
	va_list args;

	va_start(args, format);
	fd = open_path(levers, O_WRONLY | O_TRUNC, format, args);
	va_end(args);
	if (fd < 0)
		return fd;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static char *below_root(const struct levers *levers, const char *path)
{
	char *whole;

	return asprintf(&whole, "%s%s", levers->root, path) < 0 ? NULL : whole;
}

bool lever_may_write(const struct levers *levers, const char *path)
{
	_cleanup_free_ char *whole = below_root(levers, path);

	return whole && access(whole, W_OK) == 0;
}

int lever_mkdir(const struct levers *levers, const char *path)
{
	_cleanup_free_ char *whole = below_root(levers, path);

	if (!whole)
		return -ENOMEM;
	return mkdir(whole, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

int lever_rmdir(const struct levers *levers, const char *path)
{
	_cleanup_free_ char *whole = below_root(levers, path);

	if (!whole)
		return -ENOMEM;
	return rmdir(whole) < 0 && errno != ENOENT ? -errno : 0;
}

static bool is_word(const char *text, const char *at, size_t length)
{
	const char end = at[length];

	return (at == text || isspace((unsigned char)at[-1])) &&
	       (!end || isspace((unsigned char)end) || end == ':' || end == '=');
}

static const char *find_word(const char *text, const char *word)
{
	const size_t length = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += length)
		if (is_word(text, at, length))
			return at + length;
	return NULL;
}

uint64_t lever_field(const char *text, const char *name)
{
	const char *at = find_word(text, name);

	return at ? strtoull(at + strspn(at, ":= \t"), NULL, 10) : 0;
}

uint64_t lever_kib(const char *text, const char *name)
{
	uint64_t bytes;

	return mul_overflows(lever_field(text, name), 1024, &bytes) ? 0 : bytes;
}

bool lever_has_word(const char *text, const char *word)
{
	return find_word(text, word) != NULL;
}

void lever_cpus_parse(const char *text, cpu_set_t *cpus)
{
	CPU_ZERO(cpus);
	while (isdigit((unsigned char)*text)) {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (unsigned long cpu = first; cpu <= last && cpu < CPU_SETSIZE; cpu++)
			CPU_SET(cpu, cpus);
		text = *end == ',' ? end + 1 : "";
	}
}

char *lever_cpus_text(const cpu_set_t *cpus)
{
	const char *comma = "";
	size_t length;
	char *text = NULL;
	FILE *file = open_memstream(&text, &length);

	if (!file)
		return NULL;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		const unsigned first = cpu;

		if (!CPU_ISSET(cpu, cpus))
			continue;
		while (cpu + 1 < CPU_SETSIZE && CPU_ISSET(cpu + 1, cpus))
			cpu++;
		fprintf(file, cpu > first ? "%s%u-%u" : "%s%u", comma, first, cpu);
		comma = ",";
	}
	fclose(file);
	return text;
}
