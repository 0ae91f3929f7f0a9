/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space: what the guest sees is the monitor's own copy, made once from the hardware.
 * Of the guest's writes only bus mastering reaches the hardware.
 *
 * Capabilities keep their places. MSI and MSI-X are emulated; PCI Express and vendor-specific ones
 * can be read as they were; all others are hidden (power management among them: a function that
 * sleeps would take its BARs away from under the guest).
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "pci/registers.h"
#include "vfio/internal.h"

#include <errno.h>
#include <string.h>

#define CAPABILITY_MSI      0x05
#define CAPABILITY_VENDOR   0x09
#define CAPABILITY_EXPRESS  0x10
#define CAPABILITIES_MAX    48 /* as many as 192 bytes can hold */
#define HEADER_TYPE         0x7f
#define MSI_CONTROL         2
#define MSI_CONTROL_COUNT   0x000e /* log2 of what the function can */
#define MSI_CONTROL_WIDE    0x0080
#define MSI_WRITABLE        0x0071 /* enable, how many the guest wants */
#define EXPRESS_FLAGS       2
#define EXPRESS_VERSION     0x000f
#define EXPRESS_TYPE        0x00f0
#define EXPRESS_INTEGRATED  0x0090 /* root complex integrated endpoint: a bus without links */
#define EXPRESS_DEVICE_CAP  4
#define EXPRESS_FLR         0x10000000U
#define EXPRESS_LINK        12 /* link, slot and root registers up to the next */
#define EXPRESS_DEVICE_CAP2 36
#define EXPRESS_LINK2       44
#define EXPRESS_LENGTH1     20
#define EXPRESS_LENGTH      60

static int read_space(struct vfio_function *vfio, uint8_t space[PCI_CONFIG_SIZE])
{
	int ret = 0;

	for (unsigned at = 0; ret == 0 && at < PCI_CONFIG_SIZE; at += 4)
		ret = vfio->hardware->ops->config_read(vfio->hardware, at, space + at, 4);
	return ret;
}

static void init_header(struct vfio_function *vfio, const uint8_t *space)
{
	const struct pci_ids ids = {
		.vendor = load_le16(space + PCI_REG_VENDOR),
		.device = load_le16(space + PCI_REG_DEVICE),
		.subsystem_vendor = load_le16(space + PCI_REG_SUBSYSTEM_VENDOR),
		.subsystem = load_le16(space + PCI_REG_SUBSYSTEM),
		.class_code = load_le32(space + PCI_REG_REVISION) >> 8,
		.revision = space[PCI_REG_REVISION],
		.intx = space[PCI_REG_INTERRUPT_PIN] != 0,
	};

	pci_init(&vfio->function, &ids);
	vfio->config.intx = ids.intx;
	for (unsigned i = 0; i < PCI_BARS; i++)
		vfio->config.bars[i] = load_le32(space + PCI_REG_BAR0 + 4 * i);
}

/* At the place that it has in the hardware; its bytes are for the caller to fill in. */
static int add_at(struct vfio_function *vfio, unsigned at, uint8_t id, unsigned length)
{
	vfio->function.next_capability = at;
	return pci_add_capability(&vfio->function, id, length);
}

static int add_msi(struct vfio_function *vfio, const uint8_t *space, unsigned at)
{
	struct vfio_config *config = &vfio->config;
	uint16_t control = load_le16(space + at + MSI_CONTROL);
	bool wide = control & MSI_CONTROL_WIDE;
	uint8_t *writable = vfio->function.writable + at;
	unsigned count = 1U << ((control & MSI_CONTROL_COUNT) >> 1);

	/* 6 and 7 are reserved. */
	if (config->msi || count > VFIO_MSI_MAX ||
		add_at(vfio, at, CAPABILITY_MSI, wide ? 14 : 10) < 0)
		return -EINVAL;
	config->msi = at;
	config->msi_vectors = count;
	config->msi_wide = wide;
	store_le16(vfio->function.config + at + MSI_CONTROL,
		control & (MSI_CONTROL_COUNT | MSI_CONTROL_WIDE));
	store_le16(writable + MSI_CONTROL, MSI_WRITABLE);
	store_le32(writable + 4, 0xfffffffc);
	if (wide)
		store_le32(writable + 8, 0xffffffff);
	store_le16(writable + (wide ? 12 : 8), 0xffff);
	return 0;
}

static int add_msix(
	struct vfio_function *vfio, const uint8_t *space, unsigned at, struct error *err)
{
	struct vfio_config *config = &vfio->config;
	unsigned vectors = (load_le16(space + at + MSIX_CONTROL) & (MSIX_VECTORS_MAX - 1)) + 1;

	config->msix_table = load_le32(space + at + MSIX_TABLE);
	config->msix_pba = load_le32(space + at + MSIX_PBA);
	vfio->function.next_capability = at;
	return msix_add_inside(&vfio->function, vectors, config->msix_table, config->msix_pba, err);
}

/* Can be read as it was; the guest's bus has no links, and resets are the monitor's. */
static int add_express(struct vfio_function *vfio, const uint8_t *space, unsigned at)
{
	uint8_t *config = vfio->function.config + at;
	uint16_t flags = load_le16(space + at + EXPRESS_FLAGS);
	unsigned length = (flags & EXPRESS_VERSION) > 1 ? EXPRESS_LENGTH : EXPRESS_LENGTH1;

	if (add_at(vfio, at, CAPABILITY_EXPRESS, length) < 0)
		return -EINVAL;
	store_le16(
		config + EXPRESS_FLAGS, (uint16_t)((flags & EXPRESS_VERSION) | EXPRESS_INTEGRATED));
	memcpy(config + EXPRESS_DEVICE_CAP, space + at + EXPRESS_DEVICE_CAP,
		EXPRESS_LINK - EXPRESS_DEVICE_CAP);
	config[EXPRESS_DEVICE_CAP + 3] &= (uint8_t) ~(EXPRESS_FLR >> 24);
	if (length == EXPRESS_LENGTH)
		memcpy(config + EXPRESS_DEVICE_CAP2, space + at + EXPRESS_DEVICE_CAP2,
			EXPRESS_LINK2 - EXPRESS_DEVICE_CAP2);
	return 0;
}

static int add_vendor(struct vfio_function *vfio, const uint8_t *space, unsigned at)
{
	unsigned length = space[at + 2];

	if (length < 3 || add_at(vfio, at, CAPABILITY_VENDOR, length) < 0)
		return -EINVAL;
	memcpy(vfio->function.config + at + 2, space + at + 2, length - 2);
	return 0;
}

/* One that cannot be shown (it runs out of the space) stays hidden. */
static int add_capability(
	struct vfio_function *vfio, const uint8_t *space, unsigned at, struct error *err)
{
	switch (space[at]) {
	case CAPABILITY_MSI:
		add_msi(vfio, space, at);
		return 0;
	case PCI_CAPABILITY_MSIX:
		return vfio->function.msix ? 0 : add_msix(vfio, space, at, err);
	case CAPABILITY_EXPRESS:
		add_express(vfio, space, at);
		return 0;
	case CAPABILITY_VENDOR:
		add_vendor(vfio, space, at);
		return 0;
	default:
		return 0;
	}
}

/* Where the chain of @space goes on after @at; 0 at its end. */
static unsigned next_of(const uint8_t *space, unsigned at)
{
	unsigned next = space[at] & ~3U;

	return next >= PCI_HEADER_END ? next : 0;
}

/* The end of what the guest would find at @at; 0 for one that is hidden anyway. */
static unsigned extent(const uint8_t *space, unsigned at)
{
	uint16_t word = load_le16(space + at + 2);

	switch (space[at]) {
	case CAPABILITY_MSI:
		return at + (word & MSI_CONTROL_WIDE ? 16 : 12);
	case PCI_CAPABILITY_MSIX:
		return at + MSIX_CAPABILITY_LENGTH;
	case CAPABILITY_EXPRESS:
		return at + ((word & EXPRESS_VERSION) > 1 ? EXPRESS_LENGTH : EXPRESS_LENGTH1);
	case CAPABILITY_VENDOR:
		return at + (unsigned)align_up(space[at + 2], 4);
	default:
		return 0;
	}
}

/* Marks the words from @at to @end; false when one of them is another capability's. */
static bool claim(uint64_t *words, unsigned at, unsigned end)
{
	uint64_t mine = 0;

	if (end > PCI_CONFIG_SIZE || end <= at)
		return false;
	for (unsigned word = at / 4; word < end / 4; word++)
		mine |= 1ULL << word;
	if (*words & mine)
		return false;
	*words |= mine;
	return true;
}

static int init_capabilities(struct vfio_function *vfio, const uint8_t *space, struct error *err)
{
	unsigned at = next_of(space, PCI_REG_CAPABILITIES);
	uint64_t words = 0;
	int ret = 0;

	if (!(load_le16(space + PCI_REG_STATUS) & PCI_STS_CAPABILITIES))
		return 0;
	for (unsigned i = 0; ret == 0 && at && i < CAPABILITIES_MAX; i++) {
		if (claim(&words, at, extent(space, at)))
			ret = add_capability(vfio, space, at, err);
		at = next_of(space, at + 1);
	}
	return ret;
}

int vfio_config_init(struct vfio_function *vfio, struct error *err)
{
	uint8_t space[PCI_CONFIG_SIZE];
	int ret = read_space(vfio, space);

	if (ret < 0)
		return error_errno(err, -ret,
			"--device vfio,host=%s: its configuration space cannot be read",
			vfio->host);
	if ((space[PCI_REG_HEADER_TYPE] & HEADER_TYPE) != 0)
		return error_set(err, ENOTSUP,
			"--device vfio,host=%s: it is a bridge; name a function behind it",
			vfio->host);
	init_header(vfio, space);
	return init_capabilities(vfio, space, err);
}

/* Decoding stays on: a BAR that the guest switched off is out of its address space, and memory that
 * is mapped must not vanish from the bus. */
void vfio_config_command(struct vfio_function *vfio)
{
	uint16_t wanted = load_le16(vfio->function.config + PCI_REG_COMMAND) & PCI_CMD_MASTER;
	uint8_t command[2];

	for (unsigned i = 0; i < PCI_BARS; i++) {
		enum pci_bar_kind kind = vfio->function.bars[i].kind;

		if (kind != PCI_BAR_NONE)
			wanted |= kind == PCI_BAR_PORT ? PCI_CMD_IO : PCI_CMD_MEMORY;
	}
	store_le16(command, wanted);
	if (vfio->hardware->ops->config_write(vfio->hardware, PCI_REG_COMMAND, command, 2) < 0)
		log_guest(&vfio->guest_log, vfio->function.device.name,
			"the command register cannot be written");
}
