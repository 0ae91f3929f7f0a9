/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mtls.h"

#include "migrate/channel.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * What OpenSSL does on its way.
 * #syscalls main: access openat newfstatat fstat read lseek write getrandom getuid geteuid getgid getegid
 * #syscalls main: uname sysinfo
 * What it has read before stays.
 * #syscalls arrive: read write getrandom getuid geteuid getgid getegid
 */

struct mtls {
	SSL_CTX *context;
};

/* What OpenSSL says, which is the last word of its queue. */
static int wrong(struct error *err, const char *what, const char *name)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return error_set(err, EPROTO, "%s%s%s: %s", what, *name ? " " : "", name,
		reason ? reason : "refused");
}

/* OpenSSL has no words for a file that it cannot open. */
static int check_there(const char *what, const char *name, struct error *err)
{
	struct stat status;

	errno = 0;
	/* A FIFO would be waited for. */
	if (access(name, R_OK) == 0 && stat(name, &status) == 0 && S_ISREG(status.st_mode))
		return 0;
	return error_set(err, errno ? errno : EINVAL,
		"%s %s: %s; name a file in PEM that may be read", what, name,
		errno ? strerror(errno) : "no regular file");
}

static int load(SSL_CTX *context, const struct mtls_files *files, struct error *err)
{
	STACK_OF(X509_NAME) * names;

	if (check_there("--cert", files->cert, err) < 0 ||
		check_there("--key", files->key, err) < 0 ||
		check_there("--ca", files->ca, err) < 0)
		return -ENOENT;
	if (SSL_CTX_use_certificate_chain_file(context, files->cert) != 1)
		return wrong(err, "--cert", files->cert);
	if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1 ||
		SSL_CTX_check_private_key(context) != 1)
		return wrong(err, "--key", files->key);
	if (SSL_CTX_load_verify_locations(context, files->ca, NULL) != 1)
		return wrong(err, "--ca", files->ca);
	names = SSL_load_client_CA_file(files->ca);
	if (!names)
		return wrong(err, "--ca", files->ca);
	SSL_CTX_set_client_CA_list(context, names);
	return 0;
}

/* Nothing that a peer may choose: one version, a certificate of each side, no session that goes on
 * later. */
static void restrict_to(SSL_CTX *context)
{
	SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(
		context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

int mtls_check(const struct mtls_files *files, const char *what, struct error *err)
{
	if (files->cert && files->key && files->ca)
		return 0;
	return error_set(err, EINVAL,
		"%s: TLS needs all three of --cert, --key and --ca, files in PEM", what);
}

int mtls_new(struct mtls **out, const struct mtls_files *files, struct error *err)
{
	struct mtls *tls;
	int ret = mtls_check(files, "migration", err);

	if (ret < 0)
		return ret;
	tls = calloc(1, sizeof(*tls));
	if (!tls)
		return error_errno(err, ENOMEM, "TLS");
	tls->context = SSL_CTX_new(TLS_method());
	if (!tls->context) {
		free(tls);
		return wrong(err, "TLS", "");
	}
	restrict_to(tls->context);
	ret = load(tls->context, files, err);
	if (ret < 0)
		mtls_free(tls);
	else
		*out = tls;
	return ret;
}

void mtls_free(struct mtls *tls)
{
	if (tls)
		SSL_CTX_free(tls->context);
	free(tls);
}

/* ---- a stream: an SSL by another name ---- */

static SSL *ssl_of(struct mtls_stream *stream)
{
	return (SSL *)(void *)stream;
}

/* What a call that returned @ret wants. 0: the other side has ended. */
static int failure(SSL *ssl, int ret, short *events)
{
	const int code = errno;

	switch (SSL_get_error(ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		*events = POLLIN;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		*events = POLLOUT;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		return code ? -code : -EPIPE;
	default:
		return -EPROTO;
	}
}

static int shake_hands(SSL *ssl, struct channel *channel, struct error *err)
{
	for (;;) {
		short events = 0;
		int done, ret;

		errno = 0;
		ERR_clear_error();
		done = SSL_do_handshake(ssl);
		if (done == 1)
			return 0;
		ret = failure(ssl, done, &events);
		if (ret == -EAGAIN)
			ret = channel_await(channel, events, err);
		else if (SSL_get_verify_result(ssl) != X509_V_OK)
			return error_set(err, EACCES,
				"TLS: the other side's certificate is not taken: %s",
				X509_verify_cert_error_string(SSL_get_verify_result(ssl)));
		else
			return wrong(err, "TLS: the other side", "");
		if (ret < 0)
			return ret;
	}
}

int mtls_begin(const struct mtls *tls, struct channel *channel, bool listens, struct error *err)
{
	SSL *ssl = SSL_new(tls->context);

	if (!ssl)
		return wrong(err, "TLS", "");
	channel->tls = (struct mtls_stream *)(void *)ssl;
	if (SSL_set_fd(ssl, channel->fd) != 1)
		return wrong(err, "TLS", "");
	if (listens)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return shake_hands(ssl, channel, err);
}

void mtls_end(struct mtls_stream *stream)
{
	SSL_free(ssl_of(stream));
}

static int piece(size_t length)
{
	return length < (1U << 30) ? (int)length : 1 << 30;
}

bool mtls_is_up(const struct mtls_stream *stream)
{
	return SSL_is_init_finished((const SSL *)(const void *)stream);
}

ssize_t mtls_put(struct mtls_stream *stream, const void *bytes, size_t length, short *events)
{
	int ret;

	errno = 0;
	ERR_clear_error();
	ret = SSL_write(ssl_of(stream), bytes, piece(length));
	if (ret > 0)
		return ret;
	ret = failure(ssl_of(stream), ret, events);
	return ret ? ret : -EPIPE;
}

ssize_t mtls_take(struct mtls_stream *stream, void *bytes, size_t length, short *events)
{
	int ret;

	errno = 0;
	ERR_clear_error();
	ret = SSL_read(ssl_of(stream), bytes, piece(length));
	return ret > 0 ? ret : failure(ssl_of(stream), ret, events);
}
