/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/vm.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "oci/net.h"
#include "oci/spawn.h"
#include "oci/text.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define MIB            (1ULL << 20)
#define DEFAULT_MEMORY (512 * MIB)
#define LEAST_MEMORY   (128 * MIB)
#define KERNELS_OWN    (64 * MIB) /* of a guest, beside what its container may use */
#define DEFAULT_PERIOD 100000

/* Nothing on the console but what is wrong; a kernel that panics is the machine's end. Guests have
 * the second hierarchy of cgroups alone. */
static const char cmdline[] = "quiet panic=-1 cgroup_no_v1=all";

void vm_size(const struct bundle *bundle, unsigned host_cpus, uint64_t *memory, uint64_t *cpus)
{
	const struct resources *resources = &bundle->resources;
	const uint64_t period = resources->cpu_period ? resources->cpu_period : DEFAULT_PERIOD;
	const uint64_t limit = bundle->setup.memory;

	*memory = bundle->machine_memory;
	if (!*memory && limit)
		*memory = align_up(limit < 1ULL << 44 ? limit : 1ULL << 44, MIB) + KERNELS_OWN;
	if (!*memory)
		*memory = DEFAULT_MEMORY;
	if (*memory < LEAST_MEMORY)
		*memory = LEAST_MEMORY;
	*cpus = bundle->machine_cpus;
	if (!*cpus && resources->cpu_quota > 0)
		*cpus = ((uint64_t)resources->cpu_quota + period - 1) / period;
	if (!*cpus)
		*cpus = 1;
	*cpus = min_u64(*cpus, host_cpus ? host_cpus : 1);
}

static int add_device(json_t *devices, json_t *device)
{
	return device ? json_array_append_new(devices, device) : -1;
}

static json_t *describe_link(const struct link *link, unsigned number)
{
	char name[LINK_NAME_SIZE], text[24];

	snprintf(name, sizeof(name), NET_TAP, number);
	for (unsigned i = 0; i < 6; i++)
		snprintf(text + 3 * (size_t)i, 4, "%02x%s",
			(unsigned)(link->mac >> 8 * (5 - i) & 255), i < 5 ? ":" : "");
	return json_pack(
		"{s:s, s:s, s:s, s:s}", "type", "net", "kind", "tap", "ifname", name, "mac", text);
}

static json_t *describe_devices(const struct vm_parts *parts)
{
	json_t *devices = json_array();
	int bad = add_device(devices, json_pack("{s:s, s:s, s:b}", "type", "disk", "path",
					      parts->image, "readonly", 1)) < 0 ||
		  add_device(devices, json_pack("{s:s, s:s}", "type", "vsock", "path", "vsock")) <
			  0 ||
		  /* What the container frees is the host's again. */
		  add_device(devices, json_pack("{s:s}", "type", "balloon")) < 0;

	for (uint32_t i = 0; i < parts->setup->link_count && !bad; i++)
		bad = add_device(devices, describe_link(&parts->setup->links[i], i)) < 0;
	if (bad) {
		json_decref(devices);
		return NULL;
	}
	return devices;
}

/* Takes @json away. */
static char *dump(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;

	json_decref(json);
	return text;
}

char *vm_config(const struct vm_parts *parts)
{
	_cleanup_free_ char *kernels = text_format("%s/kernels", parts->cache);
	json_t *json = json_pack("{s:i, s:s, s:s, s:s, s:s?, s:I, s:I, s:s, s:o}", "duet", 1,
		"kernel", parts->kernel, "initrd", parts->initrd, "cmdline", cmdline, "cache",
		kernels, "memory", (json_int_t)parts->memory, "cpus", (json_int_t)parts->cpus,
		"on-reset", "exit", "devices", describe_devices(parts));

	return dump(json);
}

static void begin(const struct settings *settings, int dir, int output, int report)
	__attribute__((noreturn));
static void begin(const struct settings *settings, int dir, int output, int report)
{
	const char *const argv[] = {
		settings->duet, "run", "--config", VM_CONFIG, "--api-sock", VM_API, NULL};
	const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	/* Of a group of its own: what is typed at the container's terminal is not for it. */
	setpgid(0, 0);
	if (fchdir(dir) < 0 || null < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 ||
		dup2(output, 2) < 0)
		_exit(127);
	spawn_exec(settings->duet, argv, NULL, report);
}

int vm_start(struct vm *machine, const struct settings *settings, int dir, struct error *err)
{
	_cleanup_close_ int output = -1, report = -1, told = -1;
	int pair[2], code;

	*machine = (struct vm){.console = -1};
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_errno(err, errno, "%s", settings->duet);
	machine->console = pair[0];
	output = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_errno(err, errno, "%s", settings->duet);
	told = pair[0];
	report = pair[1];
	machine->pid = spawn_fork();
	if (machine->pid == 0)
		begin(settings, dir, output, report);
	if (machine->pid < 0)
		return error_errno(err, errno, "%s: a process", settings->duet);
	close(steal_fd(&report));
	if (read(told, &code, sizeof(code)) == (ssize_t)sizeof(code))
		return error_errno(err, code, "%s (DUET_OCI_DUET names another)", settings->duet);
	fcntl(machine->console, F_SETFL, O_NONBLOCK);
	return 0;
}

bool vm_hear(struct vm *machine)
{
	char some[4096];
	const ssize_t got = read(machine->console, some, sizeof(some));
	const size_t room = sizeof(machine->words) - 1;
	size_t held = strlen(machine->words), more, drop;

	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR);
	more = min_u64((uint64_t)got, room);
	drop = held + more > room ? held + more - room : 0;
	memmove(machine->words, machine->words + drop, held - drop);
	memcpy(machine->words + held - drop, some + (size_t)got - more, more);
	machine->words[held - drop + more] = 0;
	/* A guest's words, in a text that ends by null and goes to a terminal. */
	for (size_t i = 0; i < held - drop + more; i++)
		if ((unsigned char)machine->words[i] < ' ' || machine->words[i] == 127)
			machine->words[i] = machine->words[i] == '\n' ? '\n' : ' ';
	return true;
}

static void cut_end(char *text)
{
	size_t length = strlen(text);

	while (length && (text[length - 1] == '\n' || text[length - 1] == ' '))
		text[--length] = 0;
}

const char *vm_last_words(struct vm *machine)
{
	const char *line;

	cut_end(machine->words);
	line = strrchr(machine->words, '\n');
	line = line ? line + 1 : machine->words;
	return *line ? line : "it said nothing";
}

void vm_end(struct vm *machine, int *status)
{
	if (machine->pid > 0) {
		kill(machine->pid, SIGKILL);
		waitpid(machine->pid, status, 0);
	}
	if (machine->console >= 0)
		close(machine->console);
	*machine = (struct vm){.console = -1};
}
