/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ctl_unplug.h"

#include "base/clock.h"
#include "base/log.h"
#include "cli/ctl_ask.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A driver may write out what it has first. */
#define GUEST_S 60
#define LOOK_MS 200

/* The first of the type, or of that id, in the machine's list; 0: there is none. */
static int look(
	const char *socket, const char *key, const char *value, char id[65], struct error *err)
{
	json_t *devices, *device;
	size_t index;
	int ret = ctl_ask(socket, "GET", "/duet/devices", NULL, &devices, err);

	if (ret < 0)
		return ret;
	json_array_foreach(devices, index, device)
	{
		const char *is = json_string_value(json_object_get(device, key));
		const char *name = json_string_value(json_object_get(device, "id"));

		if (ret == 0 && is && name && strcmp(is, value) == 0)
			ret = snprintf(id, 65, "%s", name) < 65;
	}
	json_decref(devices);
	return ret;
}

static int await_end(const char *socket, const char *id, struct error *err)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
	const uint64_t until = clock_ns() + GUEST_S * SECOND_NS;
	char found[65];
	int ret;

	while ((ret = look(socket, "id", id, found, err)) > 0 && clock_ns() < until)
		nanosleep(&pause, NULL);
	return ret;
}

static int unplug(const char *socket, const char *id)
{
	struct error err = {0};
	char path[100];
	int ret;

	snprintf(path, sizeof(path), "/duet/devices/%.64s", id);
	ret = ctl_ask(socket, "DELETE", path, NULL, NULL, &err);
	if (ret == 0) {
		printf("%s: the guest is asked to let go of it\n", id);
		fflush(stdout);
		ret = await_end(socket, id, &err);
	}
	if (ret == 0) {
		printf("%s: unplugged\n", id);
		return 0;
	}
	if (ret < 0)
		log_error("unplug %s: %s", id, err.text);
	else
		log_error(
			"unplug %s: the guest has not let go of it within %d s; it still may: look "
			"into its log (it needs ACPI hotplug, and to have booted), and ask again",
			id, GUEST_S);
	return 1;
}

int ctl_unplug(const char *socket, unsigned count, const char *const *args)
{
	(void)count;
	if (*args[0] && !strpbrk(args[0], " /?\r\n") && strlen(args[0]) < 65)
		return unplug(socket, args[0]);
	log_error("unplug %s: no name of a device, as vfio0", args[0]);
	return 2;
}

int ctl_unplug_all(const char *socket)
{
	struct error err = {0};
	char id[65];
	int ret;

	while ((ret = look(socket, "type", "vfio", id, &err)) > 0)
		if (unplug(socket, id) != 0)
			return 1;
	if (ret < 0)
		log_error("%s", err.text);
	return ret < 0;
}
