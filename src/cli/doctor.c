/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/doctor.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/commands.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void examine_kvm(struct doctor *doctor)
{
	struct error err = {0};

	doctor->backend = "none";
	if (kvm_host_open(&doctor->host, &err) < 0) {
		snprintf(doctor->kvm_why, sizeof(doctor->kvm_why), "%.500s", err.text);
		return;
	}
	doctor->kvm_usable = true;
	if (kvm_probe(&doctor->host, &doctor->probe, &err) < 0) {
		snprintf(doctor->kvm_why, sizeof(doctor->kvm_why), "%.500s", err.text);
		return;
	}
	doctor->backend = doctor->probe.hardware ? "hardware" : "software";
	if (!doctor->probe.hardware)
		snprintf(doctor->kvm_why, sizeof(doctor->kvm_why),
			"%.160s; use the nested lab, in a clone: lab/lab exec -t -- build/duet run "
			"...",
			doctor->probe.why);
}

/* Whether @program is in a directory of PATH. */
static bool on_path(const char *program)
{
	const char *path = getenv("PATH");
	char file[4096];

	while (path && *path) {
		size_t length = strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)length, path, program);
		if (access(file, X_OK) == 0)
			return true;
		path += length + (path[length] == ':');
	}
	return false;
}

static void examine_lab(struct doctor *doctor)
{
	struct doctor_finding *lab = &doctor->lab;
	const char *ratio = getenv("DUET_LAB_TSC_RATIO");

	doctor->lab_tsc_ratio = ratio ? strtod(ratio, NULL) : 0;
	*lab = (struct doctor_finding){.name = "lab", .title = "nested lab", .usable = true};
	if (on_path("qemu-system-x86_64") && on_path("python3"))
		return;
	lab->usable = false;
	snprintf(lab->why, sizeof(lab->why),
		"needs QEMU and Python: apt-get install qemu-system-x86 python3 (make demo does "
		"it)");
}

void doctor_examine(struct doctor *doctor)
{
	*doctor = (struct doctor){.host.fd = -1};
	examine_kvm(doctor);
	examine_lab(doctor);
	doctor_mechanisms(doctor);
	doctor_features(doctor);
	if (doctor->host.fd >= 0)
		kvm_host_close(&doctor->host);
}

static void print_tsc(const struct doctor *doctor)
{
	const unsigned khz = doctor->probe.tsc_khz;

	if (!khz) {
		printf("TSC: KVM does not tell its frequency\n");
		return;
	}
	printf("TSC: %u.%03u MHz", khz / 1000, khz % 1000);
	if (doctor->lab_tsc_ratio > 0)
		printf(", %g of the machine's (lab/lab up --tsc-ratio)", doctor->lab_tsc_ratio);
	printf("\n");
}

static void print_mechanism(const struct doctor_finding *finding)
{
	bool part = finding->so_far && *finding->so_far;

	printf("  %-4s %-34s ", finding->name, finding->title);
	if (doctor_built(finding))
		printf("%s%s%s%s%s\n", finding->usable ? "yes" : "no: ", finding->why,
			part ? " (" : "", part ? finding->so_far : "", part ? ")" : "");
	else
		printf("not built yet%s%s\n", finding->usable ? "" : "; the host: ", finding->why);
}

static void print_text(const struct doctor *doctor)
{
	printf("KVM: %s\n", doctor->kvm_usable ? "/dev/kvm opens" : doctor->kvm_why);
	if (doctor->kvm_usable) {
		printf("Back end: %s", doctor->backend);
		if (doctor->probe.ns_per_instruction > 0)
			printf(" (ring 0: %.1f ns an instruction)",
				doctor->probe.ns_per_instruction);
		printf("\n");
		if (*doctor->kvm_why)
			printf("  %s\n", doctor->kvm_why);
		printf("  at most %u vCPUs, %u memory slots\n", doctor->host.vcpus_max,
			doctor->host.memslots);
		print_tsc(doctor);
	}
	printf("Nested lab: %s%s\n",
		doctor->lab.usable ? "available" : "not available: ", doctor->lab.why);
	for (unsigned i = 0; i < DOCTOR_FEATURES && doctor->kvm_usable; i++)
		printf("%s: %s%s\n", doctor->features[i].title,
			doctor->features[i].usable ? "yes" : "no: ", doctor->features[i].why);
	printf("The mechanisms on this host:\n");
	for (unsigned i = 0; i < DOCTOR_MECHANISMS; i++)
		print_mechanism(&doctor->mechanisms[i]);
}

static json_t *finding_json(const struct doctor_finding *finding)
{
	return json_pack("{s:s, s:b, s:s}", "title", finding->title, "usable", finding->usable,
		"why", finding->why);
}

static json_t *mechanism_json(const struct doctor_finding *finding)
{
	json_t *object = finding_json(finding);

	json_object_set_new(object, "built", json_boolean(doctor_built(finding)));
	json_object_set_new(
		object, "so_far", json_string(finding->so_far ? finding->so_far : "all"));
	return object;
}

static json_t *tsc_json(const struct doctor *doctor)
{
	return json_pack("{s:i, s:o}", "khz", (int)doctor->probe.tsc_khz, "lab_ratio",
		doctor->lab_tsc_ratio > 0 ? json_real(doctor->lab_tsc_ratio) : json_null());
}

static int print_json(const struct doctor *doctor)
{
	json_t *mechanisms = json_object();
	json_t *features = json_object();
	json_t *all;
	int ret;

	for (unsigned i = 0; i < DOCTOR_MECHANISMS; i++)
		json_object_set_new(mechanisms, doctor->mechanisms[i].name,
			mechanism_json(&doctor->mechanisms[i]));
	for (unsigned i = 0; i < DOCTOR_FEATURES; i++)
		json_object_set_new(
			features, doctor->features[i].name, finding_json(&doctor->features[i]));
	all = json_pack("{s:s, s:{s:b, s:s, s:f, s:s}, s:o, s:o, s:o, s:o}", "duet", DUET_VERSION,
		"kvm", "usable", doctor->kvm_usable, "backend", doctor->backend,
		"ns_per_instruction", doctor->probe.ns_per_instruction, "why", doctor->kvm_why,
		"lab", finding_json(&doctor->lab), "tsc", tsc_json(doctor), "host", features,
		"mechanisms", mechanisms);
	ret = json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
	return ret;
}

static const char help[] =
	"Usage: duet doctor [--json]\n"
	"Tells what this host can do, and what to do about what it cannot.\n"
	"Exit status 0: virtual machines run here, or in the nested lab; 1: neither.\n";

int command_doctor(unsigned count, const char *const *args)
{
	struct doctor doctor;
	bool json = false;

	for (unsigned i = 0; i < count; i++) {
		if (strcmp(args[i], "--json") == 0) {
			json = true;
		} else if (strcmp(args[i], "--help") == 0 || strcmp(args[i], "-h") == 0) {
			fputs(help, stdout);
			return 0;
		} else {
			log_error("%s: unknown option; see duet doctor --help", args[i]);
			return 2;
		}
	}
	doctor_examine(&doctor);
	if (json)
		print_json(&doctor);
	else
		print_text(&doctor);
	return strcmp(doctor.backend, "hardware") == 0 || doctor.lab.usable ? 0 : 1;
}
