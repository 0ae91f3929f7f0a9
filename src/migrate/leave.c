/* SPDX-License-Identifier: Apache-2.0 */
/* A migration's life at the source: its options, its thread, its end. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/thread.h"
#include "migrate/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

/* #syscalls main: eventfd2 getrandom read write */

#define STACK_SIZE (256U << 10) /* a TLS handshake goes deep */

/* ---- on the thread ---- */

static int get_config(void *opaque, char **text, struct error *err)
{
	struct migration *migration = opaque;
	int ret = migration_ask(migration, WISH_CONFIG, err);

	*text = ret == 0 ? strdup(migration->config) : NULL;
	return ret == 0 && !*text ? error_errno(err, ENOMEM, "migration") : ret;
}

static struct memory *get_memory(void *opaque)
{
	const struct migration *migration = opaque;

	return machine_memory(migration->machine);
}

static int begin_log(void *opaque, struct error *err)
{
	return migration_ask(opaque, WISH_LOG, err);
}

static int take_log(void *opaque, unsigned region, uint64_t *bitmap, struct error *err)
{
	const struct migration *migration = opaque;

	return machine_log_take(migration->machine, region, bitmap, err);
}

_Static_assert(SHARES_CPUS_MAX == MACHINE_CPUS_MAX, "a share for each vCPU");

static bool get_writers(void *opaque, uint64_t written[SHARES_CPUS_MAX])
{
	const struct migration *migration = opaque;

	return machine_log_tells(migration->machine, written);
}

static int throttle(void *opaque, const uint8_t percent[SHARES_CPUS_MAX], struct error *err)
{
	struct migration *migration = opaque;

	memcpy(migration->percent, percent, sizeof(migration->percent));
	return migration_ask(migration, WISH_THROTTLE, err);
}

static int stop(void *opaque, struct state_writer *writer, struct error *err)
{
	struct migration *migration = opaque;

	migration->writer = writer;
	return migration_ask(migration, WISH_STOP, err);
}

static int release(void *opaque, struct error *err)
{
	const struct migration *migration = opaque;

	return machine_release_disks(migration->machine, err);
}

static bool commit(void *opaque)
{
	struct migration *migration = opaque;
	bool may;

	pthread_mutex_lock(&migration->lock);
	may = !migration->cancelled && !migration->leaving;
	migration->committed = may;
	pthread_mutex_unlock(&migration->lock);
	return may;
}

static int take_back(void *opaque, struct error *err)
{
	return migration_ask(opaque, WISH_TAKE_BACK, err);
}

/* Nobody is there to object. */
static void follow(void *opaque)
{
	struct error ignored;

	migration_ask(opaque, WISH_FOLLOW, &ignored);
}

static const struct source_ops source_ops = {
	.config = get_config,
	.memory = get_memory,
	.log = begin_log,
	.take = take_log,
	.writers = get_writers,
	.throttle = throttle,
	.stop = stop,
	.release = release,
	.commit = commit,
	.take_back = take_back,
	.follow = follow,
};

static int connect_one(void *opaque, struct channel *channel, struct error *err)
{
	const struct migration *migration = opaque;
	int fd = address_connect(&migration->address, migration->stop, err);

	return fd < 0 ? fd
		      : channel_open(channel, fd, migration->stop, migration->tls, false, 0, err);
}

static void *run(void *opaque)
{
	struct migration *migration = opaque;

	pthread_setname_np(pthread_self(), "duet-migrate");
	migration->end = SOURCE_STAYS;
	if (connect_one(migration, &migration->channels[0], &migration->err) == 0)
		migration->end = source_run(&migration->source, &migration->err);
	for (unsigned i = 0; i <= migration->source.streams; i++)
		channel_close(&migration->channels[i]);
	atomic_store(&migration->progress.phase, SOURCE_ENDED);
	pthread_mutex_lock(&migration->lock);
	migration->wish = WISH_LET_GO;
	if (!migration->leaving)
		loop_post(migration->loop, &migration->task);
	pthread_mutex_unlock(&migration->lock);
	return NULL;
}

/* ---- on the loop ---- */

int migration_check_address(const struct address *address, const struct mtls_files *tls, bool plain,
	const char *what, struct error *err)
{
	const bool sealed = tls->cert || tls->key || tls->ca;

	if (sealed && plain)
		return error_set(err, EINVAL, "%s: plain and TLS's files exclude each other", what);
	if (sealed)
		return mtls_check(tls, what, err);
	if (plain || address_is_local(address))
		return 0;
	return error_set(err, EINVAL,
		"%s %s: what goes to another host needs TLS: give --cert, --key and --ca, or say "
		"--plain%s where nobody can listen",
		what, address->text, what[0] == '-' ? " on" : "");
}

static int copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

static int take_options(
	struct migration *migration, const struct migration_options *options, struct error *err)
{
	const struct mtls_files *tls = &options->tls;
	const unsigned streams = options->streams ? options->streams : 1;
	const unsigned downtime =
		options->downtime_ms ? options->downtime_ms : MIGRATION_DOWNTIME_MS;
	int ret;

	if (streams > MIGRATION_STREAMS_MAX)
		return error_set(
			err, EINVAL, "streams: give a number from 1 to %d", MIGRATION_STREAMS_MAX);
	if (downtime > MIGRATION_DOWNTIME_MAX)
		return error_set(err, EINVAL, "downtime_ms: give a number from 1 to %d",
			MIGRATION_DOWNTIME_MAX);
	if (options->wait_s > MIGRATION_WAIT_MAX)
		return error_set(
			err, EINVAL, "wait_s: give a number from 1 to %d", MIGRATION_WAIT_MAX);
	if (options->wait_s && !options->post_copy)
		return error_set(err, EINVAL, "wait_s: is for post_copy (--post-copy)");
	if (copy_text(&migration->to, options->to) < 0)
		return error_errno(err, ENOMEM, "migration");
	ret = address_parse(&migration->address, migration->to, "migrate", err);
	if (ret == 0)
		ret = migration_check_address(
			&migration->address, tls, options->plain, "migrate", err);
	if (ret == 0 && (tls->cert || tls->key || tls->ca))
		ret = mtls_new(&migration->tls, tls, err);
	migration->source.streams = streams;
	migration->source.compress = options->compress;
	if (options->post_copy)
		migration->source.wait = options->wait_s ? options->wait_s : MIGRATION_WAIT_S;
	migration->source.plan = (struct plan){.limit = downtime * MS_NS, .force = options->force};
	return ret;
}

static int make_channels(struct migration *migration, struct error *err)
{
	/* One more for pages that are asked for. */
	const unsigned streams = migration->source.streams + 1;

	migration->channels = calloc(streams, sizeof(*migration->channels));
	if (!migration->channels)
		return error_errno(err, ENOMEM, "migration");
	for (unsigned i = 0; i < streams; i++)
		migration->channels[i].fd = -1;
	migration->source.channels = migration->channels;
	migration->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (migration->stop < 0)
		return error_errno(err, errno, "migration: eventfd");
	migration->source.stop = migration->stop;
	if (getrandom(migration->source.id, WIRE_ID, 0) != WIRE_ID)
		return error_errno(err, errno, "migration: random numbers");
	return 0;
}

static int start(struct migration *migration, struct error *err)
{
	int ret;

	migration->source.ops = &source_ops;
	migration->source.opaque = migration;
	migration->source.connect = connect_one;
	migration->source.cpus = machine_config(migration->machine)->cpus;
	migration->source.progress = &migration->progress;
	ret = thread_start(&migration->thread, STACK_SIZE, run, migration);
	if (ret)
		return error_errno(err, ret, "migration: thread");
	migration->started = true;
	return 0;
}

int migration_begin(struct migration **out, struct machine *machine, struct loop *loop,
	const struct migration_options *options, struct error *err)
{
	struct migration *migration = calloc(1, sizeof(*migration));
	int ret;

	if (!migration)
		return error_errno(err, ENOMEM, "migration");
	migration->machine = machine;
	migration->loop = loop;
	migration->stop = -1;
	pthread_mutex_init(&migration->lock, NULL);
	pthread_cond_init(&migration->answered, NULL);
	migration_prepare(migration);
	ret = machine_check_movable(machine, err);
	if (ret == 0)
		ret = take_options(migration, options, err);
	if (ret == 0)
		ret = make_channels(migration, err);
	if (ret == 0)
		ret = start(migration, err);
	if (ret < 0)
		migration_free(migration);
	else
		*out = migration;
	return ret;
}

int migration_check(const struct migration_options *options, struct error *err)
{
	struct migration migration = {0};
	int ret = take_options(&migration, options, err);

	mtls_free(migration.tls);
	free(migration.to);
	return ret;
}

static void tell_to_stop(struct migration *migration)
{
	/* The counter of an eventfd does not get full by ones. */
	eventfd_write(migration->stop, 1);
}

int migration_cancel(struct migration *migration)
{
	const int phase = atomic_load(&migration->progress.phase);
	bool too_late;

	if (migration->state == MIGRATION_RUNNING &&
		(phase == SOURCE_ARRIVING || phase == SOURCE_CUT))
		return -EXDEV;
	pthread_mutex_lock(&migration->lock);
	too_late = migration->committed || migration->state != MIGRATION_RUNNING;
	if (!too_late) {
		migration->cancelled = true;
		tell_to_stop(migration);
	}
	pthread_mutex_unlock(&migration->lock);
	return too_late ? -EALREADY : 0;
}

struct migration_status migration_status(const struct migration *migration)
{
	const bool ended = migration->state != MIGRATION_RUNNING;

	return (struct migration_status){.state = migration->state,
		.progress = &migration->progress,
		.why = ended ? migration->err.text : ""};
}

static void end_thread(struct migration *migration)
{
	pthread_mutex_lock(&migration->lock);
	migration->leaving = true;
	pthread_cond_signal(&migration->answered);
	pthread_mutex_unlock(&migration->lock);
	tell_to_stop(migration);
	pthread_join(migration->thread, NULL);
	loop_unpost(migration->loop, &migration->task);
}

void migration_free(struct migration *migration)
{
	if (!migration)
		return;
	if (migration->started)
		end_thread(migration);
	loop_timer_stop(&migration->timer);
	if (migration->stop >= 0)
		close(migration->stop);
	mtls_free(migration->tls);
	pthread_cond_destroy(&migration->answered);
	pthread_mutex_destroy(&migration->lock);
	free(migration->channels);
	free(migration->config);
	free(migration->to);
	free(migration);
}
