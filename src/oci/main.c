/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "oci/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define SPECIFICATION "1.0.2"

static const char usage[] =
	"Usage: duet-oci [OPTION]... COMMAND [OPTION]... [ID] [ARGUMENT]...\n"
	"Runs OCI containers, each in a virtual machine of its own.\n"
	"\n"
	"  create --bundle DIR ID   makes the container, whose process waits\n"
	"  start ID                 it runs\n"
	"  state ID                 what it is, as JSON\n"
	"  kill [--all] ID SIGNAL   a signal to its process, or to all of them\n"
	"  delete [--force] ID      what is left of it goes\n"
	"  exec [-t] ID PROGRAM...  another process in it; or --process FILE\n"
	"  ps [--format json] ID    its processes\n"
	"  events [--stats] ID      what it uses, every few seconds or once\n"
	"  pause ID, resume ID      its machine stands still, and goes on\n"
	"\n"
	"  --root DIR        where the state of containers is (default: " SETTINGS_ROOT ")\n"
	"  --cache DIR       disks and initial RAM disks (default: " SETTINGS_CACHE ")\n"
	"  --kernel FILE     the guests' (default: the newest in /boot, a cloud kernel first)\n"
	"  --log FILE        errors go there too\n"
	"  --log-format F    text or json\n"
	"  --help, --version\n"
	"\n"
	"Exit status: 0 done; 1 not, and one line says why; of exec its process's own.\n"
	"\n"
	"Examples\n"
	"  podman --runtime /usr/bin/duet-oci --cgroup-manager cgroupfs run -it debian\n"
	"  duet-oci create --bundle /srv/web web && duet-oci start web\n";

static const struct {
	const char *name;
	command_run run;
} commands[] = {
	{"create", command_create},
	{"start", command_start},
	{"state", command_state},
	{"kill", command_kill},
	{"delete", command_delete},
	{"exec", command_exec},
	{"ps", command_ps},
	{"events", command_events},
	{"pause", command_pause},
	{"resume", command_resume},
};

static const struct option options[] = {
	{"root", required_argument, NULL, 'r'},
	{"cache", required_argument, NULL, 'c'},
	{"kernel", required_argument, NULL, 'k'},
	{"log", required_argument, NULL, 'l'},
	{"log-format", required_argument, NULL, 'f'},
	{"systemd-cgroup", no_argument, NULL, 's'},
	{"rootless", required_argument, NULL, 'n'},
	{"criu", required_argument, NULL, 'n'},
	{"debug", no_argument, NULL, 'n'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{NULL, 0, NULL, 0},
};

struct program {
	struct settings settings;
	const char *log;
	bool json, shown;
};

/* As engines read it from a file of theirs. */
static void write_log(const struct program *program, const char *words)
{
	_cleanup_fclose_ FILE *file = program->log ? fopen(program->log, "ae") : NULL;
	const time_t now = time(NULL);
	char date[32];
	struct tm tm;
	json_t *json;

	if (!file)
		return;
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	if (!program->json) {
		fprintf(file, "time=\"%s\" level=error msg=\"%s\"\n", date, words);
		return;
	}
	json = json_pack("{s:s, s:s, s:s}", "level", "error", "msg", words, "time", date);
	if (json && json_dumpf(json, file, JSON_COMPACT) == 0)
		fputc('\n', file);
	json_decref(json);
}

static int take_option(struct program *program, int option, struct error *err)
{
	switch (option) {
	case 'r':
		program->settings.root = optarg;
		return 0;
	case 'c':
		program->settings.cache = optarg;
		return 0;
	case 'k':
		program->settings.kernel = optarg;
		return 0;
	case 'l':
		program->log = optarg;
		return 0;
	case 'f':
		program->json = strcmp(optarg, "json") == 0;
		return 0;
	case 's':
		return error_set(err, EINVAL,
			"--systemd-cgroup: duet-oci makes cgroups itself; use the engine's "
			"cgroupfs "
			"manager (podman --cgroup-manager cgroupfs)");
	case 'h':
		fputs(usage, stdout);
		program->shown = true;
		return 0;
	case 'v':
		puts("duet-oci version " DUET_VERSION "\nspec: " SPECIFICATION);
		program->shown = true;
		return 0;
	default:
		return option == 'n' ? 0 : -EINVAL;
	}
}

static int run(struct program *program, int argc, char **argv, struct error *err)
{
	int option, ret = 0, first;

	while (ret == 0 && (option = next_option(argc, argv, "+hv", options, err)) != -1)
		ret = take_option(program, option, err);
	if (ret < 0 || program->shown)
		return ret;
	first = optind;
	if (first >= argc)
		return error_set(err, EINVAL, "name a command; see duet-oci --help");
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[first], commands[i].name) == 0) {
			optind = 1;
			return commands[i].run(&program->settings, argc - first, argv + first, err);
		}
	return error_set(err, EINVAL, "%s: unknown command; see duet-oci --help", argv[first]);
}

int main(int argc, char **argv)
{
	struct program program = {.settings = {.root = SETTINGS_ROOT}};
	struct error err = {0};
	int ret;

	log_set_program("duet-oci");
	/* An engine's own descriptors are nobody's business here, nor a machine's. */
	syscall(SYS_close_range, 3U, ~0U, 0U);
	umask(022);
	ret = run(&program, argc, argv, &err);
	if (fflush(stdout) != 0 || ferror(stdout))
		ret = error_set(&err, EIO, "standard output cannot be written");
	if (ret >= 0)
		return ret;
	write_log(&program, err.text);
	log_error("%s", err.text);
	return 1;
}
