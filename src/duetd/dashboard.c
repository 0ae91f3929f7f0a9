/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "duetd/dashboard_private.h"
#include "http/address.h"
#include "http/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SECRET_BYTES (DASHBOARD_SECRET / 2)

struct dashboard {
	struct http_server *server;
	struct asking *asking;
	char host[64]; /* "127.0.0.1:8478" */
	char secret[DASHBOARD_SECRET + 1];
	char url[160];
};

/* A browser runs what the page has in it, and nothing else; keeps nothing, and tells nobody the
 * address, which holds the secret. */
static const char *const headers[] = {
	"Content-Security-Policy",
	dashboard_policy,
	"X-Content-Type-Options",
	"nosniff",
	"Referrer-Policy",
	"no-referrer",
	"Cache-Control",
	"no-store",
	"Cross-Origin-Resource-Policy",
	"same-origin",
	"Cross-Origin-Opener-Policy",
	"same-origin",
	NULL,
};

static const char *const passed_on[] = {"/vms", "/host", "/decisions"};

/* Takes as long wherever the difference is. */
static bool same_secret(const char *path, const char *secret)
{
	unsigned differs = 0;

	if (strnlen(path, DASHBOARD_SECRET) < DASHBOARD_SECRET)
		return false;
	for (unsigned i = 0; i < DASHBOARD_SECRET; i++)
		differs |= (unsigned char)path[i] ^ (unsigned char)secret[i];
	return differs == 0;
}

/* "localhost" and its port may be said, too. */
static bool is_our_host(const struct dashboard *dashboard, const char *host)
{
	const char *port = strrchr(dashboard->host, ':');

	return host && (strcmp(host, dashboard->host) == 0 ||
			       (strncmp(host, "localhost", 9) == 0 && strcmp(host + 9, port) == 0));
}

static void answer_page(struct exchange *exchange)
{
	char *page = strdup(dashboard_page);

	exchange->answer(exchange, page ? 200 : 500, "text/html; charset=utf-8", page);
}

static void answer_path(struct dashboard *dashboard, const char *path, struct exchange *exchange)
{
	if (strcmp(path, "/") == 0) {
		answer_page(exchange);
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(passed_on); i++) {
		if (strcmp(path, passed_on[i]) == 0) {
			asking_pass(dashboard->asking, passed_on[i], exchange);
			return;
		}
	}
	asking_refuse(exchange, 404, "no such page");
}

static void handle(void *opaque, const struct request *request, struct exchange *exchange)
{
	struct dashboard *dashboard = opaque;

	if (!is_our_host(dashboard, request->host))
		asking_refuse(exchange, 421, "asked by another name than its own");
	else if (request->path[0] != '/' || !same_secret(request->path + 1, dashboard->secret))
		asking_refuse(exchange, 404,
			"the address has a secret in it; duetd dashboard has printed it");
	else if (strcmp(request->method, "GET") != 0)
		asking_refuse(exchange, 405, "it is there to be looked at: GET alone");
	else
		answer_path(dashboard, request->path + 1 + DASHBOARD_SECRET, exchange);
}

static int make_secret(struct dashboard *dashboard, struct error *err)
{
	unsigned char bytes[SECRET_BYTES];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return error_errno(err, errno, "a random secret");
	for (unsigned i = 0; i < SECRET_BYTES; i++)
		snprintf(dashboard->secret + i * 2UL, 3, "%02x", bytes[i]);
	return 0;
}

static int open_server(
	struct dashboard *dashboard, struct loop *loop, const char *address, struct error *err)
{
	const struct http_options options = {.option = "--listen",
		.name = "duetd dashboard",
		.address = address,
		.headers = headers,
		.body_max = 1024,
		.patience_ms = 15000,
		.request = handle,
		.opaque = dashboard};
	int ret = http_server_open(&dashboard->server, loop, &options, err);

	if (ret == 0)
		ret = http_address_of(http_server_fd(dashboard->server), dashboard->host,
			sizeof(dashboard->host), err);
	return ret;
}

int dashboard_open(struct dashboard **out, struct loop *loop,
	const struct dashboard_options *options, struct error *err)
{
	struct dashboard *dashboard = calloc(1, sizeof(*dashboard));
	int ret;

	if (dashboard)
		dashboard->asking = asking_new(loop, options->socket);
	if (!dashboard || !dashboard->asking) {
		free(dashboard);
		return error_errno(err, ENOMEM, "--listen %s", options->address);
	}
	ret = make_secret(dashboard, err);
	if (ret == 0)
		ret = open_server(dashboard, loop, options->address, err);
	if (ret < 0) {
		dashboard_close(dashboard);
		return ret;
	}
	snprintf(dashboard->url, sizeof(dashboard->url), "http://%s/%s/", dashboard->host,
		dashboard->secret);
	*out = dashboard;
	return 0;
}

const char *dashboard_url(const struct dashboard *dashboard)
{
	return dashboard->url;
}

void dashboard_close(struct dashboard *dashboard)
{
	if (!dashboard)
		return;
	http_server_close(dashboard->server);
	asking_free(dashboard->asking);
	free(dashboard);
}
