/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request and its answer. libmicrohttpd calls http_call_handle() once for the head, once for each
 * piece of the body and once at the end, where the connection is suspended unless the answer is
 * there already, and once more when it has been resumed.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "http/private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A body that is too large is read to its end up to this many times the limit: who sends it before
 * he reads would otherwise find the connection closed, and not learn why. */
#define SWALLOW 16

struct http_call {
	struct exchange exchange;
	struct http_client *client; /* null: gone, or its server is */
	char *body;
	size_t room;
	uint64_t length; /* of the body; of all that came when that was too much */
	bool handed, inside, answered;
	bool last; /* the connection is closed with its answer */
	unsigned status;
	const char *type;
	char *answer;
};

static void call_free(struct http_call *call)
{
	free(call->body);
	free(call->answer);
	free(call);
}

static void answer(struct exchange *exchange, unsigned status, const char *type, char *body)
{
	struct http_call *call = container_of(exchange, struct http_call, exchange);

	call->answered = true;
	call->status = status;
	call->type = type;
	call->answer = body;
	if (!call->client) {
		call_free(call);
		return;
	}
	if (call->inside)
		return;
	MHD_resume_connection(call->client->connection);
	http_server_post(call->client->server);
}

/* Pairs of a name and a value. */
static enum MHD_Result add_headers(struct MHD_Response *response, const char *const *headers)
{
	enum MHD_Result ret = MHD_YES;

	for (; headers && headers[0] && ret == MHD_YES; headers += 2)
		ret = MHD_add_response_header(response, headers[0], headers[1]);
	return ret;
}

static enum MHD_Result queue_answer(struct http_call *call, struct MHD_Connection *connection)
{
	size_t length = call->answer ? strlen(call->answer) : 0;
	struct MHD_Response *response = MHD_create_response_from_buffer(
		length, call->answer, length ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	enum MHD_Result ret;

	if (!response)
		return MHD_NO;
	if (length)
		call->answer = NULL;
	ret = MHD_add_response_header(
		response, MHD_HTTP_HEADER_SERVER, http_client_of(connection)->server->options.name);
	if (ret == MHD_YES && length)
		ret = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, call->type);
	if (ret == MHD_YES && call->last)
		ret = MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	if (ret == MHD_YES)
		ret = add_headers(response, http_client_of(connection)->server->options.headers);
	if (ret == MHD_YES)
		ret = MHD_queue_response(connection, call->status, response);
	MHD_destroy_response(response);
	http_client_wait(http_client_of(connection));
	return ret;
}

/* In the words of Firecracker's server, whose clients look for them. */
__attribute__((format(printf, 2, 3))) static enum MHD_Result refuse(
	struct http_call *call, const char *format, ...)
{
	_cleanup_free_ char *why = NULL;
	va_list list;
	int ret;

	call->answered = true;
	call->status = MHD_HTTP_BAD_REQUEST;
	call->type = EXCHANGE_JSON;
	va_start(list, format);
	ret = vasprintf(&why, format, list);
	va_end(list);
	if (ret < 0)
		why = NULL;
	else if (asprintf(&call->answer,
			 "{ \"error\": \"%s\\n"
			 "All previous unanswered requests will be dropped.\" }",
			 why) >= 0)
		return MHD_YES;
	call->answer = NULL;
	return MHD_NO;
}

static enum MHD_Result refuse_size(struct http_call *call, uint64_t size, size_t limit)
{
	return refuse(call,
		"Request payload with size %" PRIu64
		" is larger than the limit of %zu allowed by server.",
		size, limit);
}

struct framing {
	unsigned lengths, encodings;
	bool unknown; /* an encoding that is not "chunked" */
};

static enum MHD_Result look_at(
	void *opaque, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct framing *framing = opaque;

	framing->lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
	if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
		framing->encodings++;
		framing->unknown |= !value || strcasecmp(value, "chunked") != 0;
	}
	return MHD_YES;
}

/* Why nobody can say where the body ends; null: it is clear. The library takes the first word of
 * several, and waits for ever for the end of an encoding that it does not know. */
static const char *unsound(struct MHD_Connection *connection)
{
	struct framing framing = {0};

	MHD_get_connection_values(connection, MHD_HEADER_KIND, look_at, &framing);
	if (framing.lengths > 1)
		return "Content-Length more than once";
	if (framing.encodings > 1)
		return "Transfer-Encoding more than once";
	if (framing.lengths && framing.encodings)
		return "Transfer-Encoding beside Content-Length";
	return framing.unknown ? "Unsupported value. Key:Transfer-Encoding" : NULL;
}

/* What the head says; 0: nothing, as with a body in chunks. */
static uint64_t announced(struct MHD_Connection *connection)
{
	const char *text = MHD_lookup_connection_value(
		connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return text ? strtoull(text, NULL, 10) : 0;
}

/* Answered now: before its body when nobody would wait for that, or when it asks. */
static bool refused_early(struct MHD_Connection *connection, uint64_t size, size_t limit)
{
	return size > limit &&
	       (size / SWALLOW > limit || MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
						  MHD_HTTP_HEADER_EXPECT));
}

static enum MHD_Result begin(
	struct http_server *server, struct MHD_Connection *connection, void **out)
{
	struct http_call *call = calloc(1, sizeof(*call));
	uint64_t size = announced(connection);
	const char *why = unsound(connection);

	if (!call)
		return MHD_NO;
	call->exchange.answer = answer;
	call->client = http_client_of(connection);
	*out = call;
	if (why) {
		call->last = true;
		return refuse(call, "Invalid header. Reason: %s", why) == MHD_YES
			       ? queue_answer(call, connection)
			       : MHD_NO;
	}
	if (!refused_early(connection, size, server->options.body_max))
		return MHD_YES;
	if (refuse_size(call, size, server->options.body_max) == MHD_NO)
		return MHD_NO;
	return queue_answer(call, connection);
}

/* As it comes, not as it is announced: memory is for bytes that were sent. One byte more for the
 * null at the end. */
static bool make_room(struct http_call *call, size_t needed)
{
	size_t room = call->room ? call->room : 512;
	char *body;

	if (needed < call->room)
		return true;
	while (room <= needed)
		room *= 2;
	body = realloc(call->body, room);
	if (!body)
		return false;
	call->body = body;
	call->room = room;
	return true;
}

static enum MHD_Result collect(struct http_call *call, const char *data, size_t size, size_t limit)
{
	uint64_t before = call->length;

	call->length += size;
	if (call->length > limit)
		return call->length / SWALLOW > limit ? MHD_NO : MHD_YES;
	if (!make_room(call, call->length))
		return MHD_NO;
	memcpy(call->body + before, data, size);
	call->body[call->length] = 0;
	return MHD_YES;
}

static void hand_over(
	struct http_call *call, struct http_server *server, const char *url, const char *method)
{
	const struct request request = {.method = method,
		.path = url,
		.host = MHD_lookup_connection_value(
			call->client->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST),
		.body = call->body ? call->body : "",
		.length = call->length};

	call->handed = call->inside = true;
	loop_timer_stop(&call->client->patience);
	server->options.request(server->options.opaque, &request, &call->exchange);
	call->inside = false;
	free(call->body);
	call->body = NULL;
}

static enum MHD_Result finish(struct http_call *call, struct http_server *server,
	struct MHD_Connection *connection, const char *url, const char *method)
{
	if (!call->handed && call->length <= server->options.body_max)
		hand_over(call, server, url, method);
	else if (!call->handed &&
		 refuse_size(call, call->length, server->options.body_max) == MHD_NO)
		return MHD_NO;
	if (call->answered)
		return queue_answer(call, connection);
	MHD_suspend_connection(connection);
	return MHD_YES;
}

enum MHD_Result http_call_handle(void *opaque, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **context)
{
	struct http_server *server = opaque;
	struct http_call *call = *context;
	size_t taken = *size;

	if (!call)
		return begin(server, connection, context);
	if (!taken)
		return finish(call, server, connection, url, method);
	*size = 0;
	return collect(call, data, taken, server->options.body_max);
}

void http_call_completed(void *opaque, struct MHD_Connection *connection, void **context,
	enum MHD_RequestTerminationCode how)
{
	struct http_call *call = *context;

	http_client_wait(http_client_of(connection));
	*context = NULL;
	if (!call)
		return;
	/* Whoever is to answer holds it yet. */
	if (call->handed && !call->answered)
		call->client = NULL;
	else
		call_free(call);
}

void http_call_release(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_SUSPENDED);

	if (info && info->suspended == MHD_YES)
		MHD_resume_connection(connection);
}
