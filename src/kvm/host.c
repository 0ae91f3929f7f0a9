/* SPDX-License-Identifier: Apache-2.0 */
/* /dev/kvm itself: what the host's KVM can do. */
#include "kvm/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int open_error(int code, struct error *err)
{
	switch (code) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return error_set(err, code,
			"/dev/kvm is absent: load the module kvm-amd or kvm-intel (virtualization "
			"must be on in the firmware), or use the nested lab, in a clone: lab/lab "
			"exec -- build/duet run ...");
	case EACCES:
	case EPERM:
		return error_set(err, code,
			"/dev/kvm: permission denied: add the user to the group kvm (usermod -aG "
			"kvm USER, then log in again) or run as root");
	case EBUSY:
		return error_set(err, code,
			"/dev/kvm is busy: another hypervisor holds the processor's "
			"virtualization; stop it first");
	default:
		return error_errno(err, code, "/dev/kvm cannot be opened");
	}
}

static int check(const struct kvm_host *host, unsigned cap)
{
	int ret = kvm_ioctl_value(host->fd, KVM_CHECK_EXTENSION, cap);

	return ret < 0 ? 0 : ret;
}

int kvm_enable_cap(int fd, uint32_t cap, uint64_t argument)
{
	struct kvm_enable_cap enable = {.cap = cap, .args = {argument}};

	return kvm_ioctl(fd, KVM_ENABLE_CAP, &enable);
}

static void read_limits(struct kvm_host *host)
{
	unsigned recommended = (unsigned)check(host, KVM_CAP_NR_VCPUS);

	host->vcpus_max = (unsigned)check(host, KVM_CAP_MAX_VCPUS);
	if (!host->vcpus_max)
		host->vcpus_max = recommended ? recommended : 4;
	host->memslots = (unsigned)check(host, KVM_CAP_NR_MEMSLOTS);
	if (!host->memslots)
		host->memslots = 32;
	host->coalesced_page = (unsigned)check(host, KVM_CAP_COALESCED_MMIO);
}

static void read_capabilities(struct kvm_host *host)
{
	const struct {
		bool *has;
		unsigned cap;
	} caps[] = {
		{&host->irqfd, KVM_CAP_IRQFD},
		{&host->ioeventfd, KVM_CAP_IOEVENTFD},
		{&host->ioeventfd_any_length, KVM_CAP_IOEVENTFD_ANY_LENGTH},
		{&host->split_irqchip, KVM_CAP_SPLIT_IRQCHIP},
		{&host->immediate_exit, KVM_CAP_IMMEDIATE_EXIT},
		{&host->x2apic_api, KVM_CAP_X2APIC_API},
		{&host->enforce_pv, KVM_CAP_ENFORCE_PV_FEATURE_CPUID},
		{&host->coalesced_pio, KVM_CAP_COALESCED_PIO},
		{&host->dirty_ring, KVM_CAP_DIRTY_LOG_RING},
		{&host->manual_dirty, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2},
		{&host->tsc_control, KVM_CAP_TSC_CONTROL},
		{&host->tsc_deadline, KVM_CAP_TSC_DEADLINE_TIMER},
		{&host->binary_stats, KVM_CAP_BINARY_STATS_FD},
		{&host->readonly_memory, KVM_CAP_READONLY_MEM},
		{&host->signal_msi, KVM_CAP_SIGNAL_MSI},
		{&host->vpmu, KVM_CAP_PMU_CAPABILITY},
		{&host->pmu_filter, KVM_CAP_PMU_EVENT_FILTER},
		{&host->map_ahead, KVM_CAP_PRE_FAULT_MEMORY},
	};

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++)
		*caps[i].has = check(host, caps[i].cap) > 0;
	host->stable_clock = (check(host, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_HOST_TSC) != 0;
}

static void read_pv_features(struct kvm_host *host)
{
	_cleanup_free_ struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + KVM_CPUID_ENTRIES * sizeof(cpuid->entries[0]));

	if (!cpuid || kvm_host_supported_cpuid(host, cpuid, KVM_CPUID_ENTRIES, NULL) < 0)
		return;
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == KVM_CPUID_FEATURES)
			host->pv_features = cpuid->entries[i].eax;
	host->steal_time = host->pv_features & (1U << KVM_FEATURE_STEAL_TIME);
}

int kvm_host_open(struct kvm_host *host, struct error *err)
{
	int ret;

	memset(host, 0, sizeof(*host));
	host->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (host->fd < 0)
		return open_error(errno, err);
	ret = kvm_ioctl_value(host->fd, KVM_GET_API_VERSION, 0);
	if (ret != KVM_API_VERSION) {
		kvm_host_close(host);
		return error_set(err, ENOTSUP,
			"/dev/kvm speaks API version %d, duet needs %d: another kernel is needed",
			ret, KVM_API_VERSION);
	}
	host->api_version = (unsigned)ret;
	ret = kvm_ioctl_value(host->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (ret < (int)sizeof(struct kvm_run)) {
		kvm_host_close(host);
		return error_set(err, ENOTSUP, "/dev/kvm gives no vCPU area: is it really KVM?");
	}
	host->vcpu_mmap_size = (unsigned)ret;
	read_limits(host);
	read_capabilities(host);
	read_pv_features(host);
	return 0;
}

void kvm_host_close(struct kvm_host *host)
{
	if (host->fd >= 0)
		close(host->fd);
	host->fd = -1;
}

int kvm_host_supported_cpuid(
	const struct kvm_host *host, struct kvm_cpuid2 *cpuid, unsigned capacity, struct error *err)
{
	int ret;

	cpuid->nent = capacity;
	cpuid->padding = 0;
	ret = kvm_ioctl(host->fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: KVM_GET_SUPPORTED_CPUID");
	return 0;
}

int kvm_host_msrs(const struct kvm_host *host, uint32_t *indices, unsigned capacity)
{
	struct kvm_msr_list probe = {.nmsrs = 0};
	_cleanup_free_ struct kvm_msr_list *list = NULL;
	int ret = kvm_ioctl(host->fd, KVM_GET_MSR_INDEX_LIST, &probe);

	/* With too little room the kernel says E2BIG and how much it needs. */
	if (ret < 0 && ret != -E2BIG)
		return ret;
	list = calloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	if (!list)
		return -ENOMEM;
	list->nmsrs = probe.nmsrs;
	ret = kvm_ioctl(host->fd, KVM_GET_MSR_INDEX_LIST, list);
	if (ret < 0)
		return ret;
	if (list->nmsrs > capacity)
		return -ENOSPC;
	memcpy(indices, list->indices, list->nmsrs * sizeof(indices[0]));
	return (int)list->nmsrs;
}
