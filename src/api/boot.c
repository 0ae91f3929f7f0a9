/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel and its command line. */
#include "api/private.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Firecracker's, without "pci=off" and "nomodule": duet's devices are on PCI, and stock kernels
 * have their drivers as modules. */
#define DEFAULT_ARGS "reboot=k panic=1 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd"
#define ARGS_MAX     2048

/* Clients write these for Firecracker's guests, which find their devices without PCI. */
static const char *const dropped_words[] = {"pci=off", "noapic"};

struct fields {
	const char *kernel, *initrd, *args;
};

#define IN(member) offsetof(struct fields, member)
static const struct member members[] = {
	{.name = "kernel_image_path", .kind = MEMBER_TEXT, .needed = true, .offset = IN(kernel)},
	{.name = "initrd_path", .kind = MEMBER_TEXT, .offset = IN(initrd)},
	{.name = "boot_args", .kind = MEMBER_TEXT, .offset = IN(args)},
};
static const struct body body = {
	"BootSourceConfig", members, ARRAY_SIZE(members), .size = sizeof(struct fields)};

static bool is_dropped(const char *word, size_t length)
{
	for (unsigned i = 0; i < ARRAY_SIZE(dropped_words); i++)
		if (strlen(dropped_words[i]) == length &&
			memcmp(dropped_words[i], word, length) == 0)
			return true;
	return false;
}

/* @tell: a line in the log for each word that goes. */
static void copy_args(char *to, const char *args, bool tell)
{
	char *begin = to;

	while (*args) {
		size_t blanks = strspn(args, " "), length = strcspn(args + blanks, " ");
		const char *word = args + blanks;

		if (!is_dropped(word, length)) {
			memcpy(to, args, blanks + length);
			to += blanks + length;
		} else if (tell) {
			log_info("boot_args: %.*s is left out: the devices are on PCI, and their "
				 "interrupts at the I/O APIC",
				(int)length, word);
		}
		args = word + length;
	}
	*to = 0;
	memmove(begin, begin + strspn(begin, " "), strlen(begin + strspn(begin, " ")) + 1);
}

static const struct api_drive *root_drive(const struct api *api)
{
	for (unsigned i = 0; i < api->drive_count; i++)
		if (api->drives[i].root)
			return &api->drives[i];
	return NULL;
}

static int append_root(const struct api *api, char **args)
{
	const struct api_drive *root = root_drive(api);
	const struct device_config *disk =
		root ? machine_config_find(api->options.config, root->id) : NULL;
	char *with;
	int ret;

	if (!disk)
		return 0;
	ret = asprintf(&with, "%s%sroot=%s%s %s", *args, **args ? " " : "",
		root->partuuid ? "PARTUUID=" : "/dev/vda", root->partuuid ? root->partuuid : "",
		disk->disk.readonly ? "ro" : "rw");
	if (ret < 0)
		return -ENOMEM;
	free(*args);
	*args = with;
	return 0;
}

static int update(struct api *api, bool tell)
{
	struct machine_config *config = api->options.config;
	const char *given = api->boot_args ? api->boot_args : DEFAULT_ARGS;
	char *args;
	int ret;

	if (!config->kernel)
		return 0;
	args = malloc(strlen(given) + 1);
	if (!args)
		return -ENOMEM;
	copy_args(args, given, tell);
	ret = append_root(api, &args);
	if (ret < 0) {
		free(args);
		return ret;
	}
	free(config->cmdline);
	config->cmdline = args;
	return 0;
}

int boot_update(struct api *api)
{
	return update(api, false);
}

static int check_files(const struct fields *fields, struct error *err)
{
	if (access(fields->kernel, R_OK) < 0)
		return error_set(err, errno,
			"Boot source error: The kernel file cannot be opened: %s (os error %d): "
			"%.256s",
			strerrordesc_np(errno), errno, fields->kernel);
	if (fields->initrd && access(fields->initrd, R_OK) < 0)
		return error_set(err, errno,
			"Boot source error: The initrd file cannot be opened due to invalid path "
			"or invalid permissions. %s (os error %d): %.256s",
			strerrordesc_np(errno), errno, fields->initrd);
	if (fields->args && strlen(fields->args) >= ARGS_MAX)
		return error_set(err, E2BIG,
			"Boot source error: The kernel command line is invalid: more than %d "
			"characters",
			ARGS_MAX - 1);
	return 0;
}

/* @found: to be freed; null when there is none. One of another owner's than the kernel could have
 * been put there by anybody. */
static int initrd_beside(const char *kernel, char **found)
{
	struct stat file, image;

	if (asprintf(found, "%s.initrd", kernel) < 0) {
		*found = NULL;
		return -ENOMEM;
	}
	if (stat(*found, &file) < 0 || stat(kernel, &image) < 0 || !S_ISREG(file.st_mode) ||
		file.st_uid != image.st_uid) {
		free(*found);
		*found = NULL;
	}
	return 0;
}

/* Clients that know of no initrd start distributions' kernels, too, which have the drivers of
 * their root disk in one. Also beside what a link leads to: a client that looks for its kernel by
 * the beginning of a name would take the initrd for a newer one. */
static int find_initrd(const char *kernel, char **found)
{
	_cleanup_free_ char *target = NULL;
	int ret = initrd_beside(kernel, found);

	if (ret < 0 || *found)
		return ret;
	target = realpath(kernel, NULL);
	return target ? initrd_beside(target, found) : 0;
}

static int take(struct call *call, const struct fields *fields)
{
	struct machine_config *config = call->api->options.config;
	const struct {
		char **to;
		const char *from;
	} texts[] = {{&config->kernel, fields->kernel}, {&config->initrd, fields->initrd},
		{&call->api->boot_args, fields->args}};

	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		char *copy = texts[i].from ? strdup(texts[i].from) : NULL;

		if (texts[i].from && !copy)
			return error_errno(&call->err, ENOMEM, "Boot source error");
		free(*texts[i].to);
		*texts[i].to = copy;
	}
	if (update(call->api, true) < 0)
		return error_errno(&call->err, ENOMEM, "Boot source error");
	return 0;
}

static int put(struct call *call)
{
	struct fields fields = *(const struct fields *)call->fields;
	_cleanup_free_ char *found = NULL;
	int ret;

	if (!fields.initrd && find_initrd(fields.kernel, &found) < 0)
		return error_errno(&call->err, ENOMEM, "Boot source error");
	if (found)
		fields.initrd = found;
	ret = check_files(&fields, &call->err);
	if (ret == 0)
		ret = take(call, &fields);
	if (ret == 0 && found)
		log_info("boot source: no initrd_path is given; %s beside the kernel is the initrd",
			found);
	return ret;
}

static json_t *text_or_null(const char *text)
{
	json_t *value = text ? json_string(text) : NULL;

	return value ? value : json_null();
}

/* Of a machine that was started otherwise there are but the words themselves. */
json_t *boot_json(const struct api *api)
{
	const struct machine_config *config = api_config(api);
	const char *args = api->options.start ? api->boot_args : config->cmdline;
	json_t *kernel = config->kernel ? json_string(config->kernel) : NULL;

	return json_pack("{s:o, s:o, s:o}", "kernel_image_path", kernel ? kernel : json_string(""),
		"initrd_path", text_or_null(config->initrd), "boot_args", text_or_null(args));
}

static const struct route routes[] = {
	{"PUT", "boot-source", WHEN_BEFORE, .body = &body, .function = put},
};
const struct route_set boot_routes = {routes, ARRAY_SIZE(routes)};
