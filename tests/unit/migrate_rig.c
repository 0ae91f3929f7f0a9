/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate_rig.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/thread.h"
#include "memory/late.h"
#include "state/state.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define HIGH_AT     (4ULL << 30)
#define FAREWELL_MS 100

/* Whose thread this is, and what is wrong with its line. */
static _Thread_local struct rig *line;
/* Likewise, and of the threads that those have made. */
static _Thread_local struct rig *owner;
static _Thread_local bool is_target;
/* That has a message which will be lost. */
static struct rig *_Atomic loser;

ssize_t __real_send(int fd, const void *bytes, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags);

static ssize_t send_part(int fd, const uint8_t *bytes, size_t length, int flags, uint64_t *said)
{
	ssize_t sent = __real_send(fd, bytes, length, flags);

	if (sent > 0)
		*said += (uint64_t)sent;
	return sent;
}

/* Counts a call of the system by one of the two. */
static bool is_failed(int code)
{
	if (!owner || atomic_fetch_add(&owner->called[is_target], 1) != owner->at ||
		owner->fault != RIG_NO_CALL || owner->of_target != is_target)
		return false;
	errno = code;
	return true;
}

/* A head is sent by itself, and plain. */
static bool is_lost(int fd, const uint8_t *bytes, size_t length)
{
	struct rig *rig = atomic_load(&loser);

	if (!rig || length != WIRE_HEADER || load_le16(bytes + 4) != (unsigned)rig->lost ||
		atomic_fetch_sub(&rig->before_lost, 1) != 0)
		return false;
	shutdown(fd, SHUT_RDWR);
	return true;
}

ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags)
{
	uint64_t *said = line ? &line->said[is_target] : NULL;
	uint8_t changed;

	if (is_lost(fd, bytes, length))
		return (ssize_t)length;
	if (is_failed(ENOBUFS))
		return -1;
	if (!line)
		return __real_send(fd, bytes, length, flags);
	if ((line->fault != RIG_CUT && line->fault != RIG_CUT_ONCE && line->fault != RIG_ALTER) ||
		line->of_target != is_target || line->at < *said || line->at >= *said + length)
		return send_part(fd, bytes, length, flags, said);
	if (line->at > *said)
		return send_part(fd, bytes, line->at - *said, flags, said);
	if (line->fault != RIG_ALTER) {
		*said += line->fault == RIG_CUT_ONCE;
		shutdown(fd, SHUT_RDWR);
		errno = EPIPE;
		return -1;
	}
	changed = *(const uint8_t *)bytes ^ 0x10;
	return send_part(fd, &changed, 1, flags, said);
}

/* ---- the other calls that a migration makes ---- */

ssize_t __real_recv(int fd, void *bytes, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t length, int flags);
int __real_poll(struct pollfd *fds, nfds_t count, int milliseconds);
int __wrap_poll(struct pollfd *fds, nfds_t count, int milliseconds);
int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __real_connect(int fd, const struct sockaddr *to, socklen_t length);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t length);
int __real_accept4(int fd, struct sockaddr *from, socklen_t *length, int flags);
int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *length, int flags);
int __real_pthread_create(
	pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *opaque);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *opaque);

ssize_t __wrap_recv(int fd, void *bytes, size_t length, int flags)
{
	return is_failed(EIO) ? -1 : __real_recv(fd, bytes, length, flags);
}

/* The source's wait for a word: it is over as soon as the other side is silent, and lines are cut
 * meanwhile. */
static int poll_word(struct pollfd *fds, nfds_t count, int milliseconds)
{
	int ret = 0;

	while (ret == 0 && milliseconds > 0) {
		const bool is_silent = atomic_load(&line->is_silent);

		if (atomic_exchange(&line->is_to_cut, false))
			rig_cut(line);
		ret = __real_poll(fds, count, 10);
		milliseconds = is_silent ? 0 : milliseconds - 10;
	}
	return ret;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int milliseconds)
{
	/* Who leaves in the middle waits for the other to have heard it: not for long here. */
	if (line && count == 1 && milliseconds > FAREWELL_MS)
		milliseconds = FAREWELL_MS;
	if (is_failed(ENOMEM))
		return -1;
	return line && !is_target && (line->silent || line->runs) && milliseconds > 0
		       ? poll_word(fds, count, milliseconds)
		       : __real_poll(fds, count, milliseconds);
}

int __wrap_socket(int domain, int type, int protocol)
{
	return is_failed(EMFILE) ? -1 : __real_socket(domain, type, protocol);
}

int __wrap_connect(int fd, const struct sockaddr *to, socklen_t length)
{
	return is_failed(ENETDOWN) ? -1 : __real_connect(fd, to, length);
}

int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *length, int flags)
{
	return is_failed(ENFILE) ? -1 : __real_accept4(fd, from, length, flags);
}

void *__real_malloc(size_t size);

/* A thread of whose who made it is. */
struct child {
	struct rig *owner;
	bool is_target;
	void *(*run)(void *opaque);
	void *opaque;
};

static void *run_child(void *opaque)
{
	const struct child child = *(struct child *)opaque;

	free(opaque);
	owner = child.owner;
	is_target = child.is_target;
	return child.run(child.opaque);
}

int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *opaque)
{
	struct child *child;
	int ret;

	if (is_failed(EAGAIN))
		return EAGAIN;
	child = __real_malloc(sizeof(*child));
	*child = (struct child){owner, is_target, run, opaque};
	ret = __real_pthread_create(thread, how, run_child, child);
	if (ret)
		free(child);
	return ret;
}

/* userfaultfd's, and no others are of these threads'. */
int __real_ioctl(int fd, unsigned long request, void *what);
int __wrap_ioctl(int fd, unsigned long request, void *what);

int __wrap_ioctl(int fd, unsigned long request, void *what)
{
	return is_failed(ENOMEM) ? -1 : __real_ioctl(fd, request, what);
}

int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);

int __wrap_eventfd(unsigned count, int flags)
{
	return is_failed(EMFILE) ? -1 : __real_eventfd(count, flags);
}

int __real_madvise(void *at, size_t length, int advice);
int __wrap_madvise(void *at, size_t length, int advice);

int __wrap_madvise(void *at, size_t length, int advice)
{
	return is_failed(ENOMEM) ? -1 : __real_madvise(at, length, advice);
}

/* ---- memory for the two themselves ---- */

void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool is_refused(void)
{
	return owner && atomic_fetch_add(&owner->allocated[is_target], 1) == owner->at &&
	       owner->fault == RIG_NO_MEMORY && owner->of_target == is_target;
}

void *__wrap_malloc(size_t size)
{
	return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return is_refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return is_refused() ? NULL : __real_realloc(old, size);
}

/* ---- the machine that leaves ---- */

static int fails(struct rig *rig, enum rig_step step, struct error *err)
{
	if (rig->silent && rig->silent == step) {
		atomic_store(&rig->is_silent, true);
		while (!atomic_load(&rig->source_ended))
			sched_yield();
	}
	if (rig->fails != (int)step)
		return 0;
	rig->fails = RIG_NOTHING;
	return error_set(err, EIO, "step %d was made to fail", step);
}

static int config(void *opaque, char **text, struct error *err)
{
	*text = strdup("{\"duet\": 1}");
	if (!*text)
		return error_set(err, ENOMEM, "no memory for the configuration");
	return fails(opaque, RIG_CONFIG, err);
}

static struct memory *memory(void *opaque)
{
	return &((struct rig *)opaque)->here;
}

static void write_page(struct rig *rig, uint64_t number)
{
	uint64_t gpa = number * 7919 % (rig->low / MEMORY_PAGE) * MEMORY_PAGE;

	if (rig->high && number % 2)
		gpa = HIGH_AT + number * 7919 % (rig->high / MEMORY_PAGE) * MEMORY_PAGE;
	assert_int_equal(
		memory_write(&rig->here, GPA(gpa + number % 500 * 8), &number, sizeof(number)), 0);
}

static void *write_on(void *opaque)
{
	struct rig *rig = opaque;

	for (uint64_t number = 1; !atomic_load(&rig->enough); number++)
		write_page(rig, number);
	return NULL;
}

static int begin_log(void *opaque, struct error *err)
{
	struct rig *rig = opaque;
	int ret = fails(rig, RIG_LOG, err);

	if (ret == 0 && memory_dirty_start(&rig->here) < 0)
		ret = error_set(err, ENOMEM, "no memory for the log");
	if (rig->writes_meanwhile && ret == 0) {
		rig->writing = true;
		assert_int_equal(thread_start(&rig->writer, 65536, write_on, rig), 0);
	}
	return ret;
}

static int take_log(void *opaque, unsigned region, uint64_t *bitmap, struct error *err)
{
	struct rig *rig = opaque;
	const struct memory_region *at = memory_region(&rig->here, region);
	int ret = fails(rig, RIG_TAKE, err);

	rig->takes += region == 0;
	/* Between two rounds, and not when it stands still. */
	if (rig->runs_here && region == 0)
		for (unsigned i = 0; i < rig->writes * (100 - rig->throttle) / 100; i++) {
			write_page(rig, rig->takes * 1000 + i);
			rig->written++;
		}
	for (uint64_t i = 0; i < (at->size / MEMORY_PAGE + 63) / 64; i++)
		bitmap[i] = memory_dirty_take(&rig->here, at->first_page / 64 + i);
	return ret;
}

static bool writers(void *opaque, uint64_t written[SHARES_CPUS_MAX])
{
	struct rig *rig = opaque;

	written[0] = 0;
	written[1] = rig->written;
	return rig->tells;
}

static int throttle(void *opaque, const uint8_t percent[SHARES_CPUS_MAX], struct error *err)
{
	struct rig *rig = opaque;

	(void)err;
	assert_true(percent[1] <= PLAN_THROTTLE_MAX && percent[0] <= percent[1]);
	assert_true(percent[1] != rig->throttle);
	rig->throttle = percent[1];
	rig->spared = percent[0];
	return 0;
}

static void end_writer(struct rig *rig)
{
	atomic_store(&rig->enough, true);
	if (rig->writing)
		pthread_join(rig->writer, NULL);
	rig->writing = false;
}

static void put_state(struct state_writer *writer)
{
	state_section_begin(writer, "rig", 1);
	state_put_u64(writer, 0x1122334455667788);
	state_section_close(writer);
}

void rig_write_state(struct state_writer *writer)
{
	state_writer_init(writer);
	put_state(writer);
	assert_int_equal(state_writer_finish(writer), 0);
}

static int stop(void *opaque, struct state_writer *writer, struct error *err)
{
	struct rig *rig = opaque;
	int ret = fails(rig, RIG_STOP, err);

	end_writer(rig);
	rig->runs_here = false;
	put_state(writer);
	if (ret == 0 && state_writer_finish(writer) < 0)
		ret = error_set(err, ENOMEM, "no memory for the state");
	return ret;
}

static int release(void *opaque, struct error *err)
{
	struct rig *rig = opaque;
	int ret = fails(rig, RIG_RELEASE, err);

	rig->disks_here = false;
	return ret;
}

static bool commit(void *opaque)
{
	struct rig *rig = opaque;

	rig->committed = fails(rig, RIG_COMMIT, NULL) == 0;
	if (rig->commits)
		rig->commits(rig);
	return rig->committed;
}

static int take_back(void *opaque, struct error *err)
{
	struct rig *rig = opaque;

	(void)err;
	assert_false(rig->disks_there || rig->runs_there);
	rig->disks_here = true;
	return 0;
}

static void follow(void *opaque)
{
	struct rig *rig = opaque;

	assert_true(rig->committed && !rig->runs_here);
	rig->followed++;
	if (rig->follows)
		rig->follows(rig);
}

static const struct source_ops source_ops = {
	.config = config,
	.memory = memory,
	.log = begin_log,
	.take = take_log,
	.writers = writers,
	.throttle = throttle,
	.stop = stop,
	.release = release,
	.commit = commit,
	.take_back = take_back,
	.follow = follow,
};

static int connect_one(void *opaque, struct channel *channel, struct error *err)
{
	struct rig *rig = opaque;
	int fd;

	if (rig->connects)
		rig->connects(rig);
	fd = address_connect(rig->elsewhere ? rig->elsewhere : &rig->address, rig->gone, err);
	rig->connected += fd >= 0;
	return fd < 0 ? fd : channel_open(channel, fd, rig->gone, rig->tls_here, false, 0, err);
}

/* ---- the machine that comes ---- */

static void arrival_ended(void *opaque, int result, const struct error *err)
{
	struct rig *rig = opaque;

	rig->arrival_result = result;
	rig->arrival_err = *err;
	atomic_store(&rig->ended, true);
}

static void arrival_closed(void *opaque)
{
	struct rig *rig = opaque;

	atomic_store(&rig->arrived, true);
}

static int make_arrival(struct rig *rig, struct arrival **arrival, struct error *err)
{
	const struct arrival_terms terms = {.memory = &rig->there,
		.listening = rig->listening,
		.tls = rig->tls_there,
		.ops = {.ended = arrival_ended, .closed = arrival_closed, .opaque = rig}};
	int ret = arrival_new(&rig->arrival, &terms, err);

	if (ret == 0)
		ret = arrival_start(rig->arrival, err);
	*arrival = rig->arrival;
	return ret;
}

static int build(void *opaque, const char *text, size_t length, struct memory **memory,
	struct arrival **arrival, struct error *err)
{
	struct rig *rig = opaque;
	int ret = arrival ? make_arrival(rig, arrival, err) : 0;

	assert_int_equal(strlen(text), length);
	*memory = &rig->there;
	return ret < 0 ? ret : fails(rig, RIG_BUILD, err);
}

static int restore(void *opaque, struct state_reader *state, struct error *err)
{
	struct rig *rig = opaque;

	if (rig->restores)
		rig->restores(rig);
	assert_int_equal(state_section_next(state, err), 1);
	assert_true(state_get_u64(state) == 0x1122334455667788);
	return fails(opaque, RIG_RESTORE, err);
}

static int run(void *opaque, struct error *err)
{
	struct rig *rig = opaque;
	int ret;

	if (rig->runs)
		rig->runs(rig);
	ret = fails(rig, RIG_RUN, err);
	if (ret < 0)
		return ret;
	/* Nobody else has them, or ever will. */
	assert_false(rig->disks_here || rig->runs_here);
	rig->disks_there = rig->runs_there = true;
	return 0;
}

static void rig_close_door(struct rig *rig)
{
	address_close(&rig->address, rig->listening);
	rig->listening = -1;
}

static void *run_target(void *opaque)
{
	struct rig *rig = opaque;
	const struct target_ops ops = {
		.build = build, .restore = restore, .run = run, .opaque = rig};

	line = owner = rig;
	is_target = true;
	rig->result = target_run(&ops, rig->listening, rig->stop, rig->tls_there, &rig->target_err);
	/* As its process would, so that who is about to come does not wait for an answer. */
	if (rig->result < 0 || !rig->arrival || !arrival_is_begun(rig->arrival))
		rig_close_door(rig);
	return NULL;
}

/* ---- both ---- */

static void add_memory(struct memory *memory, const struct rig *rig)
{
	memory_init(memory);
	assert_int_equal(memory_add(memory, GPA(0), rig->low, MEMORY_ANONYMOUS, "low", NULL), 0);
	if (rig->high)
		assert_int_equal(
			memory_add(memory, GPA(HIGH_AT), rig->high, MEMORY_ANONYMOUS, "high", NULL),
			0);
}

bool rig_has_late(void)
{
	struct memory memory;
	struct memory_late *late = NULL;

	memory_init(&memory);
	assert_int_equal(
		memory_add(&memory, GPA(0), MEMORY_PAGE, MEMORY_ANONYMOUS, "try", NULL), 0);
	if (memory_late_open(&late, &memory, NULL) < 0)
		late = NULL;
	memory_late_free(late);
	memory_free(&memory);
	return late != NULL;
}

void rig_open(struct rig *rig)
{
	static unsigned count;

	snprintf(rig->path, sizeof(rig->path), "/tmp/duet-migrate-%d-%u", (int)getpid(), count++);
	snprintf(rig->text, sizeof(rig->text), "unix:%s", rig->path);
	assert_int_equal(address_parse(&rig->address, rig->text, "test", NULL), 0);
	rig->listening = address_listen(&rig->address, NULL);
	rig->stop = eventfd(0, EFD_NONBLOCK);
	rig->gone = eventfd(0, EFD_NONBLOCK);
	assert_true(rig->listening >= 0 && rig->stop >= 0);
	add_memory(&rig->here, rig);
	add_memory(&rig->there, rig);
	rig->runs_here = rig->disks_here = true;
	rig->streams = rig->streams ? rig->streams : 1;
	for (unsigned i = 0; i <= rig->streams; i++)
		rig->channels[i].fd = -1;
}

void rig_begin_target(struct rig *rig)
{
	assert_int_equal(thread_start(&rig->target, 131072, run_target, rig), 0);
	rig->has_target = true;
}

static void join_target(struct rig *rig)
{
	if (rig->has_target)
		pthread_join(rig->target, NULL);
	rig->has_target = false;
}

/* Where the source's last word was not heard, for a call failed, it waits for nobody. */
static bool is_over(struct rig *rig)
{
	const bool hurried = rig->fault == RIG_NO_CALL || rig->fault == RIG_NO_MEMORY;

	return atomic_load(hurried ? &rig->ended : &rig->arrived);
}

/* Nobody comes any more: a target that waits for a source goes on to wait. */
void rig_end_target(struct rig *rig)
{
	if (rig->end != SOURCE_MOVED)
		eventfd_write(rig->stop, 1);
	join_target(rig);
	/* Its own end comes, by itself. */
	while (rig->result == 0 && rig->arrival && arrival_is_begun(rig->arrival) && !is_over(rig))
		sched_yield();
	rig_kill_target(rig);
}

void rig_kill_target(struct rig *rig)
{
	join_target(rig);
	arrival_free(rig->arrival, false);
	rig->arrival = NULL;
	rig_close_door(rig);
}

void rig_cut(struct rig *rig)
{
	for (unsigned i = 0; i <= rig->streams; i++)
		if (rig->channels[i].fd >= 0)
			shutdown(rig->channels[i].fd, SHUT_RDWR);
}

void rig_migrate(struct rig *rig)
{
	rig->source = (struct source){.ops = &source_ops,
		.opaque = rig,
		.channels = rig->channels,
		.streams = rig->streams,
		.cpus = 2,
		.compress = rig->compress,
		.wait = rig->wait,
		.stop = rig->gone,
		.id = "0123456789abcde",
		.plan = {.limit = rig->limit ? rig->limit : SECOND_NS, .force = rig->force},
		.progress = &rig->progress,
		.connect = connect_one};
	atomic_store(&loser, rig->lost ? rig : NULL);
	rig_begin_target(rig);
	line = owner = rig;
	rig->end = SOURCE_STAYS;
	if (connect_one(rig, &rig->channels[0], &rig->source_err) == 0)
		rig->end = source_run(&rig->source, &rig->source_err);
	for (unsigned i = 0; i <= rig->streams; i++)
		channel_close(&rig->channels[i]);
	atomic_store(&rig->source_ended, true);
	end_writer(rig);
	line = owner = NULL;
	rig_end_target(rig);
	atomic_store(&loser, NULL);
	if (rig->end == SOURCE_STAYS)
		rig->runs_here = true;
}

void rig_let_cut(struct rig *rig)
{
	atomic_store(&rig->is_to_cut, true);
}

bool rig_same_memory(const struct rig *rig)
{
	const struct memory_region *here, *there;

	for (unsigned i = 0; (here = memory_region(&rig->here, i)); i++) {
		there = memory_region(&rig->there, i);
		if (memcmp(here->mapped_at, there->mapped_at, here->size) != 0)
			return false;
	}
	return true;
}

void rig_clear_memory(struct rig *rig)
{
	assert_int_equal(memory_clear(&rig->there), 0);
	assert_int_equal(memory_clear(&rig->here), 0);
}

static void assert_end(const struct rig *rig, enum source_end end)
{
	if (rig->end != end)
		fail_msg("%s; %s; %s", rig->source_err.text, rig->target_err.text,
			rig->arrival_err.text);
}

void rig_assert_moved(const struct rig *rig)
{
	assert_end(rig, SOURCE_MOVED);
	assert_true(rig->runs_there && rig->disks_there && rig->arrived);
	assert_false(rig->runs_here || rig->disks_here);
	assert_int_equal(rig->arrival_result, 0);
	assert_int_equal(rig->followed, 1);
	assert_true(rig_same_memory(rig));
}

void rig_assert_stays(const struct rig *rig)
{
	assert_end(rig, SOURCE_STAYS);
	assert_true(rig->runs_here && rig->disks_here && *rig->source_err.text);
	assert_false(rig->runs_there || rig->disks_there || rig->followed);
}

void rig_close(struct rig *rig)
{
	close(rig->stop);
	close(rig->gone);
	memory_free(&rig->here);
	memory_free(&rig->there);
}
