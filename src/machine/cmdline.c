/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel command line. */
#include "machine/config.h"

#include "base/checked.h"
#include "x86/cpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * Each word spares the guest a search for hardware that this machine does not have, or tells duet
 * what it could not know. A word is left out when the user gives the same parameter.
 */
static const char *const machine_words[] = {
	/* A panic restarts at once. */
	"panic=-1",
	/* No keyboard controller here has a mouse. */
	"i8042.noaux",
	/* The timer interrupt's routing is known to work. */
	"no_timer_check",
	/* One serial port. */
	"8250.nr_uarts=1",
	/* The cryptographic API would test itself: 870 M instructions for a stock 6.1 kernel, 0.6
	 * of its whole start, most of it for RSA private keys. A guest in FIPS mode tests all the
	 * same. */
	"cryptomgr.notests=1",
};

/* Without a keyboard its controller only resets the machine. */
static const char no_keyboard_word[] = "i8042.nokbd";

/* kvmclock and the TSC are the host's: nothing to watch them with. Not where the TSC may change. */
static const char reliable_word[] = "tsc=reliable";

/*
 * A panic marks itself in the BIOS's warm-start word at 0x472, where duet tells it from a reboot
 * (src/machine/power.c). Always there: Linux takes every reboot= word, so that the user's, behind
 * it, says how to restart and this one what to leave behind.
 */
static const char panic_word[] = "reboot=panic_warm";

bool machine_cmdline_has(const char *cmdline, const char *word)
{
	size_t length = strcspn(word, "=");
	const char *at = cmdline;

	while (at && *at) {
		at += strspn(at, " ");
		if (strncmp(at, word, length) == 0 &&
			(at[length] == '=' || at[length] == ' ' || at[length] == 0))
			return true;
		at += strcspn(at, " ");
	}
	return false;
}

static int append(char *buffer, size_t size, const char *word, struct error *err)
{
	size_t used = strlen(buffer);
	int more = snprintf(buffer + used, size - used, "%s%s", used ? " " : "", word);

	if (more < 0 || (size_t)more >= size - used)
		return error_set(err, E2BIG,
			"--cmdline: longer than the %zu bytes there is room for; shorten it",
			size - 1);
	return 0;
}

/* A kernel with kvmclock never looks at the PM timer, but that it tries it: some 30 exits. One
 * without a deadline timer measures its APIC timer against it. */
static bool spares_pm_timer(const struct machine_config *config, const char *user)
{
	return (config->pv & PV_CLOCK) && config->profile == PROFILE_HOST &&
	       !machine_cmdline_has(user, "no-kvmclock") && !machine_cmdline_has(user, "nopv") &&
	       !machine_cmdline_has(user, "clocksource=") && !machine_cmdline_has(user, "pmtmr=");
}

/* A kernel that does not use kvmclock, or does not know it, is told the frequency of its TSC: what
 * it could measure it against (PIT, HPET) is not there, or but the PM timer. Said always, for what
 * a kernel knows cannot be seen from here; to kvmclock it is nothing new. */
static int append_tsc(const struct machine_config *config, const char *user, unsigned tsc_khz,
	char *buffer, size_t size, struct error *err)
{
	char word[32];
	bool told = tsc_khz && config->profile == PROFILE_HOST;
	int ret = 0;

	if (config->profile == PROFILE_HOST && !machine_cmdline_has(user, reliable_word))
		ret = append(buffer, size, reliable_word, err);
	snprintf(word, sizeof(word), "tsc_early_khz=%u", tsc_khz);
	if (ret == 0 && told && !machine_cmdline_has(user, word))
		ret = append(buffer, size, word, err);
	if (ret == 0 && tsc_khz && spares_pm_timer(config, user))
		ret = append(buffer, size, "pmtmr=0", err);
	return ret;
}

int machine_cmdline(const struct machine_config *config, unsigned tsc_khz, char *buffer,
	size_t size, struct error *err)
{
	const char *user = config->cmdline ? config->cmdline : "";
	int ret = 0;

	buffer[0] = 0;
	if (!machine_cmdline_has(user, "console=")) {
		ret = append(buffer, size, "console=ttyS0", err);
		if (ret == 0 && config->console == CONSOLE_VIRTIO)
			ret = append(buffer, size, "console=hvc0", err);
	}
	if (ret == 0)
		ret = append(buffer, size, panic_word, err);
	for (unsigned i = 0; ret == 0 && i < ARRAY_SIZE(machine_words); i++) {
		if (!machine_cmdline_has(user, machine_words[i]))
			ret = append(buffer, size, machine_words[i], err);
	}
	if (ret == 0 && !config->keyboard && !machine_cmdline_has(user, no_keyboard_word))
		ret = append(buffer, size, no_keyboard_word, err);
	if (ret == 0)
		ret = append_tsc(config, user, tsc_khz, buffer, size, err);
	if (ret == 0 && *user)
		ret = append(buffer, size, user, err);
	return ret;
}
