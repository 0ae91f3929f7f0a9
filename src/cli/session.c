/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/session.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/leftover.h"
#include "base/log.h"
#include "cli/footprint.h"
#include "cli/report.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* #syscalls main: ioctl(TIOCGWINSZ) */

/* Operations between two waits of the loop: signals, the terminal. */
#define LOOP_ENTRIES 16

/* From a signal, while a machine that has ended is taken down, to the end of the process. */
#define GRACE_MS 700
/* And without one, after it was ended at once. */
#define HURRY_MS 500
/* From when it is told to end at once to the end of the process, should the main thread not come so
 * far: what a machine takes whose storage does not let go, and its last words. */
#define KILL_MS 900
/* From the second, while the main thread waits for storage: where that only takes its time, the
 * machine ends as it should. */
#define WAIT_MS 300

static const int exit_statuses[] = {
	[MACHINE_POWERED_OFF] = 0,
	[MACHINE_RESET] = 0,
	[MACHINE_PANICKED] = 3,
	[MACHINE_TRIPLE_FAULT] = 3,
	[MACHINE_KILLED] = 4,
	[MACHINE_FAILED] = 1,
	[MACHINE_MOVED] = 0,
};

static void changed(void *opaque, enum machine_state state)
{
	struct session *session = opaque;

	if (state != MACHINE_ENDED)
		return;
	if (session->killed)
		log_info("the machine has ended, %u ms after it was told to end at once",
			(unsigned)((clock_ns() - session->killed) / MS_NS));
	loop_stop(session->loop);
}

/* Without one, it goes on and ends all the same unless something hangs. */
static void keep_vigil(struct session *session, const struct vigil_terms *terms)
{
	struct error err = {0};

	if (vigil_begin(&session->vigil, terms, &err) < 0)
		log_warning("%s", err.text);
}

/* From here to the end of the loop: the main thread may come to wait for whoever waits for a page
 * of the guest's, or for storage. */
static void watch_its_ending(struct session *session, int status)
{
	const struct vigil_terms terms = {.grace = KILL_MS,
		.limit = KILL_MS,
		.status = status,
		.meanwhile = "while it waited to end at once"};

	if (session->ending)
		return;
	session->ending = true;
	keep_vigil(session, &terms);
}

static void end_at_once(struct session *session, const char *why)
{
	if (!session->killed)
		session->killed = clock_ns();
	watch_its_ending(session, session->at_once ? -1 : exit_statuses[MACHINE_KILLED]);
	machine_kill(session->machine, why);
}

void session_starve(struct session *session, const char *why)
{
	watch_its_ending(session, exit_statuses[MACHINE_FAILED]);
	machine_starve(session->machine, why);
}

static void room(void *opaque)
{
	struct session *session = opaque;

	if (session->typing)
		terminal_pump(&session->terminal);
}

static size_t typed(void *opaque, const void *bytes, size_t length)
{
	const struct session *session = opaque;

	return machine_type(session->machine, bytes, length);
}

static void end_typed(void *opaque)
{
	end_at_once(opaque, "ended by Ctrl-A x");
}

static const struct terminal_events terminal_events = {.typed = typed, .end = end_typed};

/* The first asks the guest to power off, the second ends it. */
static void ask_to_end(struct session *session, int number)
{
	session->ended_by = number;
	if (!session->machine)
		loop_stop(session->loop);
	else if (session->at_once)
		end_at_once(session, "ended by a signal");
	else if (session->asked_to_end++ > 0)
		end_at_once(session, "ended by a second signal");
	else if (machine_press_power(session->machine))
		log_info("asked the guest to power off; a second signal ends it at once");
	else
		log_warning("the guest does not listen to its power button (yet); a second signal "
			    "ends it at once");
}

/* The terminal that shows the console, or else the one that is typed at. */
static bool terminal_size(struct winsize *size)
{
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, size) == 0 ||
	       ioctl(STDIN_FILENO, TIOCGWINSZ, size) == 0;
}

/* A terminal of 0 by 0 does not know its size. */
static void resize_console(struct session *session)
{
	struct winsize size;

	if (session->machine && terminal_size(&size) && size.ws_col && size.ws_row)
		machine_resize_console(session->machine, size.ws_col, size.ws_row);
}

static void write_report(struct session *session)
{
	const char *path = session->machine ? machine_config(session->machine)->stats : NULL;
	struct error err = {0};

	if (!path)
		return;
	if (report_write(session->machine, session->maps, path, &err) < 0)
		log_error("%s", err.text);
	/* The writer of JSON is not needed again soon. */
	footprint_trim();
}

void session_waits(struct session *session, bool begins)
{
	const struct vigil_terms terms = {.spares = !session->at_once && !session->asked_to_end,
		.grace = WAIT_MS,
		.limit = -1,
		.status = session->at_once ? -1 : exit_statuses[MACHINE_KILLED],
		.meanwhile = "while its storage did not answer"};

	if (begins)
		keep_vigil(session, &terms);
	else
		session_listens(session);
}

static void its_machine_waits(void *opaque, bool begins)
{
	session_waits(opaque, begins);
}

static void take_signal(void *opaque, int number)
{
	struct session *session = opaque;

	switch (number) {
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
		ask_to_end(session, number);
		break;
	case SIGUSR1:
		session_waits(session, true);
		write_report(session);
		session_waits(session, false);
		break;
	case SIGWINCH:
		resize_console(session);
		break;
	case SIGCONT:
		if (session->machine)
			machine_continued(session->machine);
		terminal_resume(&session->terminal);
		break;
	default:
		break;
	}
}

int session_busy(struct session *session, bool spare, struct error *err)
{
	const struct vigil_terms terms = {
		.spares = spare, .limit = -1, .status = -1, .meanwhile = "before the machine ran"};

	return vigil_begin(&session->vigil, &terms, err);
}

void session_listens(struct session *session)
{
	const bool kept = session->vigil.kept;
	int spared;

	/* That one is kept until the loop has ended. */
	if (session->ending)
		return;
	spared = vigil_end(&session->vigil);
	if (spared)
		ask_to_end(session, spared);
	/* Its grace was not over. */
	if (kept && session->vigil.number)
		ask_to_end(session, session->vigil.number);
}

int session_open(struct session *session, struct error *err)
{
	int ret;

	*session = (struct session){
		.signals.fd = -1, .maps = footprint_open(), .output = STDOUT_FILENO};
	ret = session_busy(session, false, err);
	return ret < 0 ? ret : loop_new(&session->loop, LOOP_ENTRIES, err);
}

int session_machine(struct session *session, const struct machine_config *config, struct error *err)
{
	const struct machine_owner owner = {.loop = session->loop,
		.output = session->output,
		.changed = changed,
		.room = room,
		.waits = its_machine_waits,
		.opaque = session};

	return machine_new(&session->machine, config, &owner, err);
}

int session_go(struct session *session, struct error *err)
{
	int ret = 0, spared;

	/* The kernel gives a name space of users only to a process of one thread. */
	spared = vigil_end(&session->vigil);
	if (session->confine.choice != CONFINE_OFF)
		ret = confine_process(&session->confine, machine_config(session->machine), err);
	if (ret < 0)
		return ret;
	/* Each change from here on comes as a signal. */
	resize_console(session);
	ret = machine_start(session->machine, err);
	if (ret < 0)
		return ret;
	log_set_patience(0);
	session->typing = true;
	terminal_start(&session->terminal, session->loop, STDIN_FILENO, &terminal_events, session);
	if (spared)
		ask_to_end(session, spared);
	return 0;
}

void session_settle(struct session *session)
{
	confine_main_thread(&session->confine);
	/* Last: what is called behind it brings pages back, and 64 KiB around each. */
	footprint_trim();
}

int session_start(struct session *session, struct error *err)
{
	int ret = session_go(session, err);

	if (ret == 0)
		session_settle(session);
	return ret;
}

void session_forget(struct session *session)
{
	machine_free(session->machine);
	session->machine = NULL;
}

static void end_terminal(struct session *session)
{
	log_set_patience(SESSION_LOG_PATIENCE_MS);
	if (session->typing)
		terminal_stop(&session->terminal);
	session->typing = false;
}

/* The machine has ended; so does the process, however long files and threads take to close. */
static void watch_the_end(struct session *session, int limit)
{
	/* The loop may have failed, or whoever embeds a session has stopped it: no end to tell of.
	 */
	const bool ended = session->machine && machine_state(session->machine) == MACHINE_ENDED;
	const bool by_signal = session->at_once || !ended;
	const char *why;
	const struct vigil_terms terms = {.grace = GRACE_MS,
		.limit = limit,
		.status = by_signal ? -1 : exit_statuses[machine_outcome(session->machine, &why)],
		.meanwhile = "after the machine had ended"};

	if (session->ending)
		vigil_end(&session->vigil);
	session->ending = false;
	keep_vigil(session, &terms);
}

int session_run(struct session *session, struct error *err)
{
	int ret = signals_watch(&session->signals, session->loop, take_signal, session, err);

	if (ret == 0 && session->machine && !session->typing)
		ret = session_start(session, err);
	if (ret < 0)
		return ret;
	session_listens(session);
	ret = loop_run(session->loop);
	end_terminal(session);
	signals_unwatch(&session->signals);
	watch_the_end(session, session->killed || session->ending ? HURRY_MS : -1);
	return ret < 0 ? error_errno(err, -ret, "main loop: io_uring") : 0;
}

int session_status(const struct session *session, struct error *err)
{
	const char *why;
	enum machine_end end = machine_outcome(session->machine, &why);

	if (exit_statuses[end] != 0)
		error_set(err, ECANCELED, "%s", why);
	return exit_statuses[end];
}

/* One that is stuck, or whose loop has failed under it. */
static bool threads_go_on(const struct machine *machine)
{
	return machine_is_stuck(machine) || machine_state(machine) == MACHINE_RUNNING;
}

void session_close(struct session *session)
{
	const bool stuck = session->machine && threads_go_on(session->machine);

	signals_unwatch(&session->signals);
	watch_the_end(session, session->killed ? HURRY_MS : -1);
	machine_free(session->machine);
	if (session->maps >= 0)
		close(session->maps);
	/* A stuck machine may still post to it. */
	if (!stuck)
		loop_free(session->loop);
	else
		leftover_remove_all();
	vigil_end(&session->vigil);
}
