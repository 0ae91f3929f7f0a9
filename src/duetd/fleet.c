/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of sockets and whom they belong to. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "duetd/fleet_private.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>

#define SUFFIX ".sock"
/* Without being told that something changed: notices may be lost, a directory made anew. */
#define AGAIN_NS (10 * SECOND_NS)
/* A socket has its name a moment before somebody listens. */
#define FIRST_NS 20000000ULL
/* A balloon is told anew when this part of its lease is over. */
#define RENEW_NS         (FLEET_LEASE_MS / 4 * MS_NS)
#define RENEW_SHARING_NS (FLEET_SHARING_LEASE_MS / 2 * MS_NS)

/* Of inotify; on its own since the loop may hold it for longer than there is a fleet. */
struct fleet_notice {
	struct loop_watch watch;
	struct fleet *fleet;
	int fd;
};

/* ---- members ---- */

static void next_time(struct loop_timer *timer)
{
	struct member *member = container_of(timer, struct member, next_time);

	if (!member->ask)
		fleet_ask(member);
}

static struct member *new_member(struct fleet *fleet, const char *name, ino_t inode)
{
	struct member *member = calloc(1, sizeof(*member));

	if (!member)
		return NULL;
	member->fleet = fleet;
	member->inode = inode;
	member->next_time.expired = next_time;
	snprintf(member->name, sizeof(member->name), "%s", name);
	snprintf(member->fault, sizeof(member->fault), "not asked yet");
	if (asprintf(&member->socket, "%s/%s" SUFFIX, fleet->directory, name) < 0) {
		free(member);
		return NULL;
	}
	member->next = fleet->members;
	fleet->members = member;
	loop_timer_after(fleet->loop, &member->next_time, FIRST_NS);
	return member;
}

static void free_member(struct member *member)
{
	if (member->ask)
		fleet_ask_end(member->ask);
	loop_timer_stop(&member->next_time);
	free(member->socket);
	free(member);
}

static struct member *find(const struct fleet *fleet, const char *name)
{
	struct member *member = fleet->members;

	while (member && strcmp(member->name, name) != 0)
		member = member->next;
	return member;
}

/* ---- the directory ---- */

/* A name becomes a folder's, and is printed: letters, digits and a few signs. */
static bool take_name(char name[VIEW_NAME_MAX], const char *file)
{
	const size_t length = strlen(file), suffix = strlen(SUFFIX);

	if (length <= suffix || length - suffix >= VIEW_NAME_MAX || file[0] == '.' ||
		strcmp(file + length - suffix, SUFFIX) != 0)
		return false;
	memcpy(name, file, length - suffix);
	name[length - suffix] = 0;
	for (const char *at = name; *at; at++)
		if (!isalnum((unsigned char)*at) && !strchr("-_.@:+", *at))
			return false;
	return true;
}

static void take_file(struct fleet *fleet, int directory, const char *file)
{
	char name[VIEW_NAME_MAX];
	struct member *member;
	struct stat status;

	if (!take_name(name, file) || fstatat(directory, file, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
		!S_ISSOCK(status.st_mode))
		return;
	member = find(fleet, name);
	/* Left unseen, the one before is let go of. */
	if (!member || member->inode != status.st_ino)
		member = new_member(fleet, name, status.st_ino);
	if (member)
		member->seen = true;
}

static void drop_unseen(struct fleet *fleet)
{
	struct member **at = &fleet->members;

	while (*at) {
		struct member *member = *at;

		if (member->seen) {
			member->seen = false;
			at = &member->next;
			continue;
		}
		*at = member->next;
		fleet_gone(member);
		free_member(member);
	}
}

static void read_directory(struct fleet *fleet)
{
	DIR *directory = opendir(fleet->directory);
	const struct dirent *file;

	/* One that cannot be looked at now, for want of descriptors or memory, says nothing. */
	if (!directory && errno != ENOENT && errno != ENOTDIR)
		return;
	while (directory && (file = readdir(directory)))
		take_file(fleet, dirfd(directory), file->d_name);
	if (directory)
		closedir(directory);
	drop_unseen(fleet);
}

/* What happened is not read: the directory says what is there now. */
static void noticed(struct loop_watch *watch, uint32_t events)
{
	struct fleet_notice *notice = container_of(watch, struct fleet_notice, watch);
	char any[4096];
	bool some = false;

	while (notice->fd >= 0 && read(notice->fd, any, sizeof(any)) > 0)
		some = true;
	if (some && notice->fleet)
		read_directory(notice->fleet);
}

static void watch_directory(const struct fleet *fleet)
{
	/* The same directory once more is the same watch. */
	inotify_add_watch(fleet->notice->fd, fleet->directory,
		IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ONLYDIR);
}

static void read_again(struct loop_timer *timer)
{
	struct fleet *fleet = container_of(timer, struct fleet, again);

	watch_directory(fleet);
	read_directory(fleet);
	loop_timer_after(fleet->loop, timer, AGAIN_NS);
}

static void free_notice(struct loop_watch *watch)
{
	free(container_of(watch, struct fleet_notice, watch));
}

static int open_notice(struct fleet *fleet, struct error *err)
{
	struct fleet_notice *notice = calloc(1, sizeof(*notice));

	if (!notice) {
		error_errno(err, ENOMEM, "%s", fleet->directory);
		return -ENOMEM;
	}
	notice->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (notice->fd < 0) {
		error_errno(err, errno, "inotify; raise /proc/sys/fs/inotify/max_user_instances");
		free(notice);
		return -EMFILE;
	}
	notice->fleet = fleet;
	fleet->notice = notice;
	loop_watch(fleet->loop, &notice->watch, notice->fd, POLLIN, noticed);
	return 0;
}

static int make_directory(const char *path, struct error *err)
{
	struct stat status;
	int ret = mkdir(path, 0755);

	if (ret < 0 && errno == EEXIST && stat(path, &status) == 0 && !S_ISDIR(status.st_mode))
		return error_set(err, ENOTDIR,
			"--directory %s: is a file; name the directory where the machines have "
			"their sockets",
			path);
	if (ret < 0 && errno != EEXIST)
		return error_errno(err, errno,
			"--directory %s: cannot be made; name one in a directory that is there and "
			"that you may write to",
			path);
	return 0;
}

/* ---- what others call ---- */

int fleet_open(struct fleet **out, struct loop *loop, const struct fleet_options *options,
	struct error *err)
{
	struct fleet *fleet;
	int ret = make_directory(options->directory, err);

	if (ret < 0)
		return ret;
	fleet = calloc(1, sizeof(*fleet));
	if (!fleet)
		return error_errno(err, ENOMEM, "%s", options->directory);
	fleet->loop = loop;
	fleet->options = *options;
	if (!options->period_ms)
		fleet->options.period_ms = FLEET_PERIOD_MS;
	if (!options->patience_ms)
		fleet->options.patience_ms = FLEET_PATIENCE_MS;
	fleet->again.expired = read_again;
	fleet->directory = strdup(options->directory);
	fleet->options.directory = fleet->directory;
	ret = -ENOMEM;
	if (fleet->directory)
		ret = open_notice(fleet, err);
	else
		error_errno(err, ENOMEM, "%s", options->directory);
	if (ret < 0) {
		fleet_close(fleet);
		return ret;
	}
	read_again(&fleet->again);
	*out = fleet;
	return 0;
}

void fleet_close(struct fleet *fleet)
{
	if (!fleet)
		return;
	fleet_let_go(fleet);
	loop_timer_stop(&fleet->again);
	if (fleet->notice) {
		fleet->notice->fleet = NULL;
		close(fleet->notice->fd);
		fleet->notice->fd = -1;
		loop_unwatch(&fleet->notice->watch, free_notice);
	}
	while (fleet->members) {
		struct member *member = fleet->members;

		fleet->members = member->next;
		free_member(member);
	}
	free(fleet->views);
	free(fleet->directory);
	free(fleet);
}

static bool make_room(struct fleet *fleet, unsigned count)
{
	struct vm_view *more;

	if (count <= fleet->room)
		return true;
	more = reallocarray(fleet->views, count * 2UL, sizeof(*more));
	if (!more)
		return false;
	fleet->views = more;
	fleet->room = count * 2;
	return true;
}

static void copy_view(struct vm_view *view, const struct member *member, uint64_t now)
{
	*view = member->answer.view;
	view->age = now - member->since;
	view->balloon_since = now - member->target_since;
}

unsigned fleet_views(struct fleet *fleet, struct vm_view **views)
{
	const uint64_t now = clock_ns();
	unsigned count = 0;

	for (const struct member *member = fleet->members; member; member = member->next) {
		if (!member->well || !member->here)
			continue;
		if (!make_room(fleet, count + 1))
			break;
		copy_view(&fleet->views[count++], member, now);
	}
	*views = fleet->views;
	return count;
}

void fleet_each(const struct fleet *fleet,
	void (*each)(void *opaque, const struct fleet_entry *entry), void *opaque)
{
	for (const struct member *member = fleet->members; member; member = member->next) {
		const struct fleet_entry entry = {.name = member->name,
			.socket = member->socket,
			.pid = member->pid,
			.well = member->well,
			.fault = member->well ? NULL : member->fault,
			.view = member->well ? &member->answer.view : NULL};

		each(opaque, &entry);
	}
}

/* It has what it is to have, and keeps it when nobody says so. */
static bool is_its_own(const struct member *member, uint64_t mib)
{
	const struct answer *answer = &member->answer;

	return answer->says_own && answer->own >> 20 == mib &&
	       answer->view.balloon_target >> 20 == mib &&
	       (!member->told_at || member->told_mib == mib);
}

static bool is_fresh(const struct member *member, uint64_t mib)
{
	return member->told_at && member->told_mib == mib &&
	       clock_ns() - member->told_at < RENEW_NS;
}

static void apply_balloon(struct member *member, const struct vm_plan *plan)
{
	const struct vm_view *view = &member->answer.view;
	uint64_t mib;

	if (!view->has_balloon)
		return;
	if (!plan->set_memory) {
		member->leased = member->due[ASK_BALLOON] = false;
		return;
	}
	mib = (view->memory - min_u64(plan->allowed, view->memory)) >> 20;
	/* What waits to be told is what was wanted before. */
	member->due[ASK_BALLOON] = !is_its_own(member, mib) && !is_fresh(member, mib);
	member->wanted_mib = mib;
}

static void apply_sharing(struct member *member, const struct vm_plan *plan)
{
	const bool old = clock_ns() - member->sharing_at >= RENEW_SHARING_NS || !member->sharing_at;

	if (!member->answer.view.can_share || (!plan->set_sharing && !member->shares))
		return;
	if (plan->set_sharing && plan->sharing == member->told_sharing && !old)
		return;
	member->wanted_sharing = plan->set_sharing ? plan->sharing : member->told_sharing;
	member->wanted_ms = plan->set_sharing ? FLEET_SHARING_LEASE_MS : FLEET_END_MS;
	member->due[ASK_SHARING] = true;
}

void fleet_apply(struct fleet *fleet, const char *name, const struct vm_plan *plan)
{
	struct member *member = find(fleet, name);

	if (!member || !member->well)
		return;
	apply_balloon(member, plan);
	apply_sharing(member, plan);
	fleet_place(member, plan);
	if (!member->ask && fleet_is_due(member))
		fleet_ask(member);
}
