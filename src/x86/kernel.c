/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/kernel.h"

#include "base/checked.h"
#include "base/log.h"
#include "x86/boot_params.h"
#include "x86/initrd.h"
#include "x86/kernel_file.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define VMLINUX_INITRD_MAX  0x7fffffffULL
#define VMLINUX_CMDLINE_MAX 2047ULL  /* COMMAND_LINE_SIZE of x86, less the terminator */
#define BZIMAGE_ENTRY64     0x200ULL /* from the start of the protected-mode part */
#define MIB                 (1ULL << 20)

struct kernel_source {
	struct kernel_file file;
	struct initrd initrd;
	char *kernel, *initrd_path; /* for messages; the latter null without */
};

struct loader {
	struct memory *memory;
	const struct kernel_source *source;
	const struct kernel_options *options;
	struct kernel_entry *entry;
	uint64_t initrd;  /* GPA, 0 without */
	uint64_t low_end; /* of the RAM that starts at 0 */
};

static uint64_t mib_up(uint64_t bytes)
{
	return (bytes + MIB - 1) / MIB;
}

static uint64_t low_ram_end(const struct memory *memory)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(memory, i)); i++)
		if (region->base.value == 0)
			return region->size;
	return 0;
}

static uint64_t random_below(uint64_t limit)
{
	uint64_t value;

	if (limit < 2 || getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value))
		return 0;
	return value % limit; /* the bias is below limit / 2^64 */
}

static int too_small(const struct loader *loader, uint64_t needed, struct error *err)
{
	return error_set(err, ENOMEM,
		"--memory: %lluM is too small for the kernel %s: it needs at least %lluM",
		(unsigned long long)(loader->options->ram_size / MIB), loader->source->kernel,
		(unsigned long long)mib_up(needed + loader->source->initrd.size));
}

/* The initrd goes as high as it may, the kernel gets what is below. Returns in @end where the
 * kernel's RAM ends; @kernel_end: what the kernel needs at least. */
static int place_initrd(
	struct loader *loader, uint64_t kernel_end, uint64_t *end, struct error *err)
{
	uint64_t max = loader->source->file.is_bzimage ? loader->source->file.bzimage.initrd_max
						       : VMLINUX_INITRD_MAX;
	uint64_t top = min_u64(loader->low_end, max + 1), left;

	*end = loader->low_end;
	if (kernel_end > loader->low_end)
		return too_small(loader, kernel_end, err);
	if (loader->source->initrd.fd < 0)
		return 0;
	left = top > kernel_end ? top - kernel_end : 0;
	if (loader->source->initrd.size + MEMORY_PAGE > left)
		return error_set(err, ENOMEM,
			"--initrd %s needs %llu MiB; --memory %lluM leaves %llu MiB beside the "
			"kernel; give more memory or a smaller initrd",
			loader->source->initrd_path,
			(unsigned long long)mib_up(loader->source->initrd.size),
			(unsigned long long)(loader->options->ram_size / MIB),
			(unsigned long long)(left / MIB));
	loader->initrd = (top - loader->source->initrd.size) & ~(MEMORY_PAGE - 1);
	*end = loader->initrd;
	return initrd_read(&loader->source->initrd, loader->memory, loader->initrd,
		loader->source->initrd_path, err);
}

static int write_cmdline(struct loader *loader, struct error *err)
{
	uint64_t max = VMLINUX_CMDLINE_MAX;
	size_t length = strlen(loader->options->cmdline);

	if (loader->source->file.is_bzimage)
		max = min_u64(loader->source->file.bzimage.cmdline_max, LAYOUT_CMDLINE_MAX - 1);
	if (length > max)
		return error_set(err, E2BIG,
			"--cmdline: %zu characters (duet's own included); this kernel takes at "
			"most %llu",
			length, (unsigned long long)max);
	if (memory_write(loader->memory, GPA(LAYOUT_CMDLINE), loader->options->cmdline, length + 1))
		return too_small(loader, LAYOUT_KERNEL, err);
	return 0;
}

static int write_params(struct loader *loader, uint64_t code32_start, struct error *err)
{
	bool pvh = loader->entry->mode == KERNEL_ENTRY_PVH32;
	struct boot_info info = {.cmdline = LAYOUT_CMDLINE,
		.initrd = loader->initrd,
		.initrd_size = loader->source->initrd.size,
		.rsdp = loader->options->rsdp,
		.code32_start = code32_start,
		.randomised = loader->entry->randomised,
		.setup = loader->source->file.is_bzimage ? loader->source->file.bzimage.setup
							 : NULL};
	int ret = write_cmdline(loader, err);

	if (ret < 0)
		return ret;
	loader->entry->params = pvh ? LAYOUT_PVH_INFO : LAYOUT_ZERO_PAGE;
	ret = pvh ? boot_params_write_pvh(loader->memory, &info)
		  : boot_params_write_zero_page(loader->memory, &info);
	return ret < 0 ? too_small(loader, LAYOUT_KERNEL, err) : 0;
}

/* Both addresses as Linux's own decompressor chooses them: any aligned place that holds the
 * kernel, physical (below @end) and virtual (within KERNEL_IMAGE_SIZE) independent. */
static void randomise(const struct loader *loader, const struct kernel_plan *plan, uint64_t needed,
	uint64_t end, uint64_t *address, uint64_t *delta)
{
	uint64_t alignment = loader->source->file.bzimage.alignment;
	uint64_t slots = (end - plan->base - needed) / alignment + 1;

	*address = plan->base + random_below(slots) * alignment;
	if (plan->base + needed > KERNEL_IMAGE_MAX)
		return;
	slots = (KERNEL_IMAGE_MAX - plan->base - needed) / alignment + 1;
	*delta = random_below(slots) * alignment;
}

static bool may_randomise(const struct loader *loader, const struct kernel_image *image)
{
	if (!loader->options->randomise || !loader->source->file.is_bzimage)
		return false;
	if (loader->source->file.bzimage.relocatable && kernel_image_relocatable(image))
		return true;
	log_info("--kernel %s: it has no relocation table; its addresses are not randomised",
		loader->source->kernel);
	return false;
}

static int too_low(const struct loader *loader, uint64_t address, struct error *err)
{
	return error_set(err, EINVAL,
		"--kernel %s: linked for address 0x%llx, below 1 MiB, where duet's tables are; "
		"link it for 16 MiB",
		loader->source->kernel, (unsigned long long)address);
}

static int check_image(
	const struct loader *loader, const struct kernel_plan *plan, struct error *err)
{
	if (plan->base < LAYOUT_ACPI_END)
		return too_low(loader, plan->base, err);
	/* The header's 64-bit entry is startup_64 of what is packed. */
	if (loader->source->file.is_bzimage && plan->entry == KERNEL_NO_ENTRY)
		return error_set(err, ENOEXEC,
			"--kernel %s: what it unpacks to has a virtual entry; give "
			"--kernel-unpack guest",
			loader->source->kernel);
	return 0;
}

static int load_image(struct loader *loader, const struct kernel_image *image, struct error *err)
{
	const struct kernel_plan *plan = &image->plan;
	struct kernel_entry *entry = loader->entry;
	uint64_t needed = plan->size, address = plan->base, delta = 0, end;
	int ret = check_image(loader, plan, err);

	if (ret < 0)
		return ret;
	if (loader->source->file.is_bzimage && loader->source->file.bzimage.init_size > needed)
		needed = loader->source->file.bzimage.init_size;
	ret = place_initrd(loader, plan->base + needed, &end, err);
	if (ret < 0)
		return ret;
	entry->randomised = may_randomise(loader, image);
	if (entry->randomised)
		randomise(loader, plan, needed, end, &address, &delta);
	ret = kernel_image_place(image, loader->memory, GPA(address), delta, err);
	if (ret < 0) {
		error_prefix(err, "--kernel %s: ", loader->source->kernel);
		return ret;
	}
	entry->virtual_offset = delta;
	entry->mode = KERNEL_ENTRY_LONG;
	entry->ip = address + plan->entry;
	if (!loader->source->file.is_bzimage && plan->pvh_entry) {
		entry->mode = KERNEL_ENTRY_PVH32;
		entry->ip = plan->pvh_entry;
	}
	return write_params(loader, 0, err);
}

static int load_unpacked(struct loader *loader, struct error *err)
{
	struct kernel_image image;
	int ret = kernel_file_unpack(&loader->source->file, loader->options->cache, &image,
		&loader->entry->from_cache, err);

	if (ret < 0)
		error_prefix(err, "--kernel %s: ", loader->source->kernel);
	else
		ret = load_image(loader, &image, err);
	kernel_image_release(&image);
	return ret;
}

/* Where its protected-mode part goes. A relocatable one moves itself from anywhere. */
static int packed_address(const struct loader *loader, uint64_t *address, struct error *err)
{
	const struct bzimage *bzimage = &loader->source->file.bzimage;

	*address = bzimage->pref_address;
	if (*address >= LAYOUT_ACPI_END)
		return 0;
	*address = LAYOUT_KERNEL;
	return bzimage->relocatable ? 0 : too_low(loader, bzimage->pref_address, err);
}

/* The kernel unpacks, moves and randomises itself. */
static int load_packed(struct loader *loader, struct error *err)
{
	const struct bzimage *bzimage = &loader->source->file.bzimage;
	uint64_t needed = bzimage->init_size, end, address;
	uint8_t *host;
	int ret = packed_address(loader, &address, err);

	if (ret < 0)
		return ret;
	if (needed < bzimage->code_size)
		needed = bzimage->code_size;
	if (address > loader->low_end)
		return too_small(loader, address + needed, err);
	ret = place_initrd(loader, address + needed, &end, err);
	if (ret < 0)
		return ret;
	host = memory_begin(loader->memory, GPA(address), bzimage->code_size);
	if (!host || pread(loader->source->file.fd, host, bzimage->code_size,
			     (off_t)bzimage->code) != (ssize_t)bzimage->code_size)
		return error_set(err, EIO, "--kernel %s: reading it failed; get the file again",
			loader->source->kernel);
	memory_end(loader->memory, host, bzimage->code_size);
	loader->entry->mode = KERNEL_ENTRY_LONG;
	loader->entry->ip = address + BZIMAGE_ENTRY64;
	return write_params(loader, address, err);
}

static int open_files(struct kernel_source *source, struct error *err)
{
	int ret = kernel_file_open(&source->file, source->kernel, err);

	if (ret < 0) {
		error_prefix(err, "--kernel %s: ", source->kernel);
		return ret;
	}
	return initrd_open(&source->initrd, source->initrd_path, err);
}

int kernel_source_open(
	struct kernel_source **out, const char *kernel, const char *initrd, struct error *err)
{
	struct kernel_source *source = calloc(1, sizeof(*source));
	int ret;

	if (!source)
		return error_errno(err, ENOMEM, "--kernel %s", kernel);
	source->file.fd = source->initrd.fd = -1;
	source->kernel = strdup(kernel);
	source->initrd_path = initrd ? strdup(initrd) : NULL;
	if (!source->kernel || (initrd && !source->initrd_path))
		ret = error_errno(err, ENOMEM, "--kernel %s", kernel);
	else
		ret = open_files(source, err);
	if (ret < 0) {
		kernel_source_close(source);
		return ret;
	}
	*out = source;
	return 0;
}

void kernel_source_close(struct kernel_source *source)
{
	if (!source)
		return;
	kernel_file_close(&source->file);
	initrd_close(&source->initrd);
	free(source->kernel);
	free(source->initrd_path);
	free(source);
}

int kernel_load(struct memory *memory, const struct kernel_source *source,
	const struct kernel_options *options, struct kernel_entry *entry, struct error *err)
{
	struct loader loader = {.memory = memory,
		.source = source,
		.options = options,
		.entry = entry,
		.low_end = low_ram_end(memory)};
	int ret;

	memset(entry, 0, sizeof(*entry));
	entry->format = source->file.is_bzimage ? "bzImage" : "vmlinux";
	entry->compression = kernel_file_compression(&source->file);
	/* Other programs use the boot protocol as well, and have nothing packed in them. */
	if (source->file.is_bzimage &&
		(options->unpack == KERNEL_UNPACK_GUEST || !source->file.bzimage.payload_size))
		ret = load_packed(&loader, err);
	else
		ret = load_unpacked(&loader, err);
	if (ret == 0)
		log_info("--kernel %s: %s, %s%s%s", source->kernel, entry->format,
			entry->compression, entry->from_cache ? ", from the cache" : "",
			entry->randomised ? ", randomised" : "");
	return ret;
}
