/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of duet-oci, one file each or for a few of a kind. Main thread. */
#ifndef DUET_OCI_COMMANDS_H
#define DUET_OCI_COMMANDS_H

#include "base/error.h"
#include "oci/bundle.h"
#include "oci/container.h"
#include "oci/settings.h"

#include <getopt.h>

/* Negative: @err has the words. Else the exit status. @argv[0] is the command's name. */
typedef int (*command_run)(struct settings *settings, int argc, char **argv, struct error *err);

int command_create(struct settings *settings, int argc, char **argv, struct error *err);
int command_start(struct settings *settings, int argc, char **argv, struct error *err);
int command_state(struct settings *settings, int argc, char **argv, struct error *err);
int command_kill(struct settings *settings, int argc, char **argv, struct error *err);
int command_delete(struct settings *settings, int argc, char **argv, struct error *err);
int command_exec(struct settings *settings, int argc, char **argv, struct error *err);
int command_ps(struct settings *settings, int argc, char **argv, struct error *err);
int command_events(struct settings *settings, int argc, char **argv, struct error *err);
int command_pause(struct settings *settings, int argc, char **argv, struct error *err);
int command_resume(struct settings *settings, int argc, char **argv, struct error *err);

/* The next option of @options, as getopt_long() has it, -1 behind the last; '?' is said in @err. */
int next_option(int argc, char **argv, const char *letters, const struct option *options,
	struct error *err);
/* The one argument behind the options; null: there is none, or more than @most. */
const char *take_id(int argc, char **argv, int most, struct error *err);

/* The hooks of @kind one after the other, given @state. The first that fails is the error, unless
 * @all: then the others run too. */
int hooks_run(const struct bundle *bundle, enum hook_kind kind, const struct container *container,
	bool all, struct error *err);
/* "KILL", "SIGKILL", "9". -EINVAL. */
int signal_parse(const char *text, struct error *err);
/* A pid file, for an engine that waits for it. */
int write_pid(const char *path, pid_t pid, struct error *err);
/* The container goes, whatever is left of it: its keeper, its network's taps, its cgroup, its
 * folder. The poststop hooks run if @bundle is there. */
int container_destroy(struct container *container, const struct bundle *bundle, struct error *err);

#endif
