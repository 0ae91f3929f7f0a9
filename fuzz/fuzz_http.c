/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes in any pieces on some connections of the API's HTTP server. What is handed over is what
 * was allowed; answers come at once, later, after the client has gone, or never, before the server
 * ends.
 */
#include "input.h"

#include "http/private.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY_MAX 600
#define CLIENTS  12
#define WAITING  64
/* Turns in which there is always more to do: it would spin. */
#define TURNS_MOST 10000

static struct {
	struct loop *loop;
	struct http_server *server;
	int clients[CLIENTS];
	struct exchange *waiting[WAITING];
	unsigned waiting_count;
	unsigned kind;
} fuzz;

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_http: %s\n", what);
	abort();
}

static void take(void *opaque, const struct request *request, struct exchange *exchange)
{
	must(request->length <= BODY_MAX, "a body that is too large");
	must(request->body[request->length] == 0, "a body without its end");
	must(request->method[0] != 0 && !strchr(request->path, '?'), "no method, or a query");
	if (fuzz.kind++ & 1 || fuzz.waiting_count == WAITING)
		exchange->answer(exchange, 200, EXCHANGE_JSON, strdup("{}"));
	else
		fuzz.waiting[fuzz.waiting_count++] = exchange;
}

static void turn_all(void)
{
	unsigned turns = 0;

	while (http_server_turn(fuzz.server))
		must(++turns < TURNS_MOST, "never done");
	must(fuzz.server->count <= HTTP_CONNECTIONS, "too many connections");
}

static void leave(int *client)
{
	if (*client >= 0)
		close(*client);
	*client = -1;
}

static void join(int *client)
{
	int pair[2];

	leave(client);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0,
		"no sockets");
	*client = pair[0];
	http_server_adopt(fuzz.server, pair[1]);
}

static void say(int *client, struct input *input)
{
	uint8_t text[1024];
	size_t length = min_u64(input_number(input, 2) % sizeof(text), input->left);

	if (*client < 0)
		join(client);
	input_bytes(input, text, length);
	if (send(*client, text, length, MSG_NOSIGNAL) < 0)
		leave(client);
}

static void answer_one(void)
{
	struct exchange *exchange;

	if (!fuzz.waiting_count)
		return;
	exchange = fuzz.waiting[--fuzz.waiting_count];
	exchange->answer(exchange, 204, EXCHANGE_JSON, NULL);
}

static void step(struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);
	int *client = &fuzz.clients[(what >> 3) % CLIENTS];

	switch (what & 7) {
	case 0:
		join(client);
		break;
	case 1:
		leave(client);
		break;
	case 2:
		answer_one();
		break;
	case 3:
		turn_all();
		break;
	default:
		say(client, input);
	}
}

static void open_server(void)
{
	char path[64];
	const struct http_options options = {.option = "--api-sock",
		.name = "test",
		.path = path,
		.body_max = BODY_MAX,
		.request = take};

	snprintf(path, sizeof(path), "/tmp/duet-fuzz-http-%d", (int)getpid());
	unlink(path);
	must(http_server_open(&fuzz.server, fuzz.loop, &options, NULL) == 0, "no server");
	for (unsigned i = 0; i < CLIENTS; i++)
		fuzz.clients[i] = -1;
}

static void stop(struct loop_timer *timer)
{
	loop_stop(fuzz.loop);
}

/* The loop gives back what it holds of the server. */
static void settle(void)
{
	struct loop_timer timer = {.expired = stop};

	loop_timer_after(fuzz.loop, &timer, 0);
	must(loop_run(fuzz.loop) == 0, "the loop failed");
	loop_free(fuzz.loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	must(loop_new(&fuzz.loop, 16, NULL) == 0, "no loop");
	open_server();
	fuzz.kind = 0;
	while (input.left)
		step(&input);
	turn_all();
	for (unsigned i = 0; i < CLIENTS; i++)
		leave(&fuzz.clients[i]);
	if (size & 1)
		turn_all();
	http_server_close(fuzz.server);
	while (fuzz.waiting_count)
		answer_one();
	settle();
	return 0;
}
