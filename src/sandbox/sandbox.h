/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process gives up before its guest runs, so that a guest that breaks into it has little to
 * gain: new privileges, capabilities, files that nobody named (Landlock), the network and other
 * programs' abstract sockets, and on each thread all system calls but those that this kind of
 * thread needs. These stand in `#syscalls` comments beside the code that makes them
 * (sandbox/syscalls.py has their grammar), of which the filters are made at build time.
 *
 * Main thread. Nothing of it can be taken back.
 */
#ifndef DUET_SANDBOX_SANDBOX_H
#define DUET_SANDBOX_SANDBOX_H

#include "base/error.h"

#include <stdbool.h>

/* How a process ends that made a call which its thread may not: as Firecracker's. */
#define SANDBOX_EXIT_STATUS 148

enum sandbox_access {
	SANDBOX_READ = 1,   /* the file, or what is below the directory */
	SANDBOX_WRITE = 2,  /* likewise */
	SANDBOX_MAKE = 4,   /* files in the directory or below: made, renamed and removed */
	SANDBOX_REMOVE = 8, /* likewise: removed alone */
	SANDBOX_KEEP = 16,  /* whatever is done with files and directories, there or below */
};

struct sandbox_path {
	const char *path; /* one that is not there is left out */
	unsigned access;  /* of enum sandbox_access */
};

struct sandbox_options {
	bool required; /* what this host lacks is an error; else it is told (info) and left out */
	bool files;    /* @paths are all that is opened from now on; else any that the user may */
	const struct sandbox_path *paths;
	unsigned path_count;
	bool calls; /* TCP, to other hosts; the main thread is a THREAD_CALLER then */
	/* Who the process becomes; root's right alone. Of its own right it opens what it has left
	 * to open, then. */
	bool other_user;
	unsigned user, group;
	bool schedules; /* threads change others' scheduling: CAP_SYS_NICE stays, if there */
	bool counts;    /* threads open counters: CAP_PERFMON stays, if there */
};

/*
 * While the process has this thread alone: those that it makes later have given up the same. The
 * filters of system calls come with thread_confine() (base/thread.h), this thread's too. Open
 * descriptors stay as they are. -ENOTSUP with the remedy: the host lacks something and it is
 * required.
 */
int sandbox_enter(const struct sandbox_options *options, struct error *err);

#endif
