/* SPDX-License-Identifier: Apache-2.0 */
/* ps and events: what the container's machine says of what runs in it. */
#include "base/numbers.h"
#include "oci/commands.h"
#include "oci/guest.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int open_running(struct container *container, const struct settings *settings, int argc,
	char **argv, int most, struct error *err)
{
	const char *id = take_id(argc, argv, most, err);
	int ret = id ? container_open(container, settings->root, id, false, err) : -EINVAL;

	if (ret == 0 && container_status(container) == CONTAINER_STOPPED)
		ret = error_set(err, EINVAL, "container %s is stopped", id);
	return ret;
}

static void print_text(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
	putchar('\n');
}

static int print_listing(const struct listing *listing, bool json)
{
	if (!json)
		puts("    PID     UID COMMAND");
	for (uint32_t i = 0; i < listing->count; i++) {
		const struct listed *listed = &listing->items[i];

		if (json) {
			printf("%s%u", i ? "," : "[", listed->pid);
		} else {
			printf("%7u %7u ", listed->pid, listed->uid);
			print_text(listed->command);
		}
	}
	if (json)
		puts(listing->count ? "]" : "[]");
	return 0;
}

int command_ps(struct settings *settings, int argc, char **argv, struct error *err)
{
	static const struct option options[] = {
		{"format", required_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
	struct container container = {.dir = -1};
	struct listing listing = {0};
	bool json = false;
	int option, ret;

	while ((option = next_option(argc, argv, "+f:", options, err)) != -1) {
		if (option == '?')
			return -EINVAL;
		json = strcmp(optarg, "json") == 0;
		if (!json && strcmp(optarg, "table") != 0)
			return error_set(err, EINVAL, "--format %s: table or json", optarg);
	}
	/* Words for the host's ps, which other runtimes pass on, mean nothing in a guest. */
	ret = open_running(&container, settings, argc, argv, INT32_MAX, err)
		      ?: guest_list(&container, &listing, err);
	if (ret == 0)
		print_listing(&listing, json);
	listing_free(&listing);
	container_close(&container);
	return ret;
}

/* "No limit" as engines know it. */
static json_int_t number(uint64_t value)
{
	return value > INT64_MAX ? INT64_MAX : (json_int_t)value;
}

static int print_usage(const struct container *container, struct error *err)
{
	struct usage usage;
	json_t *json;
	int ret = guest_usage(container, &usage, err);

	if (ret < 0)
		return ret;
	json = json_pack(
		"{s:s, s:s, s:{s:{s:{s:I, s:I, s:I}}, s:{s:{s:I, s:I, s:I}}, s:{s:I, s:I}}}",
		"type", "stats", "id", container->id, "data", "cpu", "usage", "total",
		number(usage.cpu_ns), "user", number(usage.user_ns), "kernel",
		number(usage.system_ns), "memory", "usage", "usage", number(usage.memory), "max",
		number(usage.memory_peak), "limit", number(usage.memory_limit), "pids", "current",
		number(usage.pids), "limit", number(usage.pids_limit));
	if (!json || json_dumpf(json, stdout, JSON_COMPACT) < 0)
		ret = error_set(err, ENOMEM, "there is no memory");
	json_decref(json);
	putchar('\n');
	return fflush(stdout) < 0 ? error_errno(err, errno, "standard output") : ret;
}

/* Again and again, until the container has ended. */
static int print_events(const struct container *container, uint64_t seconds, struct error *err)
{
	const struct itimerspec each = {{(time_t)seconds, 0}, {(time_t)seconds, 0}};
	const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	uint64_t expired;
	int ret = timer < 0 || timerfd_settime(timer, 0, &each, NULL) < 0
			  ? error_errno(err, errno, "a timer")
			  : 0;

	while (ret == 0 && container_status(container) != CONTAINER_STOPPED) {
		ret = print_usage(container, err);
		if (read(timer, &expired, sizeof(expired)) < 0)
			ret = error_errno(err, errno, "a timer");
	}
	close(timer);
	return container_status(container) == CONTAINER_STOPPED ? 0 : ret;
}

int command_events(struct settings *settings, int argc, char **argv, struct error *err)
{
	static const struct option options[] = {{"stats", no_argument, NULL, 's'},
		{"interval", required_argument, NULL, 'i'}, {NULL, 0, NULL, 0}};
	struct container container = {.dir = -1};
	uint64_t seconds = 5;
	bool once = false;
	int option, ret;

	while ((option = next_option(argc, argv, "+", options, err)) != -1) {
		if (option == '?')
			return -EINVAL;
		if (option == 's')
			once = true;
		/* "5s", as other runtimes take it, or "5". */
		else if (parse_number(strtok(optarg, "s"), 1, 86400, &seconds) < 0)
			return error_set(err, EINVAL, "--interval: name seconds, such as 5s");
	}
	ret = open_running(&container, settings, argc, argv, 1, err);
	if (ret == 0)
		ret = once ? print_usage(&container, err) : print_events(&container, seconds, err);
	container_close(&container);
	return ret;
}
