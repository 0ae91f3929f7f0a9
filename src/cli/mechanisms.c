/* SPDX-License-Identifier: Apache-2.0 */
/* What each of the chapter's mechanisms needs of a host, whether duet has built it yet or not. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "cli/doctor.h"
#include "machine/counters.h"

#include <dirent.h>
#include <errno.h>
#include <linux/kvm_para.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void lacks(struct doctor_finding *finding, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The first thing that is missing is the one to tell. */
static void lacks(struct doctor_finding *finding, const char *format, ...)
{
	va_list args;

	if (!finding->usable)
		return;
	finding->usable = false;
	va_start(args, format);
	vsnprintf(finding->why, sizeof(finding->why), format, args);
	va_end(args);
}

static bool has_pv(const struct doctor *doctor, unsigned bit)
{
	return doctor->host.pv_features >> bit & 1;
}

static unsigned entries_in(const char *directory, const char *prefix)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	unsigned count = 0;

	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.' &&
			 strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	if (dir)
		closedir(dir);
	return count;
}

static bool kernel_at_least(unsigned major, unsigned minor)
{
	unsigned have_major = 0, have_minor = 0;
	struct utsname name;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &have_major, &have_minor) != 2)
		return false;
	return have_major > major || (have_major == major && have_minor >= minor);
}

static void need_tap(const struct doctor *doctor, struct doctor_finding *finding)
{
	(void)doctor;
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		lacks(finding, "/dev/net/tun cannot be opened; modprobe tun, or run as root");
}

static void need_nothing(const struct doctor *doctor, struct doctor_finding *finding)
{
	(void)doctor;
	(void)finding;
}

static void need_fast_paths(const struct doctor *doctor, struct doctor_finding *finding)
{
	if (!doctor->host.irqfd || !doctor->host.ioeventfd)
		lacks(finding, "KVM has no irqfd or ioeventfd; use a newer kernel");
}

/* Whether some PCI function of the host can be split into virtual ones. */
static bool has_sriov(void)
{
	DIR *dir = opendir("/sys/bus/pci/devices");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		char path[512];

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/sriov_totalvfs",
			entry->d_name);
		found = access(path, F_OK) == 0;
	}
	if (dir)
		closedir(dir);
	return found;
}

static void need_vfio(const struct doctor *doctor, struct doctor_finding *finding)
{
	(void)doctor;
	/* A group exists once an IOMMU translates for something. */
	if (entries_in("/sys/kernel/iommu_groups", "") == 0)
		lacks(finding,
			"no IOMMU; switch it on in the firmware and boot with intel_iommu=on or "
			"amd_iommu=on");
	if (access("/dev/vfio/vfio", F_OK) < 0 || access("/sys/bus/pci/drivers/vfio-pci", F_OK) < 0)
		lacks(finding, "no vfio-pci; modprobe vfio-pci");
	if (access("/dev/vfio/vfio", R_OK | W_OK) < 0)
		lacks(finding, "/dev/vfio/vfio may not be opened; run as root");
	if (!has_sriov())
		lacks(finding,
			"no PCI function of this host has SR-IOV; whole functions can be passed");
}

static void need_ksm(const struct doctor *doctor, struct doctor_finding *finding)
{
	(void)doctor;
	if (access("/sys/kernel/mm/ksm/run", W_OK) < 0)
		lacks(finding,
			"/sys/kernel/mm/ksm/run cannot be written; needs CONFIG_KSM and root");
}

static void need_slices(const struct doctor *doctor, struct doctor_finding *finding)
{
	(void)doctor;
	if (!kernel_at_least(6, 12))
		lacks(finding, "per-task time slices need Linux 6.12; the weights work");
}

static void need_nodes(const struct doctor *doctor, struct doctor_finding *finding)
{
	(void)doctor;
	if (entries_in("/sys/devices/system/node", "node") < 2)
		lacks(finding, "this host has one NUMA node; the nested lab has two");
}

static void need_steal(const struct doctor *doctor, struct doctor_finding *finding)
{
	if (!has_pv(doctor, KVM_FEATURE_STEAL_TIME))
		lacks(finding, "KVM reports no steal time; needs CONFIG_SCHED_INFO");
}

static void need_clock(const struct doctor *doctor, struct doctor_finding *finding)
{
	if (!has_pv(doctor, KVM_FEATURE_CLOCKSOURCE2))
		lacks(finding, "KVM offers no PV clock");
}

static void need_unhalt(const struct doctor *doctor, struct doctor_finding *finding)
{
	if (!has_pv(doctor, KVM_FEATURE_PV_UNHALT) || !has_pv(doctor, KVM_FEATURE_PV_SCHED_YIELD))
		lacks(finding, "KVM offers no PV unhalt or no directed yield");
}

static bool has_counters(void)
{
	return access("/sys/bus/event_source/devices/cpu", F_OK) == 0;
}

/* Debian's kernels ask for CAP_SYS_ADMIN from 3 on, which is theirs as they come; in its sandbox
 * duet has it no longer. */
static bool asks_for_admin(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/sys/kernel/perf_event_paranoid", "re");
	int level;

	return file && fscanf(file, "%d", &level) == 1 && level > 2;
}

/* What --pmu pv counts with. */
static void need_events(struct doctor_finding *finding)
{
	if (asks_for_admin() || counters_probe(DUET_COOP_TASK_CLOCK) == -EPERM)
		lacks(finding, "the host lets duet open no perf events: %s", counters_remedy);
	if (counters_probe(DUET_COOP_TASK_CLOCK) < 0)
		lacks(finding, "the host's kernel has no perf events");
}

static void need_counters(const struct doctor *doctor, struct doctor_finding *finding)
{
	(void)doctor;
	need_events(finding);
	if (!has_counters() || counters_probe(DUET_COOP_INSTRUCTIONS) < 0)
		lacks(finding, "this CPU shows no performance counters; software events only");
}

static const struct {
	const char *name, *title;
	void (*check)(const struct doctor *doctor, struct doctor_finding *finding);
	const char *so_far; /* what there is of it; null: all, empty: nothing */
} table[DOCTOR_MECHANISMS] = {
	{"M1", "device emulation, e1000", need_tap, NULL},
	{"M2", "virtio-net against e1000", need_tap, NULL},
	{"M3", "split and packed rings, batching", need_fast_paths, NULL},
	{"M4", "virtio-blk against IDE", need_fast_paths, NULL},
	{"M5", "SR-IOV passthrough (VFIO)", need_vfio, NULL},
	{"M6", "shaping, policy and accounting", need_nothing,
		"limits, rules and accounting of networks and disks"},
	{"M7", "live migration", need_nothing, NULL},
	{"M8", "balloon", need_nothing, NULL},
	{"M9", "page sharing with hints (KSM)", need_ksm, NULL},
	{"M10", "CPU scheduling from guest hints", need_slices, NULL},
	{"M11", "NUMA-aware vCPU placement", need_nodes, NULL},
	{"M12", "steal time, effective time", need_steal,
		"steal time; the guest kit's timers, time-outs and TCP"},
	{"M13", "clock across migration", need_clock, NULL},
	{"M14", "hypervisor-assisted fork", need_nothing, "the guest kit's heap"},
	{"M15", "PV spinlock, directed yield", need_unhalt,
		"KVM's own unhalt and yield; duet's yield, by the guest kit's lock bench"},
	{"M16", "virtual PMU", need_counters, NULL},
};

void doctor_mechanisms(struct doctor *doctor)
{
	for (unsigned i = 0; i < DOCTOR_MECHANISMS; i++) {
		struct doctor_finding *finding = &doctor->mechanisms[i];

		*finding = (struct doctor_finding){.name = table[i].name,
			.title = table[i].title,
			.so_far = table[i].so_far,
			.usable = true};
		if (strcmp(doctor->backend, "hardware") != 0)
			lacks(finding, "no hardware virtualization here%s",
				doctor_built(finding) ? "; works in the nested lab" : "");
		table[i].check(doctor, finding);
	}
}

bool doctor_built(const struct doctor_finding *finding)
{
	return !finding->so_far || *finding->so_far;
}

static bool in_the_lab(void)
{
	return getenv("DUET_LAB") != NULL;
}

static void find_scaling(const struct doctor *doctor, struct doctor_finding *finding)
{
	if (!doctor->host.tsc_control)
		lacks(finding,
			"this CPU or KVM cannot; guests that move need --profile migratable");
}

/* Without it KVM cannot say when it read the clock (KVM_CLOCK_HOST_TSC, KVM_CLOCK_REALTIME). */
static void find_stable_clock(const struct doctor *doctor, struct doctor_finding *finding)
{
	if (!doctor->host.stable_clock)
		lacks(finding, "KVM has no master clock here: the host does not use its TSC");
}

static void find_rings(const struct doctor *doctor, struct doctor_finding *finding)
{
	if (!doctor->host.dirty_ring)
		lacks(finding, "Linux 5.11 has them; moves slow down all vCPUs alike");
}

static void find_counters(const struct doctor *doctor, struct doctor_finding *finding)
{
	(void)doctor;
	if (!has_counters())
		lacks(finding,
			in_the_lab() ? "the lab host has them after lab/lab down; lab/lab up --pmu"
				     : "this CPU shows none");
}

static void find_vpmu(const struct doctor *doctor, struct doctor_finding *finding)
{
	if (!doctor->host.vpmu)
		lacks(finding, "KVM gives guests no counters; --pmu pv counts for them");
	if (!doctor->host.pmu_filter)
		lacks(finding, "there, but KVM cannot filter it; --pmu pass alone");
}

void doctor_features(struct doctor *doctor)
{
	static const struct {
		const char *name, *title;
		void (*check)(const struct doctor *doctor, struct doctor_finding *finding);
	} features[DOCTOR_FEATURES] = {
		{"tsc_scaling", "TSC scaling", find_scaling},
		{"stable_clock", "KVM's master clock", find_stable_clock},
		{"dirty_ring", "Rings of written pages (--dirty ring)", find_rings},
		{"counters", "Performance counters", find_counters},
		{"vpmu", "KVM's PMU for guests, filtered", find_vpmu},
	};

	for (unsigned i = 0; i < DOCTOR_FEATURES; i++) {
		struct doctor_finding *finding = &doctor->features[i];

		*finding = (struct doctor_finding){
			.name = features[i].name, .title = features[i].title, .usable = true};
		features[i].check(doctor, finding);
	}
}
