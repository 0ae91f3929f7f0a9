/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes in any pieces as the answer to a question: it ends, and what it gives is within what
 * came. */
#include "input.h"

#include "http/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX 2048
#define PIECE_MAX  512

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listening = -1;

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_http_client: %s\n", what);
	abort();
}

static void listen_once(void)
{
	if (listening >= 0)
		return;
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/duet-fuzz-client-%d",
		(int)getpid());
	unlink(address.sun_path);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(bind(listening, (struct sockaddr *)&address, sizeof(address)) == 0 &&
			listen(listening, 1) == 0,
		"no socket");
}

/* 1 while the question waits for more. */
static int look(struct http_question *question)
{
	struct http_answer answer = {0};
	struct error err = {0};
	int ret = http_question_go_on(question, &answer, &err);

	must(ret >= 0 || err.text[0], "no word of what is wrong");
	if (ret == 0)
		must(answer.length <= ANSWER_MAX + PIECE_MAX &&
				strlen(answer.body) <= ANSWER_MAX + 65536 && answer.status < 1000,
			"more than came");
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct http_ask ask = {
		.method = "GET", .path = "/", .answer_max = ANSWER_MAX, .socket = address.sun_path};
	struct input input = {data, size};
	struct http_question *question = NULL;
	uint8_t piece[PIECE_MAX];
	int server, ret;

	listen_once();
	must(http_question_open(&question, &ask, NULL) == 0, "no connection");
	server = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	ret = look(question);
	while (input.left && ret > 0) {
		size_t length = min_u64(input_number(&input, 2) % PIECE_MAX, input.left);

		input_bytes(&input, piece, length);
		must(send(server, piece, length, MSG_NOSIGNAL) == (ssize_t)length, "not sent");
		ret = look(question);
	}
	close(server);
	if (ret > 0)
		must(look(question) <= 0, "waits for one who has gone");
	http_question_close(question);
	return 0;
}
