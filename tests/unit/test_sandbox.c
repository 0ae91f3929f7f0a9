/* SPDX-License-Identifier: Apache-2.0 */
/* What a broken duet would try. Each attempt is a child's, for nothing can be taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/thread.h"
#include "sandbox/private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK 65536

/* Sanitizers make calls of their own: at a thread's end for one, or, the thread sanitizer, at any
 * time. */
#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define RACES 1
#else
#define RACES 0
#endif
#if RACES || defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static void leave(int status)
{
	syscall(SYS_exit_group, status);
}

struct child {
	int status;
	char words[1024]; /* what it said on standard error */
};

static char directory[] = "/tmp/test_sandbox.XXXXXX", inside[64], outside[64];

static void confined(
	const struct sandbox_options *options, enum thread_kind kind, void (*attempt)(void))
{
	struct error err = {0};

	if (sandbox_enter(options, &err) < 0) {
		dprintf(STDERR_FILENO, "%s\n", err.text);
		leave(99);
	}
	thread_confine(kind);
	attempt();
	leave(0);
}

static struct child run(
	const struct sandbox_options *options, enum thread_kind kind, void (*attempt)(void))
{
	struct child child = {0};
	int ends[2];
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		confined(options, kind, attempt);
	}
	close(ends[1]);
	for (size_t at = 0;
		(got = read(ends[0], child.words + at, sizeof(child.words) - 1 - at)) > 0;)
		at += (size_t)got;
	close(ends[0]);
	assert_int_equal(waitpid(pid, &child.status, 0), pid);
	return child;
}

/* It is let be: the attempt itself sees to what came of it. */
static void check_allowed(
	const struct sandbox_options *options, enum thread_kind kind, void (*attempt)(void))
{
	const struct child child = run(options, kind, attempt);

	if (!WIFEXITED(child.status) || WEXITSTATUS(child.status) != 0)
		fail_msg("status 0x%x: %s", (unsigned)child.status, child.words);
}

/* A child's, from its start on. */
static int open_before[2];

static void must(bool so)
{
	if (!so)
		leave(1);
}

#define FORBIDDEN(name, code)                                                                      \
	static void name(void)                                                                     \
	{                                                                                          \
		code;                                                                              \
	}
FORBIDDEN(try_execve, execl("/bin/true", "true", NULL))
FORBIDDEN(try_fork, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
FORBIDDEN(try_ptrace, ptrace(PTRACE_ATTACH, 1, 0, 0))
FORBIDDEN(try_read_memory, syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0))
FORBIDDEN(try_kill, kill(1, 0))
FORBIDDEN(try_tgkill, syscall(SYS_tgkill, 1, 1, 0))
FORBIDDEN(try_inet, socket(AF_INET, SOCK_STREAM, 0))
FORBIDDEN(try_netlink, socket(AF_NETLINK, SOCK_RAW, 0))
FORBIDDEN(try_unix, socket(AF_UNIX, SOCK_STREAM, 0))
FORBIDDEN(try_bind, bind(0, NULL, 0))
FORBIDDEN(try_open, open("/etc/passwd", O_RDONLY))
FORBIDDEN(try_unlink, unlink("/tmp/nothing-is-here"))
FORBIDDEN(try_code, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
FORBIDDEN(try_make_code, mprotect(&directory, 1, PROT_READ | PROT_WRITE | PROT_EXEC))
FORBIDDEN(try_new_vm, ioctl(0, KVM_CREATE_VM, 0))
FORBIDDEN(try_memory_slot, ioctl(0, KVM_SET_CPUID2, 0))
FORBIDDEN(try_run, ioctl(0, KVM_RUN, 0))
FORBIDDEN(try_type, ioctl(0, TIOCSTI, "x"))
FORBIDDEN(try_ring, syscall(SYS_io_uring_setup, 1, NULL))
FORBIDDEN(try_ring_files, syscall(SYS_io_uring_register, 0, 2, NULL, 0))
FORBIDDEN(try_signal_io, fcntl(0, F_SETOWN, 1))
FORBIDDEN(try_async, fcntl(0, F_SETFL, O_ASYNC))
FORBIDDEN(try_unshare, unshare(CLONE_NEWUSER))
FORBIDDEN(try_mount, syscall(SYS_mount, "", "/", "", 0, NULL))
FORBIDDEN(try_bpf, syscall(SYS_bpf, 0, NULL, 0))
FORBIDDEN(try_module, syscall(SYS_init_module, NULL, 0, ""))
FORBIDDEN(try_keys, syscall(SYS_keyctl, 0, 0, 0, 0, 0))
FORBIDDEN(try_pid, syscall(SYS_pidfd_open, 1, 0))
FORBIDDEN(try_counter, syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0))
FORBIDDEN(try_chmod, chmod("/tmp/nothing-is-here", 0777))
FORBIDDEN(try_random, syscall(SYS_getrandom, NULL, 0, 0))
FORBIDDEN(try_faults, syscall(SYS_userfaultfd, 0))
FORBIDDEN(try_foreign_call, __asm__ volatile("int $0x80" : : "a"(20)))

#define EACH      ((1U << THREAD_KINDS) - 1)
#define NOT(kind) (EACH & ~(1U << (kind)))
#define MAIN      (1U << THREAD_MAIN | 1U << THREAD_CALLER)

static const struct {
	void (*attempt)(void);
	const char *call;
	unsigned kinds;
} forbidden[] = {
	{try_execve, "execve", EACH},
	{try_fork, "clone", EACH},
	{try_ptrace, "ptrace", EACH},
	{try_read_memory, "process_vm_readv", EACH},
	{try_kill, "kill", EACH},
	{try_tgkill, "tgkill", EACH},
	{try_inet, "socket", NOT(THREAD_CALLER)},
	{try_netlink, "socket", EACH},
	{try_unix, "socket", 1U << THREAD_VCPU | 1U << THREAD_DISCARD | 1U << THREAD_ARRIVE},
	{try_bind, "bind", EACH},
	{try_open, "openat", EACH & ~MAIN},
	{try_unlink, "unlink", EACH & ~MAIN},
	{try_code, "mmap", EACH},
	{try_make_code, "mprotect", EACH},
	{try_new_vm, "ioctl", EACH},
	{try_memory_slot, "ioctl", EACH},
	{try_run, "ioctl", NOT(THREAD_VCPU)},
	{try_type, "ioctl", EACH},
	{try_ring, "io_uring_setup", EACH},
	{try_ring_files, "io_uring_register", EACH},
	{try_signal_io, "fcntl", EACH},
	{try_async, "fcntl", EACH},
	{try_unshare, "unshare", EACH},
	{try_mount, "mount", EACH},
	{try_bpf, "bpf", EACH},
	{try_module, "init_module", EACH},
	{try_keys, "keyctl", EACH},
	{try_pid, "pidfd_open", EACH},
	{try_counter, "perf_event_open", NOT(THREAD_VCPU)},
	{try_chmod, "chmod", EACH},
	{try_faults, "userfaultfd", EACH},
	{try_random, "getrandom", 1U << THREAD_VCPU | 1U << THREAD_DISCARD},
};

static const char *const names[] = {[THREAD_MAIN] = "main",
	[THREAD_CALLER] = "main",
	[THREAD_VCPU] = "vCPU",
	[THREAD_IO] = "I/O",
	[THREAD_DISCARD] = "discard",
	[THREAD_ARRIVE] = "post-copy"};

/* The process ends at once, and says which thread called what. */
static void test_forbidden_calls(void **state)
{
	const struct sandbox_options options = {.files = false};
	char wanted[64];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(forbidden); i++) {
		for (unsigned kind = 0; kind < THREAD_KINDS; kind++) {
			struct child child;

			if (!(forbidden[i].kinds & 1U << kind))
				continue;
			child = run(&options, kind, forbidden[i].attempt);
			snprintf(wanted, sizeof(wanted), "the %s thread called %s (", names[kind],
				forbidden[i].call);
			if (!WIFEXITED(child.status) ||
				WEXITSTATUS(child.status) != SANDBOX_EXIT_STATUS ||
				!strstr(child.words, wanted))
				fail_msg("%s, %s: status 0x%x: %s", names[kind], forbidden[i].call,
					(unsigned)child.status, child.words);
		}
	}
}

/* Another architecture's numbers mean other calls: no word, but an end. */
static void test_foreign_numbers(void **state)
{
	const struct sandbox_options options = {.files = false};
	const struct child child = run(&options, THREAD_VCPU, try_foreign_call);

	(void)state;
	assert_true(WIFSIGNALED(child.status));
	assert_true(WTERMSIG(child.status) == SIGSYS || WTERMSIG(child.status) == SIGSEGV);
}

static void use_vcpu(void)
{
	const uint64_t one = 1;
	int fd = eventfd(0, EFD_CLOEXEC);

	must(fd >= 0 && write(fd, &one, sizeof(one)) == sizeof(one));
	must(ioctl(fd, KVM_RUN, 0) < 0 && errno == ENOTTY);
	must(ioctl(fd, KVM_IRQ_LINE, 0) < 0 && errno == ENOTTY);
	must(syscall(SYS_tgkill, getpid(), gettid(), 0) == 0);
	must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
		MAP_FAILED);
	must(close(fd) == 0);
}

static void *discard(void *opaque)
{
	thread_confine(THREAD_DISCARD);
	*(bool *)opaque = true;
	return NULL;
}

/* Which starts a thread of less. */
static void use_io(void)
{
	char bytes[8];
	bool ran = false;
	pthread_t thread;

	must(getpid() == syscall(SYS_getpid));
	must(syscall(SYS_getrandom, bytes, sizeof(bytes), 0) == sizeof(bytes));
	must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0);
	must(thread_start(&thread, STACK, discard, &ran) == 0);
	must(pthread_join(thread, NULL) == 0 && ran);
}

static void *unlimited(void *opaque)
{
	execl("/bin/true", "true", NULL);
	return opaque;
}

static void use_io_to_escape(void)
{
	pthread_t thread;

	must(thread_start(&thread, STACK, unlimited, NULL) == 0);
	pthread_join(thread, NULL);
}

static void use_main(void)
{
	struct stat status;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	must(fd >= 0 && fstat(fd, &status) == 0 && close(fd) == 0);
}

/* Nobody listens there. */
static void use_calls(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(1), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(fd >= 0 && connect(fd, (const void *)&address, sizeof(address)) < 0);
	must(errno == ECONNREFUSED);
}

static void *take_in(void *opaque)
{
	return opaque;
}

/* Takes a page in, from a stream, and has a thread for another. */
static void use_arrive(void)
{
	char byte;
	int ends[2] = {open_before[0], open_before[1]};
	pthread_t thread;

	must(send(ends[0], "x", 1, 0) == 1 && recv(ends[1], &byte, 1, 0) == 1);
	must(accept4(ends[0], NULL, NULL, SOCK_CLOEXEC) < 0 && errno == EINVAL);
	must(ioctl(ends[0], UFFDIO_COPY, 0) < 0 && errno == ENOTTY);
	must(thread_start(&thread, STACK, take_in, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

static void need_plain_build(void)
{
	if (!SANITIZED)
		return;
	print_message("skipped: a sanitizer's threads make system calls of their own\n");
	skip();
}

static void test_allowed_calls(void **state)
{
	const struct sandbox_options options = {.files = false}, calls = {.calls = true};

	(void)state;
	need_plain_build();
	check_allowed(&options, THREAD_VCPU, use_vcpu);
	check_allowed(&options, THREAD_IO, use_io);
	check_allowed(&options, THREAD_MAIN, use_main);
	check_allowed(&calls, THREAD_CALLER, use_calls);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, open_before), 0);
	check_allowed(&options, THREAD_ARRIVE, use_arrive);
	close(open_before[0]);
	close(open_before[1]);
}

/* A thread has the limits of the one that made it. */
static void test_threads_of_confined_ones(void **state)
{
	const struct sandbox_options options = {.files = false};
	struct child child;

	(void)state;
	need_plain_build();
	child = run(&options, THREAD_IO, use_io_to_escape);
	assert_true(WIFEXITED(child.status));
	assert_int_equal(WEXITSTATUS(child.status), SANDBOX_EXIT_STATUS);
	assert_non_null(strstr(child.words, "execve"));
}

static bool can_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool make(const char *parent, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", parent, name);
	return can_open(path, O_WRONLY | O_CREAT | O_EXCL);
}

static void use_named_files(void)
{
	char from[128], to[128];

	must(make(inside, "new"));
	snprintf(from, sizeof(from), "%s/new", inside);
	snprintf(to, sizeof(to), "%s/newer", inside);
	must(rename(from, to) == 0 && can_open(to, O_WRONLY | O_TRUNC) && unlink(to) == 0);
}

static void use_other_files(void)
{
	char from[128], to[128];

	must(!can_open("/etc/shadow", O_RDONLY) && errno == EACCES);
	must(!can_open("/etc/passwd", O_RDONLY) && errno == EACCES);
	must(!can_open("/proc/1/environ", O_RDONLY) && errno == EACCES);
	must(!make(outside, "new") && errno == EACCES);
	snprintf(from, sizeof(from), "%s/here", outside);
	must(!can_open(from, O_RDONLY) && !can_open(from, O_WRONLY) && unlink(from) < 0);
	must(make(inside, "a"));
	snprintf(from, sizeof(from), "%s/a", inside);
	snprintf(to, sizeof(to), "%s/a", outside);
	must(rename(from, to) < 0);
	/* What is made there may be written, not read. */
	must(!can_open(from, O_RDONLY) && unlink(from) == 0);
}

static void use_removal(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/here", outside);
	must(!can_open(path, O_RDONLY) && !can_open(path, O_WRONLY) && !make(outside, "b"));
	must(unlink(path) == 0);
}

/* As a snapshot is written: beside the one that it replaces. */
static void use_kept_files(void)
{
	char old[80], new[96], file[96];

	snprintf(old, sizeof(old), "%s/snapshot", inside);
	snprintf(new, sizeof(new), "%s.new", old);
	must(mkdir(old, 0700) == 0 && mkdir(new, 0700) == 0 && make(new, "memory"));
	must(renameat2(AT_FDCWD, old, AT_FDCWD, new, RENAME_EXCHANGE) == 0);
	snprintf(file, sizeof(file), "%s/memory", old);
	must(can_open(file, O_RDWR) && unlink(file) == 0 && rmdir(old) == 0 && rmdir(new) == 0);
	must(!make(outside, "b") && errno == EACCES);
}

static void need_landlock(void)
{
	if (landlock_version() > 0)
		return;
	print_message("skipped: this kernel has no Landlock\n");
	skip();
}

static void test_files(void **state)
{
	const struct sandbox_path paths[] = {{.path = inside, .access = SANDBOX_MAKE},
		{.path = "/nowhere", .access = SANDBOX_READ}};
	const struct sandbox_path kept[] = {{.path = inside, .access = SANDBOX_KEEP}};
	const struct sandbox_path removal[] = {{.path = outside, .access = SANDBOX_REMOVE}};
	struct sandbox_options options = {.files = true, .paths = paths, .path_count = 2};

	(void)state;
	need_landlock();
	assert_true(make(outside, "here"));
	check_allowed(&options, THREAD_MAIN, use_named_files);
	check_allowed(&options, THREAD_MAIN, use_other_files);
	options.paths = kept;
	options.path_count = 1;
	check_allowed(&options, THREAD_MAIN, use_kept_files);
	options.paths = removal;
	check_allowed(&options, THREAD_MAIN, use_removal);
}

/* Nothing of it is left to chance when it was asked for. */
static void test_required(void **state)
{
	const struct sandbox_options options = {.required = true, .files = true};
	const struct child child = run(&options, THREAD_VCPU, use_vcpu);

	(void)state;
	assert_true(WIFEXITED(child.status));
	if (landlock_version() > 0) {
		assert_int_equal(WEXITSTATUS(child.status), 0);
		return;
	}
	assert_int_equal(WEXITSTATUS(child.status), 99);
	assert_non_null(strstr(child.words, "--sandbox on: this kernel has no Landlock"));
}

static uint64_t capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	must(syscall(SYS_capget, &header, data) == 0);
	return (data[0].effective | data[0].permitted | data[0].inheritable) |
	       (uint64_t)(data[1].effective | data[1].permitted | data[1].inheritable) << 32;
}

static void look_at_privileges(void)
{
	const uint64_t few = 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_KILL;
	struct rlimit core;

	must((capabilities() & ~few) == 0);
	must(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	must(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	must(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
	must(privileges_drop_main() == 0 && capabilities() == 0);
	leave(0);
}

/* Before the filters, which would not let it look. */
static void test_privileges(void **state)
{
	const struct sandbox_options options = {.files = false};
	struct error err = {0};
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		must(sandbox_enter(&options, &err) == 0);
		look_at_privileges();
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void look_at_user(void)
{
	must(getuid() == 65533 && geteuid() == 65533 && getgid() == 65532 && getegid() == 65532);
	must(getgroups(0, NULL) == 0);
	must((capabilities() & ~(1ULL << CAP_KILL)) == 0);
	must(setuid(0) < 0);
	leave(0);
}

static void test_another_user(void **state)
{
	const struct sandbox_options options = {
		.files = false, .other_user = true, .user = 65533, .group = 65532};
	struct error err = {0};
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: needs root\n");
		skip();
	}
	pid = fork();
	if (pid == 0) {
		must(sandbox_enter(&options, &err) == 0);
		look_at_user();
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void leave_network(void)
{
	struct stat before, after;
	const uid_t user = geteuid();

	must(stat("/proc/self/ns/net", &before) == 0);
	if (privileges_leave_network() < 0)
		leave(77);
	must(stat("/proc/self/ns/net", &after) == 0 && before.st_ino != after.st_ino);
	must(geteuid() == user);
	leave(0);
}

static void check_network(uid_t user)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		must(user == geteuid() || setuid(user) == 0);
		/* Changing users takes a process's files in /proc away from it. */
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		leave_network();
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("skipped: user %u may make no network namespace here\n", user);
		return;
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_network(void **state)
{
	(void)state;
	check_network(geteuid());
	if (geteuid() == 0)
		check_network(65534);
}

static void *nothing(void *opaque)
{
	return opaque;
}

/* libc prepares for threads when it makes the first, which in duet has no limits yet. */
static int make_first_thread(void)
{
	pthread_t thread;

	return thread_start(&thread, STACK, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0
		       ? 0
		       : -1;
}

static int set_up(void **state)
{
	(void)state;
	if (make_first_thread() < 0)
		return -1;
	if (!mkdtemp(directory))
		return -1;
	snprintf(inside, sizeof(inside), "%s/inside", directory);
	snprintf(outside, sizeof(outside), "%s/outside", directory);
	return mkdir(inside, 0700) | mkdir(outside, 0700);
}

static int tear_down(void **state)
{
	(void)state;
	return rmdir(inside) | rmdir(outside) | rmdir(directory);
}

static void test_nothing(void **state)
{
	(void)state;
	print_message("skipped: the thread sanitizer makes system calls of its own\n");
	skip();
}

int main(void)
{
	const struct CMUnitTest none[] = {cmocka_unit_test(test_nothing)};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden_calls),
		cmocka_unit_test(test_foreign_numbers),
		cmocka_unit_test(test_allowed_calls),
		cmocka_unit_test(test_threads_of_confined_ones),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_required),
		cmocka_unit_test(test_privileges),
		cmocka_unit_test(test_another_user),
		cmocka_unit_test(test_network),
	};

	if (RACES)
		return cmocka_run_group_tests(none, NULL, NULL);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
