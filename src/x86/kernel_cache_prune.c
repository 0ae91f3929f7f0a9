/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/kernel_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* #syscalls main: openat getdents64 newfstatat unlinkat lseek */

#define ABANDONED 3600 /* seconds: no process writes an entry for so long */

struct candidate {
	char name[160];
	struct timespec used;
};

static bool earlier(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* Removes what is certainly dead: links to nothing, and files that a killed process was writing. */
static void sweep_one(int cache, const char *name, const struct stat *status)
{
	struct stat target;

	if (S_ISLNK(status->st_mode) && fstatat(cache, name, &target, 0) < 0)
		unlinkat(cache, name, 0);
	if (S_ISREG(status->st_mode) && !strncmp(name, "tmp-", 4) &&
		status->st_mtim.tv_sec + ABANDONED < time(NULL))
		unlinkat(cache, name, 0);
}

/* Sweeps; counts the entries and gives the one that was longest not read. */
static unsigned survey(int cache, struct candidate *oldest)
{
	int copy = openat(cache, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *item;
	unsigned count = 0;

	if (!directory) {
		if (copy >= 0)
			close(copy);
		return 0;
	}
	while ((item = readdir(directory))) {
		struct stat status;

		if (fstatat(cache, item->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		sweep_one(cache, item->d_name, &status);
		/* Only what this program makes. */
		if (!S_ISREG(status.st_mode) || item->d_name[0] != 'v' ||
			strlen(item->d_name) >= sizeof(oldest->name))
			continue;
		if (count++ == 0 || earlier(&status.st_atim, &oldest->used)) {
			strcpy(oldest->name, item->d_name);
			oldest->used = status.st_atim;
		}
	}
	closedir(directory);
	return count;
}

void kernel_cache_prune(int cache)
{
	struct candidate oldest;

	/* The second pass takes the links that the first has left without a target. */
	while (survey(cache, &oldest) > KERNEL_CACHE_ENTRIES)
		if (unlinkat(cache, oldest.name, 0) < 0)
			return;
}
