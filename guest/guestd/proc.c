/* SPDX-License-Identifier: Apache-2.0 */
#include "guestd.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls @visit for the entries of a directory that are numbers. */
static bool each_number(const char *path, bool (*visit)(void *context, pid_t id), void *context)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	bool go_on = true;

	if (!directory)
		return true; /* it has ended meanwhile */
	while (go_on && (entry = readdir(directory)))
		if (isdigit((unsigned char)entry->d_name[0]))
			go_on = visit(context, (pid_t)atoi(entry->d_name));
	closedir(directory);
	return go_on;
}

bool each_process(bool (*visit)(void *context, pid_t pid), void *context)
{
	return each_number("/proc", visit, context);
}

bool each_thread(pid_t pid, bool (*visit)(void *context, pid_t tid), void *context)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	return each_number(path, visit, context);
}

/* The first line of a mapping; false for another line. */
static bool parse_mapping(const char *line, struct mapping *mapping)
{
	char rights[5];
	uint64_t inode;
	int path = 0;

	*mapping = (struct mapping){0};
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64 " %n", &mapping->start,
		    &mapping->end, rights, &inode, &path) < 4)
		return false;
	mapping->readable = rights[0] == 'r';
	mapping->writable = rights[1] == 'w';
	mapping->executable = rights[2] == 'x';
	mapping->file =
		inode && path && line[path] == '/' && strncmp(line + path, "/dev/", 5) != 0 &&
		strncmp(line + path, "/memfd:", 7) != 0 && strncmp(line + path, "/SYSV", 5) != 0;
	return true;
}

static void parse_size(const char *line, struct mapping *mapping)
{
	uint64_t kib;

	if (sscanf(line, "Rss: %" SCNu64, &kib) == 1)
		mapping->resident = kib << 10;
	else if (sscanf(line, "Referenced: %" SCNu64, &kib) == 1)
		mapping->referenced = kib << 10;
}

bool each_mapping(pid_t pid, bool sizes,
	bool (*visit)(void *context, const struct mapping *mapping), void *context)
{
	struct mapping mapping, next;
	bool have = false, go_on = true;
	char *line = NULL, path[64];
	size_t room = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, sizes ? "smaps" : "maps");
	file = fopen(path, "re");
	if (!file)
		return true;
	/* A mapping is whole when the next one begins. */
	while (go_on && getline(&line, &room, file) > 0) {
		if (parse_mapping(line, &next)) {
			go_on = !have || visit(context, &mapping);
			mapping = next;
			have = true;
		} else if (have) {
			parse_size(line, &mapping);
		}
	}
	if (go_on && have)
		go_on = visit(context, &mapping);
	free(line);
	fclose(file);
	return go_on;
}

bool each_region(
	const char *name, bool (*visit)(void *context, uint64_t start, uint64_t end), void *context)
{
	FILE *file = fopen("/proc/iomem", "re");
	char line[256], found[128];
	uint64_t start, end;
	bool go_on = true;

	if (!file)
		return true;
	while (go_on && fgets(line, sizeof(line), file))
		if (sscanf(line, " %" SCNx64 "-%" SCNx64 " : %127[^\n]", &start, &end, found) ==
				3 &&
			strcmp(found, name) == 0 && end > start)
			go_on = visit(context, start, end + 1);
	fclose(file);
	return go_on;
}
