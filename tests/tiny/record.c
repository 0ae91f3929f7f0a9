/* SPDX-License-Identifier: Apache-2.0 */
/* What devices offer is fixed at a machine's first start: the configuration of one that runs is run
 * again, as it is and altered as if another duet had written it. */
#include "everything.h"
#include "tiny.h"
#include "whole.h"

#include "machine/internal.h"
#include "virtio/virtio.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define UNKNOWN (1ULL << 50) /* no device has it */

static char kernel[] = "/tmp/duet-record-XXXXXX";
static int nowhere;

static int build(struct machine **machine, const struct machine_config *config, struct error *err)
{
	const struct machine_owner owner = {.loop = whole_loop, .output = nowhere};
	int ret = machine_new(machine, config, &owner, err);

	return ret < 0 ? ret : machine_build(*machine, err);
}

static struct machine *run(const struct machine_config *config)
{
	struct error err = {0};
	struct machine *machine;

	if (build(&machine, config, &err) < 0 || machine_start(machine, &err) < 0) {
		printf("machine: %s\n", err.text);
		exit(1);
	}
	CHECK(machine_state(machine) == MACHINE_RUNNING);
	return machine;
}

static char *text_of(const struct machine *machine)
{
	struct error err = {0};
	char *text;

	CHECK(machine_config_write(machine_config(machine), &text, &err) == 0);
	return text;
}

/* As --config does. */
static void read_text(struct machine_config *config, const char *text)
{
	struct error err = {0};

	machine_config_init(config);
	if (machine_config_read(config, text, strlen(text), "vm.json", &err) < 0) {
		printf("%s\n", err.text);
		exit(1);
	}
}

static uint64_t offered(const struct machine *machine, const char *id)
{
	for (struct device *device = machine->devices; device; device = device->next)
		if (strcmp(device->name, id) == 0)
			return virtio_offered(device);
	printf("%s: no such device\n", id);
	exit(1);
}

/* Each device of @machine offers what its record says; returns how many there are. */
static unsigned expect_offers(const struct machine *machine, const struct machine_config *records)
{
	unsigned count = 0;

	for (unsigned i = 0; i < records->device_count; i++) {
		const struct device_config *record = &records->devices[i];

		if (!record->features)
			continue;
		CHECK(offered(machine, record->id) == record->features);
		count++;
	}
	return count;
}

/* The configuration of one that runs. */
static char *first_start(void)
{
	struct machine_config config;
	struct machine *machine;
	char *text;

	whole_config(&config, kernel);
	everything_add(&config);
	machine = run(&config);
	machine_config_free(&config);
	text = text_of(machine);
	CHECK(expect_offers(machine, machine_config(machine)) == everything_virtio());
	whole_end(machine);
	machine_free(machine);
	return text;
}

static void test_the_same_again(const char *text)
{
	struct machine_config config;
	struct machine *machine;
	char *again;

	read_text(&config, text);
	machine = run(&config);
	CHECK(expect_offers(machine, &config) == everything_virtio());
	again = text_of(machine);
	CHECK(strcmp(text, again) == 0);
	free(again);
	whole_end(machine);
	machine_free(machine);
	machine_config_free(&config);
}

/* Of a duet that could offer less: the lowest bit of each is not there. */
static void test_no_more_than_recorded(const char *text)
{
	struct machine_config config;
	struct machine *machine;

	read_text(&config, text);
	for (unsigned i = 0; i < config.device_count; i++)
		config.devices[i].features &= config.devices[i].features - 1;
	machine = run(&config);
	CHECK(expect_offers(machine, &config) == everything_virtio());
	CHECK(expect_offers(machine, machine_config(machine)) == everything_virtio());
	whole_end(machine);
	machine_free(machine);
	machine_config_free(&config);
}

static void expect_refusal(const struct machine_config *config, const char *id, const char *words)
{
	struct error err = {0};
	struct machine *machine;

	CHECK(build(&machine, config, &err) < 0);
	if (strncmp(err.text, id, strlen(id)) != 0 || !strstr(err.text, words)) {
		printf("%s: %s\n", id, err.text);
		exit(1);
	}
	machine_free(machine);
}

/* Of a duet that could offer more. */
static void test_more_than_there_is(const char *text)
{
	struct machine_config config;
	unsigned refused = 0;

	read_text(&config, text);
	for (unsigned i = 0; i < config.device_count; i++) {
		uint64_t *features = &config.devices[i].features, kept = *features;

		if (!kept)
			continue;
		*features |= UNKNOWN;
		expect_refusal(&config, config.devices[i].id,
			"0x4000000000000 of them cannot be had here");
		*features = kept & ~VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
		expect_refusal(&config, config.devices[i].id, "lack VIRTIO_F_VERSION_1");
		*features = kept;
		refused++;
	}
	CHECK(refused == everything_virtio());
	machine_config_free(&config);
}

int main(void)
{
	char *text;

	if (!whole_open())
		return 77;
	nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	whole_kernel(kernel, whole_halting, sizeof(whole_halting));
	everything_open();
	text = first_start();
	test_the_same_again(text);
	test_no_more_than_recorded(text);
	test_more_than_there_is(text);
	tiny_ok("devices offer what is recorded");
	free(text);
	everything_close();
	unlink(kernel);
	whole_close();
	return 0;
}
