/* SPDX-License-Identifier: Apache-2.0 */
#include "guestd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "duet/coop.h"

#define DEVICE "/dev/duet"

static const struct kind {
	const char *name;
	uint32_t wish, function;
	bool (*survey)(const struct answer *answer);
} kinds[] = {
	{"share", DUET_COOP_WISH_SHARE, DUET_COOP_SHARE, share},
	{"locality", DUET_COOP_WISH_LOCALITY, DUET_COOP_LOCALITY, locality},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int usage(void)
{
	fputs("usage: duet-guestd                        answer the host's wishes\n"
	      "       duet-guestd --print share|locality print what it would answer\n",
		stderr);
	return 2;
}

static int print(const char *name)
{
	for (size_t i = 0; i < KINDS; i++) {
		struct answer answer = {.device = -1, .function = kinds[i].function};

		if (strcmp(kinds[i].name, name) == 0)
			return kinds[i].survey(&answer) ? 0 : 1;
	}
	return usage();
}

/* A kind of a later version is no wish of this one's. */
static void fulfil(int device, const struct duet_coop_wish *wish)
{
	for (size_t i = 0; i < KINDS; i++) {
		struct answer answer = {device, kinds[i].function, wish->number};

		if (kinds[i].wish == wish->kind)
			kinds[i].survey(&answer);
	}
}

static int serve(void)
{
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);
	struct duet_coop_wish wish;
	ssize_t length;

	if (device < 0) {
		fprintf(stderr,
			"duet-guestd: " DEVICE ": %s: is the module duet loaded, and this root?\n",
			strerror(errno));
		return 1;
	}
	while ((length = read(device, &wish, sizeof(wish))) == sizeof(wish) || errno == EINTR)
		if (length == sizeof(wish))
			fulfil(device, &wish);
	fprintf(stderr, "duet-guestd: " DEVICE ": %s\n", strerror(errno));
	close(device);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc == 1)
		return serve();
	if (argc == 3 && strcmp(argv[1], "--print") == 0)
		return print(argv[2]);
	return usage();
}
