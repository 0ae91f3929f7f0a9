/* SPDX-License-Identifier: Apache-2.0 */
/* The line between duet-oci and the guest's agent, both of its ends, over sockets: the agent's
 * server in a process of its own, with processes of this machine as a container's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "oci/agent/server.h"
#include "oci/guest.h"
#include "oci/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PATIENCE_MS 60000

static struct rig {
	char root[64];
	struct container container;
	pid_t server;
	int control;
} rig;

/* ---- what a guest does ---- */

static int begin(struct process *process, struct child *child)
{
	int in[2], out[2], errors[2];

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0)
		return -errno;
	child->pid = fork();
	if (child->pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(errors[1], 2);
		execvp(process->args.items[0], process->args.items);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	close(errors[1]);
	child->in = in[1];
	child->out = out[0];
	child->err = errors[0];
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(errors[0], F_SETFL, O_NONBLOCK);
	return 0;
}

static pid_t first;

static int fake_setup(void *opaque, struct setup *setup, struct child *child, struct error *err)
{
	int ret = begin(&setup->process, child);

	if (setup->hostname && strcmp(setup->hostname, "bad") == 0)
		return error_set(err, EINVAL, "a bad\nname");
	first = child->pid;
	return ret;
}

static int fake_start(void *opaque, struct error *err)
{
	return first ? 0 : error_set(err, EINVAL, "there is no container");
}

static int fake_exec(void *opaque, struct process *process, struct child *child, struct error *err)
{
	return begin(process, child);
}

static int fake_kill(void *opaque, int number, bool all, struct error *err)
{
	return kill(first, number) < 0 ? error_errno(err, errno, "kill") : 0;
}

static int fake_list(void *opaque, struct listing *listing, struct error *err)
{
	listing->items = calloc(1, sizeof(*listing->items));
	listing->items[0] = (struct listed){1, 2, strdup("a command")};
	listing->count = 1;
	return 0;
}

static int fake_usage(void *opaque, struct usage *usage, struct error *err)
{
	*usage = (struct usage){.cpu_ns = 5, .memory_limit = UINT64_MAX};
	return 0;
}

/* And what its machine's monitor does before the agent hears of a connection: "CONNECT 1025". */
static bool fake_trusts(void *opaque, int fd)
{
	char byte = 0;

	fcntl(fd, F_SETFL, 0);
	while (byte != '\n' && read(fd, &byte, 1) == 1)
		;
	if (write(fd, "OK 1\n", 5) != 5)
		return false;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return true;
}

static const struct server_ops ops = {
	fake_setup, fake_start, fake_exec, fake_kill, fake_list, fake_usage, fake_trusts};

static int start_server(void **state)
{
	int control[2];
	sigset_t set;
	int listener;

	rig = (struct rig){.container = {.dir = -1, .id = "test"}};
	strcpy(rig.root, "/tmp/duet-oci-test-XXXXXX");
	if (!mkdtemp(rig.root) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0)
		return -1;
	rig.container.dir = open(rig.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	listener = guest_socket(rig.container.dir, GUEST_SOCKET, true);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	rig.server = fork();
	if (rig.server == 0) {
		close(control[0]);
		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		sigprocmask(SIG_BLOCK, &set, NULL);
		signal(SIGPIPE, SIG_IGN);
		_exit(server_run(&ops, NULL, control[1], listener) < 0 ? 1 : 0);
	}
	close(control[1]);
	close(listener);
	rig.control = control[0];
	return 0;
}

/* Whatever the test did, the server is sound: it ends well when its first connection does. */
static int stop_server(void **state)
{
	char command[96];
	int status;

	cleanup_close(&rig.control);
	waitpid(rig.server, &status, 0);
	cleanup_close(&rig.container.dir);
	snprintf(command, sizeof(command), "rm -rf %s", rig.root);
	return system(command) || status;
}

/* ---- the host's side ---- */

static void set_args(struct process *process, const char *script)
{
	*process = (struct process){.cwd = strdup("/")};
	texts_add(&process->args, "sh");
	texts_add(&process->args, "-c");
	texts_add(&process->args, script);
}

static void send_setup(const char *script, const char *hostname)
{
	struct setup setup = {.root_type = strdup("ext4")};
	struct wire wire;

	set_args(&setup.process, script);
	setup.hostname = hostname ? strdup(hostname) : NULL;
	wire_write(&wire);
	wire_setup(&wire, &setup);
	assert_int_equal(wire_end(&wire), 0);
	assert_int_equal(
		frame_send(rig.control, FRAME_SETUP, wire.bytes, (uint32_t)wire.length), 0);
	free(wire.bytes);
	setup_free(&setup);
}

static int send_exec(int fd, const char *script)
{
	struct process process;
	struct wire wire;
	int ret;

	set_args(&process, script);
	wire_write(&wire);
	wire_process(&wire, &process);
	ret = frame_send(fd, FRAME_EXEC, wire.bytes, (uint32_t)wire.length);
	free(wire.bytes);
	process_free(&process);
	return ret;
}

static void await_ok(int fd, struct frame_input *input)
{
	struct error err = {0};
	struct frame frame;

	if (guest_answer(fd, input, PATIENCE_MS, &frame, &err) < 0)
		fail_msg("%s", err.text);
}

/* Its status, with what is read of @in as its input; what it says goes to @out. */
static uint32_t pump(int fd, struct frame_input *input, int in, int out)
{
	struct pump pump = {.fd = fd, .input = input, .in = in, .out = out, .err = out, .side = -1};
	uint32_t status = 999;

	assert_int_equal(pump_prepare(&pump), 0);
	assert_int_equal(pump_run(&pump, &status), 0);
	close(pump.signals);
	return status;
}

/* The same of one whose input was sent past the pump. */
static uint32_t await_exit(int fd, struct frame_input *input)
{
	uint32_t status = 999, none;
	struct frame frame;

	do
		assert_int_equal(frame_wait(input, fd, PATIENCE_MS, &frame), 0);
	while (frame.type != FRAME_EXIT);
	assert_int_equal(frame_numbers(&frame, &status, &none), 0);
	return status;
}

static int make_file(size_t length)
{
	const int fd = open(rig.root, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	for (uint32_t i = 0; i < length / sizeof(i); i++)
		assert_int_equal(write(fd, &i, sizeof(i)), sizeof(i));
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static void test_run(void **state)
{
	struct frame_input input = {.limit = frame_host_takes};
	struct error err = {0};
	int in[2], out[2];
	char text[64];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	send_setup("read a; echo got $a; echo bad >&2; exit 7", NULL);
	await_ok(rig.control, &input);
	assert_int_equal(guest_start(&rig.container, &err), 0);
	assert_int_equal(write(in[1], "this\n", 5), 5);
	assert_int_equal(pump(rig.control, &input, in[0], out[1]), 7);
	assert_int_equal(read(out[0], text, sizeof(text)), 13);
	assert_memory_equal(text, "got this\nbad\n", 13);
	frame_input_free(&input);
	close(in[0]);
	close(in[1]);
	close(out[0]);
	close(out[1]);
}

/* A megabyte each way through a process, whole. */
static void test_much(void **state)
{
	const int in = make_file(1 << 20), out = make_file(0);
	struct frame_input input = {.limit = frame_host_takes};
	uint32_t number;

	send_setup("cat", NULL);
	await_ok(rig.control, &input);
	assert_int_equal(pump(rig.control, &input, in, out), 0);
	assert_int_equal(lseek(out, 0, SEEK_END), 1 << 20);
	for (uint32_t i = 0; i < (1 << 20) / sizeof(i); i += 4096) {
		assert_int_equal(pread(out, &number, sizeof(number), (off_t)(i * sizeof(i))), 4);
		assert_int_equal(number, i);
	}
	frame_input_free(&input);
	close(in);
	close(out);
}

/* One that reads nothing is sent signals all the same, and others in the container run. */
static void test_stuck(void **state)
{
	struct frame_input input = {.limit = frame_host_takes}, other = {.limit = frame_host_takes};
	static const uint8_t zeroes[FRAME_DATA_MAX];
	struct error err = {0};
	int fd, out = make_file(0);

	send_setup("exec sleep 1000", NULL);
	await_ok(rig.control, &input);
	for (unsigned i = 0; i < FRAME_INPUT_ROOM / FRAME_DATA_MAX; i++)
		assert_int_equal(frame_send(rig.control, FRAME_INPUT, zeroes, sizeof(zeroes)), 0);
	fd = guest_connect(&rig.container, &err);
	assert_true(fd >= 0);
	assert_int_equal(send_exec(fd, "yes 2>/dev/null | head -c 300000; exit 3"), 0);
	await_ok(fd, &other);
	assert_int_equal(pump(fd, &other, -1, out), 3);
	assert_int_equal(lseek(out, 0, SEEK_END), 300000);
	close(fd);
	assert_int_equal(frame_send_numbers(rig.control, FRAME_SIGNAL, SIGTERM, 0), 0);
	assert_int_equal(await_exit(rig.control, &input), 128 + SIGTERM);
	frame_input_free(&input);
	frame_input_free(&other);
	close(out);
}

static void test_questions(void **state)
{
	struct frame_input input = {.limit = frame_host_takes};
	struct listing listing = {0};
	struct usage usage;
	struct error err = {0};

	assert_true(guest_start(&rig.container, &err) < 0);
	assert_string_equal(err.text, "there is no container");
	send_setup("exec sleep 1000", NULL);
	await_ok(rig.control, &input);
	assert_int_equal(guest_list(&rig.container, &listing, &err), 0);
	assert_int_equal(listing.count, 1);
	assert_string_equal(listing.items[0].command, "a command");
	listing_free(&listing);
	assert_int_equal(guest_usage(&rig.container, &usage, &err), 0);
	assert_int_equal(usage.cpu_ns, 5);
	assert_true(usage.memory_limit == UINT64_MAX);
	assert_int_equal(guest_kill(&rig.container, SIGKILL, false, &err), 0);
	assert_int_equal(pump(rig.control, &input, -1, 2), 128 + SIGKILL);
	frame_input_free(&input);
}

/* A guest's words do not reach a terminal as commands. */
static void test_words(void **state)
{
	struct frame_input input = {.limit = frame_host_takes};
	struct error err = {0};
	struct frame frame;

	send_setup("exit 0", "bad");
	assert_true(guest_answer(rig.control, &input, PATIENCE_MS, &frame, &err) < 0);
	assert_string_equal(err.text, "a bad?name");
	frame_input_free(&input);
}

/* Who says what he may not is cut off, and the others are not. */
static void test_hostile_host(void **state)
{
	static const struct {
		uint32_t type, length;
	} cases[] = {
		{FRAME_SETUP, 0},
		{0, 0},
		{FRAME_TYPES, 0},
		{FRAME_OUTPUT, 0},
		{FRAME_INPUT, 1},
		{FRAME_EXEC, 0},
		{FRAME_EXEC, FRAME_LIST_MAX + 1},
		{FRAME_KILL, 3},
		{FRAME_KILL, 0xffffffff},
		{FRAME_RESIZE, 8},
		{FRAME_SIGNAL, 8},
	};
	struct frame_input input = {.limit = frame_host_takes}, own = {.limit = frame_host_takes};
	struct error err = {0};
	struct frame frame;
	uint8_t bytes[FRAME_HEAD + 16];
	size_t length;
	int fd;

	send_setup("exec sleep 1000", NULL);
	await_ok(rig.control, &own);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		fd = guest_connect(&rig.container, &err);
		assert_true(fd >= 0);
		memset(bytes, 0, sizeof(bytes));
		store_le32(bytes, cases[i].type);
		store_le32(bytes + 4, cases[i].length);
		length = FRAME_HEAD + (cases[i].length <= 16 ? cases[i].length : 0);
		assert_int_equal(write(fd, bytes, length), length);
		input = (struct frame_input){.limit = frame_host_takes};
		if (frame_wait(&input, fd, PATIENCE_MS, &frame) == 0)
			fail_msg("case %u was answered by %u", i, frame.type);
		frame_input_free(&input);
		close(fd);
	}
	assert_int_equal(guest_kill(&rig.container, SIGTERM, false, &err), 0);
	assert_int_equal(pump(rig.control, &own, -1, 2), 128 + SIGTERM);
	frame_input_free(&own);
}

/* More input than there was room for ends the connection. */
static void test_too_much_input(void **state)
{
	struct frame_input input = {.limit = frame_host_takes};
	static const uint8_t zeroes[FRAME_DATA_MAX];
	struct error err = {0};
	struct frame frame;
	const int fd = guest_connect(&rig.container, &err);
	int ret = send_exec(fd, "exec sleep 1000");

	await_ok(fd, &input);
	/* What its pipe takes is taken; behind that is the room. */
	for (unsigned i = 0; i < 64 && ret == 0; i++)
		ret = frame_send(fd, FRAME_INPUT, zeroes, sizeof(zeroes));
	do
		ret = frame_wait(&input, fd, PATIENCE_MS, &frame);
	while (ret == 0 && frame.type == FRAME_TAKEN);
	assert_true(ret == -EPIPE || ret == -ECONNRESET);
	frame_input_free(&input);
	close(fd);
}

/* What a guest may say, and what not: each ends the pump with an error, and none is waited for. */
static void test_hostile_guest(void **state)
{
	static const struct {
		uint32_t type, length, first;
	} cases[] = {
		{FRAME_SETUP, 0, 0},
		{FRAME_TYPES, 0, 0},
		{FRAME_OUTPUT, FRAME_DATA_MAX + 1, 0},
		{FRAME_TAKEN, 8, 1},
		{FRAME_TAKEN, 4, 0},
		{FRAME_EXIT, 8, 256},
		{FRAME_EXIT, 0, 0},
		{FRAME_OK, 0, 0},
		{FRAME_FAILED, 0xffffffff, 0},
	};
	uint8_t bytes[16];
	int pair[2];

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct frame_input input = {.limit = frame_host_takes};
		struct pump pump = {.in = -1, .out = 2, .err = 2, .side = -1, .input = &input};
		uint32_t status;

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		pump.fd = pair[0];
		memset(bytes, 0, sizeof(bytes));
		store_le32(bytes, cases[i].type);
		store_le32(bytes + 4, cases[i].length);
		store_le32(bytes + 8, cases[i].first);
		assert_int_equal(write(pair[1], bytes, 16), 16);
		assert_int_equal(pump_prepare(&pump), 0);
		assert_true(pump_run(&pump, &status) < 0);
		close(pump.signals);
		close(pair[0]);
		close(pair[1]);
		frame_input_free(&input);
	}
}

/* Each message comes back as it went, and cut off anywhere it is refused. */
static void test_wire(void **state)
{
	struct setup setup = {
		.root_type = strdup("erofs"), .hostname = strdup(""), .memory = 1ULL << 40};
	struct setup back;
	struct wire wire, read;

	set_args(&setup.process, "x\ny");
	setup.mounts = calloc(1, sizeof(*setup.mounts));
	setup.mount_count = 1;
	setup.mounts[0] = (struct mount){.destination = strdup("/a"),
		.kind = MOUNT_FILE,
		.content = {(uint8_t *)strdup("abc"), 3}};
	setup.links[0] = (struct link){.name = strdup("eth0"), .mac = 5, .address_count = 1};
	setup.links[0].addresses[0] = (struct address){AF_INET, 24, {10, 0, 0, 1}};
	setup.link_count = 1;
	wire_write(&wire);
	wire_setup(&wire, &setup);
	assert_int_equal(wire_end(&wire), 0);
	for (size_t length = 0; length <= wire.length; length++) {
		back = (struct setup){0};
		wire_read(&read, wire.bytes, length);
		wire_setup(&read, &back);
		assert_int_equal(wire_end(&read), length == wire.length ? 0 : -EBADMSG);
		if (length == wire.length) {
			assert_string_equal(back.process.args.items[2], "x\ny");
			assert_string_equal(back.hostname, "");
			assert_null(back.domainname);
			assert_memory_equal(back.mounts[0].content.bytes, "abc", 3);
			assert_int_equal(back.links[0].addresses[0].bytes[3], 1);
		}
		setup_free(&back);
	}
	free(wire.bytes);
	setup_free(&setup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_run, start_server, stop_server),
		cmocka_unit_test_setup_teardown(test_much, start_server, stop_server),
		cmocka_unit_test_setup_teardown(test_stuck, start_server, stop_server),
		cmocka_unit_test_setup_teardown(test_questions, start_server, stop_server),
		cmocka_unit_test_setup_teardown(test_words, start_server, stop_server),
		cmocka_unit_test_setup_teardown(test_hostile_host, start_server, stop_server),
		cmocka_unit_test_setup_teardown(test_too_much_input, start_server, stop_server),
		cmocka_unit_test(test_hostile_guest),
		cmocka_unit_test(test_wire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
