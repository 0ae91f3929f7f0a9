/* SPDX-License-Identifier: Apache-2.0 */
/* duetd's VMs: processes of their own behind real sockets, good ones and others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loop_rig.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "duetd/fleet.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PERIOD_MS   10
#define PATIENCE_MS 60
#define MIB         (1ULL << 20)
#define PEERS       8

enum behaviour {
	GOOD,
	KIT, /* the same, with a guest that gives hints */
	OWN, /* the same, and it tells what its balloon is without a lease */
	GREEDY,
	HANGS,
	NONSENSE,
	REFUSES,
	MEGABYTES,
	CUTS_OFF,
	PAINTS,
	NOT_STARTED,
};

/* What the processes tell of themselves. */
struct shared {
	_Atomic unsigned asked[PEERS], told[PEERS];
	char body[PEERS][128]; /* of the last PATCH */
	_Atomic unsigned placed[PEERS], wished[PEERS];
	char place[PEERS][128];
};

static struct rig {
	struct loop *loop;
	struct fleet *fleet;
	struct shared *shared;
	char directory[64];
	pid_t peers[PEERS];
	unsigned count;
	unsigned came, gone;
	pid_t came_pid, came_thread;
	char gone_name[64];
} rig;

/* ---- who listens ---- */

static void say(int fd, const char *text, size_t length)
{
	if (send(fd, text, length, MSG_NOSIGNAL) < 0)
		return;
}

static void say_brief(int fd, unsigned share, const char *more)
{
	char body[512], text[1024];

	snprintf(body, sizeof(body),
		"{\"id\": \"x\", \"state\": \"Running\", \"memory_mib\": 512, \"cpus\": 1,"
		" \"share\": %u,"
		" \"threads\": [77], \"sharing\": {\"state\": \"off\", \"offered_bytes\": 0},"
		" \"balloon\": {\"target_mib\": 0, \"actual_mib\": 0}%s}",
		share, more);
	snprintf(text, sizeof(text),
		"HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
		strlen(body), body);
	say(fd, text, strlen(text));
}

static void say_megabytes(int fd)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
	static char much[1 << 16];

	say(fd, head, strlen(head));
	while (send(fd, much, sizeof(much), MSG_NOSIGNAL) > 0)
		continue;
}

static void take(int fd, const char *request, char body[128], _Atomic unsigned *count)
{
	static const char done[] = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
	const char *at = strstr(request, "\r\n\r\n");

	snprintf(body, 128, "%s", at ? at + 4 : "");
	++*count;
	say(fd, done, strlen(done));
}

/* False: it is a question. */
static bool take_order(unsigned index, int fd, const char *request)
{
	struct shared *shared = rig.shared;
	char wish[128];

	if (strncmp(request, "PATCH /duet/balloon ", 20) == 0 ||
		strncmp(request, "PATCH /duet/sharing ", 20) == 0)
		take(fd, request, shared->body[index], &shared->told[index]);
	else if (strncmp(request, "PATCH /duet/place ", 18) == 0)
		take(fd, request, shared->place[index], &shared->placed[index]);
	else if (strncmp(request, "PUT /duet/hints ", 16) == 0)
		take(fd, request, wish, &shared->wished[index]);
	else
		return false;
	return true;
}

static void serve(unsigned index, enum behaviour behaviour, int fd)
{
	char request[2048] = "";
	ssize_t count = recv(fd, request, sizeof(request) - 1, 0);

	request[count > 0 ? count : 0] = 0;
	rig.shared->asked[index]++;
	if (take_order(index, fd, request))
		return;
	switch (behaviour) {
	case GOOD:
		say_brief(fd, 100, "");
		break;
	case KIT:
		say_brief(fd, 100, ", \"hints\": {\"machine\": {\"working_set_bytes\": 1}}");
		break;
	case OWN:
		say_brief(fd, 100, ", \"balloon_own_mib\": 0");
		break;
	case GREEDY: /* a guest that took it over after a while */
		say_brief(fd, rig.shared->asked[index] == 1 ? 200 : 10000, "");
		break;
	case NOT_STARTED:
		say(fd, "HTTP/1.1 400 Bad Request\r\n\r\n{}", 30);
		break;
	case HANGS:
		pause();
		break;
	case NONSENSE:
		say(fd, "hello\r\n\r\nthere", 14);
		break;
	case PAINTS: /* the words of the fault quote it */
		say(fd, "HTTP/1.1 200 OK\r\n\r\n\033[2J", 23);
		break;
	case REFUSES:
		say(fd, "HTTP/1.1 404 Not Found\r\n\r\n{}", 28);
		break;
	case MEGABYTES:
		say_megabytes(fd);
		break;
	case CUTS_OFF:
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"id\"", 44);
		break;
	}
}

static int listen_at(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
		_exit(1);
	return fd;
}

static const char *path_of(const char *name)
{
	static char path[96];

	snprintf(path, sizeof(path), "%s/%s.sock", rig.directory, name);
	return path;
}

/* Its index; it listens when this returns. */
static unsigned start(const char *name, enum behaviour behaviour)
{
	const unsigned index = rig.count++;
	struct stat status;

	assert_true(index < PEERS);
	unlink(path_of(name));
	rig.peers[index] = fork();
	if (rig.peers[index] == 0) {
		int listening = listen_at(path_of(name));

		for (;;) {
			int fd = accept(listening, NULL, NULL);

			serve(index, behaviour, fd);
			close(fd);
		}
	}
	for (unsigned i = 0; i < 2000 && stat(path_of(name), &status) < 0; i++)
		usleep(1000);
	usleep(2000);
	return index;
}

static void end(unsigned index)
{
	if (!rig.peers[index])
		return;
	kill(rig.peers[index], SIGKILL);
	waitpid(rig.peers[index], NULL, 0);
	rig.peers[index] = 0;
}

/* ---- the fleet ---- */

static void came(void *opaque, const char *name, pid_t pid, const pid_t *threads, unsigned count)
{
	rig.came++;
	rig.came_pid = pid;
	rig.came_thread = count ? threads[0] : 0;
}

static void gone(void *opaque, const char *name)
{
	rig.gone++;
	snprintf(rig.gone_name, sizeof(rig.gone_name), "%s", name);
}

static void open_fleet(void)
{
	const struct fleet_options options = {.directory = rig.directory,
		.came = came,
		.gone = gone,
		.period_ms = PERIOD_MS,
		.patience_ms = PATIENCE_MS};

	assert_int_equal(fleet_open(&rig.fleet, rig.loop, &options, NULL), 0);
}

static int set_up(void **state)
{
	memset(&rig, 0, sizeof(rig));
	strcpy(rig.directory, "/tmp/duet-fleet-XXXXXX");
	rig.shared = mmap(NULL, sizeof(*rig.shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	log_set_level(LOG_LEVEL_ERROR);
	return mkdtemp(rig.directory) && loop_new(&rig.loop, 64, NULL) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[96];

	fleet_close(rig.fleet);
	loop_run_for(rig.loop, 2);
	loop_free(rig.loop);
	for (unsigned i = 0; i < rig.count; i++)
		end(i);
	munmap(rig.shared, sizeof(*rig.shared));
	snprintf(command, sizeof(command), "rm -r %s", rig.directory);
	return system(command);
}

static unsigned views(void)
{
	struct vm_view *all;

	return fleet_views(rig.fleet, &all);
}

struct wanted {
	const char *name;
	bool found, well;
	pid_t pid;
	char fault[256];
};

static void look(void *opaque, const struct fleet_entry *entry)
{
	struct wanted *wanted = opaque;

	if (strcmp(entry->name, wanted->name) != 0)
		return;
	wanted->found = true;
	wanted->well = entry->well;
	wanted->pid = entry->pid;
	snprintf(wanted->fault, sizeof(wanted->fault), "%s", entry->fault ? entry->fault : "");
	assert_int_equal(entry->well, entry->view != NULL);
}

static struct wanted entry(const char *name)
{
	struct wanted wanted = {.name = name};

	fleet_each(rig.fleet, look, &wanted);
	return wanted;
}

/* ---- tests ---- */

static void finds_those_there_and_those_that_come(void **state)
{
	unsigned first = start("first", GOOD);
	struct vm_view *all;

	open_fleet();
	loop_run_until(rig.loop, views() == 1);
	assert_int_equal(rig.came, 1);
	assert_int_equal(rig.came_pid, rig.peers[first]);
	assert_int_equal(rig.came_thread, 77);
	assert_int_equal(fleet_views(rig.fleet, &all), 1);
	assert_string_equal(all[0].name, "first");
	assert_int_equal(all[0].memory, 512 * MIB);
	start("second", GOOD);
	loop_run_until(rig.loop, views() == 2);
	assert_int_equal(rig.came, 2);
	unlink(path_of("second"));
	loop_run_until(rig.loop, rig.gone == 1);
	assert_string_equal(rig.gone_name, "second");
	assert_int_equal(views(), 1);
}

static void keeps_the_share_that_it_said_first(void **state)
{
	const unsigned greedy = start("greedy", GREEDY);
	struct vm_view *all;

	open_fleet();
	loop_run_until(rig.loop, rig.shared->asked[greedy] >= 4);
	assert_in_range(rig.shared->asked[greedy], 4, 1000);
	loop_run_until(rig.loop, views() == 1);
	assert_int_equal(fleet_views(rig.fleet, &all), 1);
	assert_int_equal(all[0].share, 200);
}

static void tells_a_crash_and_a_new_start(void **state)
{
	unsigned first = start("vm", GOOD), second;

	open_fleet();
	loop_run_until(rig.loop, views() == 1);
	end(first);
	loop_run_until(rig.loop, rig.gone == 1);
	assert_int_equal(rig.gone, 1);
	assert_false(entry("vm").well);
	second = start("vm", GOOD);
	loop_run_until(rig.loop, views() == 1);
	assert_int_equal(rig.came, 2);
	assert_int_equal(rig.came_pid, rig.peers[second]);
}

/* Each of them is told of, and none keeps the good one from being asked. */
static void leaves_out_what_is_no_vm(void **state)
{
	static const struct {
		const char *name, *fault;
		enum behaviour behaviour;
	} others[] = {
		{"hangs", "hangs", HANGS},
		{"nonsense", "no answer that is one", NONSENSE},
		{"refuses", "404", REFUSES},
		{"megabytes", "larger than", MEGABYTES},
		{"cut", "no answer that is one", CUTS_OFF},
		{"paints", "no JSON", PAINTS},
	};
	unsigned good, before;

	for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
		start(others[i].name, others[i].behaviour);
	good = start("good", GOOD);
	open_fleet();
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		loop_run_until(rig.loop, !strstr(entry(others[i].name).fault, "not asked"));
		assert_false(entry(others[i].name).well);
		if (!strstr(entry(others[i].name).fault, others[i].fault))
			fail_msg("%s: %s", others[i].name, entry(others[i].name).fault);
		assert_null(strchr(entry(others[i].name).fault, 27));
	}
	assert_true(entry("good").well);
	assert_int_equal(entry("good").pid, rig.peers[good]);
	assert_int_equal(views(), 1);
	before = rig.shared->asked[good];
	loop_run_for(rig.loop, 300);
	/* Ten times at a quarter of the usual, with room for a slow machine. */
	assert_true(rig.shared->asked[good] >= before + 3);
	/* Ever more rarely: 20, 40, 80, 160 ms. */
	assert_true(rig.shared->asked[1] < rig.shared->asked[good]);
	assert_true(rig.shared->asked[1] <= 8);
}

static void waits_for_one_that_has_not_started(void **state)
{
	unsigned vm = start("vm", NOT_STARTED);

	open_fleet();
	loop_run_until(
		rig.loop, rig.shared->asked[vm] >= 8); /* it is not asked more and more rarely */
	assert_true(rig.shared->asked[vm] >= 8);
	assert_false(entry("vm").well);
	assert_non_null(strstr(entry("vm").fault, "not started"));
	assert_int_equal(views(), 0);
	assert_int_equal(rig.came, 0);
}

static void passes_over_other_files(void **state)
{
	char text[128];
	FILE *file;

	snprintf(text, sizeof(text), "%s/file.sock", rig.directory);
	file = fopen(text, "w");
	assert_non_null(file);
	fclose(file);
	start("bad name", GOOD);
	start(".hidden", GOOD);
	start("good", GOOD);
	open_fleet();
	loop_run_until(rig.loop, views() == 1);
	loop_run_for(rig.loop, 30);
	assert_int_equal(views(), 1);
	assert_false(entry("file").found || entry("bad name").found || entry(".hidden").found);
}

static void tells_balloons_on_a_lease(void **state)
{
	struct vm_plan plan = {.set_memory = true, .allowed = 384 * MIB};
	unsigned vm = start("vm", GOOD);

	open_fleet();
	loop_run_until(rig.loop, views() == 1);
	fleet_apply(rig.fleet, "vm", &plan);
	fleet_apply(rig.fleet, "nobody", &plan);
	loop_run_until(rig.loop, rig.shared->told[vm] == 1);
	assert_string_equal(rig.shared->body[vm], "{\"amount_mib\": 128, \"for_ms\": 10000}");
	loop_run_until(rig.loop, views() == 1);
	loop_run_for(rig.loop, 20);
	for (unsigned i = 0; i < 5; i++) {
		fleet_apply(rig.fleet, "vm", &plan);
		loop_run_for(rig.loop, 10);
	}
	assert_int_equal(rig.shared->told[vm], 1);
	plan.allowed = UINT64_MAX;
	fleet_apply(rig.fleet, "vm", &plan);
	loop_run_until(rig.loop, rig.shared->told[vm] == 2);
	assert_string_equal(rig.shared->body[vm], "{\"amount_mib\": 0, \"for_ms\": 10000}");
	loop_run_for(rig.loop, 20);
	plan.allowed = 256 * MIB;
	fleet_apply(rig.fleet, "vm", &plan);
	loop_run_until(rig.loop, rig.shared->told[vm] == 3);
	loop_run_for(rig.loop, 20);
	/* It is let go when there is no fleet any more. */
	fleet_close(rig.fleet);
	rig.fleet = NULL;
	loop_run_until(rig.loop, rig.shared->told[vm] == 4);
	assert_string_equal(rig.shared->body[vm], "{\"amount_mib\": 256, \"for_ms\": 1}");
}

/* What it has without a lease needs none. */
static void renews_no_lease_for_nothing(void **state)
{
	struct vm_plan plan = {.set_memory = true, .allowed = UINT64_MAX};
	unsigned vm = start("vm", OWN), asked;
	const struct shared *shared = rig.shared;

	open_fleet();
	loop_run_until(rig.loop, views() == 1);
	fleet_apply(rig.fleet, "vm", &plan);
	asked = shared->asked[vm];
	loop_run_until(rig.loop, shared->asked[vm] >= asked + 3);
	assert_in_range(shared->asked[vm], asked + 3, 1000);
	assert_int_equal(shared->told[vm], 0);
	/* Another size, and none again: that is told, whatever it said before. */
	plan.allowed = 384 * MIB;
	fleet_apply(rig.fleet, "vm", &plan);
	loop_run_until(rig.loop, shared->told[vm] == 1);
	assert_string_equal(shared->body[vm], "{\"amount_mib\": 128, \"for_ms\": 10000}");
	loop_run_for(rig.loop, 20);
	plan.allowed = 512 * MIB;
	fleet_apply(rig.fleet, "vm", &plan);
	loop_run_until(rig.loop, shared->told[vm] == 2);
	assert_string_equal(shared->body[vm], "{\"amount_mib\": 0, \"for_ms\": 10000}");
}

/* Guests are asked for a map once a minute, machines told of a move when it is another one. */
static void tells_nodes(void **state)
{
	struct vm_plan plan = {.wants_map = true, .set_numa = true, .memory_follows = true};
	unsigned kit = start("kit", KIT), plain = start("plain", GOOD);
	const struct shared *shared = rig.shared;

	plan.vcpu[0].node = 1;
	open_fleet();
	loop_run_until(rig.loop, views() == 2);
	for (unsigned i = 0; i < 5; i++) {
		fleet_apply(rig.fleet, "kit", &plan);
		fleet_apply(rig.fleet, "plain", &plan);
		loop_run_for(rig.loop, 10);
	}
	loop_run_until(
		rig.loop, shared->placed[kit] && shared->wished[kit] && shared->placed[plain]);
	assert_int_equal(shared->placed[kit], 1);
	assert_int_equal(shared->wished[kit], 1);
	assert_string_equal(shared->place[kit], "{\"nodes\": [1]}");
	assert_int_equal(shared->wished[plain], 0);
	plan.vcpu[0].node = 0;
	fleet_apply(rig.fleet, "kit", &plan);
	loop_run_until(rig.loop, shared->placed[kit] == 2);
	assert_string_equal(shared->place[kit], "{\"nodes\": [0]}");
	/* And asked as before. */
	plan.memory_follows = false;
	plan.vcpu[0].node = 1;
	fleet_apply(rig.fleet, "kit", &plan);
	for (unsigned asked = shared->asked[kit], i = 0; i < 200 && shared->asked[kit] < asked + 3;
		i++)
		loop_run_for(rig.loop, 5);
	assert_int_equal(views(), 2);
	assert_int_equal(shared->placed[kit], 2);
}

static void applies(const struct vm_plan *plan, unsigned vm, unsigned told, const char *body)
{
	loop_run_until(rig.loop, views() == 1);
	loop_run_for(rig.loop, 20);
	fleet_apply(rig.fleet, "vm", plan);
	loop_run_until(rig.loop, rig.shared->told[vm] == told);
	loop_run_for(rig.loop, 20);
	assert_int_equal(rig.shared->told[vm], told);
	assert_string_equal(rig.shared->body[vm], body);
}

static void tells_sharing_on_a_lease(void **state)
{
	static const char hinted[] = "{\"state\": \"hinted\", \"for_ms\": 60000}",
			  ends[] = "{\"state\": \"hinted\", \"for_ms\": 1}",
			  blind[] = "{\"state\": \"blind\", \"for_ms\": 60000}";
	struct vm_plan plan = {.set_sharing = true};
	unsigned vm = start("vm", GOOD);

	open_fleet();
	applies(&plan, vm, 1, hinted);
	applies(&plan, vm, 1, hinted);
	/* Ended at once, and once. */
	plan.set_sharing = false;
	applies(&plan, vm, 2, ends);
	applies(&plan, vm, 2, ends);
	plan.set_sharing = true;
	applies(&plan, vm, 3, hinted);
	plan.sharing = SHARING_BLIND;
	applies(&plan, vm, 4, blind);
	/* Both errands of one plan are run. */
	plan.set_memory = true;
	plan.allowed = 256 * MIB;
	plan.sharing = SHARING_HINTED;
	applies(&plan, vm, 6, hinted);
	fleet_close(rig.fleet);
	rig.fleet = NULL;
	loop_run_until(rig.loop, rig.shared->told[vm] == 8);
	assert_string_equal(rig.shared->body[vm], ends);
}

static void outlives_its_directory(void **state)
{
	char command[128];

	start("vm", GOOD);
	open_fleet();
	loop_run_until(rig.loop, views() == 1);
	snprintf(command, sizeof(command), "rm -r %s", rig.directory);
	assert_int_equal(system(command), 0);
	loop_run_until(rig.loop, rig.gone == 1);
	assert_int_equal(views(), 0);
	assert_int_equal(mkdir(rig.directory, 0755), 0);
}

/* Others have taken all descriptors: the directory cannot be read, and its VMs are there. */
static void keeps_all_while_it_cannot_look(void **state)
{
	struct rlimit before, none;

	start("vm", GOOD);
	open_fleet();
	loop_run_until(rig.loop, views() == 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	symlink("nowhere", path_of("another"));
	loop_run_for(rig.loop, 2 * PERIOD_MS);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(rig.gone, 0);
	loop_run_until(rig.loop, views() == 1);
	assert_int_equal(views(), 1);
	assert_int_equal(rig.came, 1);
}

#define fleet_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		fleet_test(finds_those_there_and_those_that_come),
		fleet_test(keeps_the_share_that_it_said_first),
		fleet_test(tells_a_crash_and_a_new_start),
		fleet_test(leaves_out_what_is_no_vm),
		fleet_test(waits_for_one_that_has_not_started),
		fleet_test(passes_over_other_files),
		fleet_test(tells_balloons_on_a_lease),
		fleet_test(renews_no_lease_for_nothing),
		fleet_test(tells_nodes),
		fleet_test(tells_sharing_on_a_lease),
		fleet_test(outlives_its_directory),
		fleet_test(keeps_all_while_it_cannot_look),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
