/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/log.h"
#include "machine/footprint.h"
#include "machine/internal.h"
#include "virtio/devices.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

void machine_ask_to_end(struct machine *machine)
{
	if (machine->asked_to_end++ > 0) {
		machine_end(machine, MACHINE_KILLED, "ended by a second signal");
		return;
	}
	if (acpi_pm_power_button(machine->pm))
		log_info("asked the guest to power off; a second signal ends it at once");
	else
		log_warning("the guest does not listen to its power button (yet); a second signal "
			    "ends it at once");
}

static void resize_console(struct machine *machine)
{
	struct winsize size;

	if (machine->console && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		virtio_console_resize(machine->console, size.ws_col, size.ws_row);
}

static void write_stats(struct machine *machine)
{
	struct error err = {0};

	if (!machine->config.stats)
		return;
	if (machine_write_stats(machine, &err) < 0)
		log_error("%s", err.text);
	/* The writer of JSON is not needed again soon. */
	footprint_trim();
}

static void take_signal(struct machine *machine, uint32_t number)
{
	switch (number) {
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
		machine_ask_to_end(machine);
		break;
	case SIGUSR1:
		write_stats(machine);
		break;
	case SIGWINCH:
		resize_console(machine);
		break;
	case SIGCONT:
		terminal_resume(&machine->terminal);
		break;
	default:
		break;
	}
}

static void signalled(struct loop_watch *watch, uint32_t events)
{
	struct machine *machine = container_of(watch, struct machine, signals);
	struct signalfd_siginfo info;

	(void)events;
	while (read(machine->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		take_signal(machine, info.ssi_signo);
}

void machine_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGWINCH);
	sigaddset(set, SIGCONT);
}

int machine_watch_signals(struct machine *machine, struct error *err)
{
	sigset_t set;

	machine_signals(&set);
	machine->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (machine->signal_fd < 0)
		return error_errno(err, errno, "signals");
	loop_watch(machine->main, &machine->signals, machine->signal_fd, POLLIN, signalled);
	return 0;
}

void machine_unwatch_signals(struct machine *machine)
{
	if (machine->signal_fd < 0)
		return;
	loop_unwatch(&machine->signals, NULL);
	close(machine->signal_fd);
	machine->signal_fd = -1;
}
