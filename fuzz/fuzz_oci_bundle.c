/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a bundle's config.json: refused with words, or something that the wire carries to the
 * agent and a machine can be made of. */
#include "oci/bundle.h"
#include "oci/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_oci_bundle: %s\n", what);
	abort();
}

static void check(struct bundle *bundle)
{
	struct vm_parts parts = {.kernel = "k", .initrd = "i", .image = "d", .cache = "c"};
	struct setup back = {0};
	struct wire wire, read;
	char *config;

	for (uint32_t i = 0; i < bundle->setup.mount_count; i++)
		must(*bundle->setup.mounts[i].destination == '/', "a relative mount");
	must(bundle->setup.process.args.count && *bundle->setup.process.cwd == '/', "no process");
	vm_size(bundle, 4, &parts.memory, &parts.cpus);
	must(parts.memory >= 128ULL << 20 && parts.cpus >= 1 && parts.cpus <= 4,
		"the machine's size");
	parts.setup = &bundle->setup;
	config = vm_config(&parts);
	must(config, "no configuration");
	free(config);
	bundle->setup.root_type = strdup("ext4");
	wire_write(&wire);
	wire_setup(&wire, &bundle->setup);
	must(wire_end(&wire) == 0, "it does not fit on the wire");
	wire_read(&read, wire.bytes, wire.length);
	wire_setup(&read, &back);
	must(wire_end(&read) == 0, "it does not come back");
	must(back.mount_count == bundle->setup.mount_count, "mounts are lost");
	setup_free(&back);
	free(wire.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bundle bundle = {0};
	struct error err = {0};

	if (bundle_parse(&bundle, (const char *)data, size, &err) == 0)
		check(&bundle);
	else
		must(err.text[0], "refused without a word");
	bundle_free(&bundle);
	return 0;
}
