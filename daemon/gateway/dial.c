/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each dial is an easy handle with CURLOPT_CONNECT_ONLY that stays in the multi handle for the life of the connection.
 * libcurl tells by callbacks which sockets to watch and when to be woken; when a transfer is DONE the connection is
 * there. Then curl_easy_recv must be called once: until a handle has been used so, libcurl 7.88 counts its connection as
 * idle and may close it at a later dial, and the next socket would get the number that we still read from. AGAIN is the
 * only good answer, since nobody may speak before a request.
 *
 * TLS is libcurl's as well: bytes of such a connection go through curl_easy_send and curl_easy_recv, or, from the first
 * answer on and where the library below is OpenSSL, through its SSL_read and SSL_write; those of a plain one past both. A certificate is checked before a byte of HTTP is sent, since the handshake is part of the dial.
 *
 * Handles are acted on only when no call of libcurl is on the stack: finished dials are collected after
 * curl_multi_socket_action has returned and reported from the loop's deferred work.
 *
 * libcurl gets its memory from a reserve when there is none: it does not bear to be without (7.88 divides by zero at the
 * next socket, and frees a TLS session twice).
 */
#include "gateway/dial.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "common/fd.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/reserve.h"

enum {
	TIMER_IDLE_S = 3600,
	STUCK_LOOKED_AT = 32,
	STUCK_WAITS = 64
};

struct dialer {
	struct loop *loop;       /* borrowed */
	CURLM *multi;            /* owned */
	struct event *timer;     /* owned; libcurl's own timeouts; always pending, so that setting it needs no memory */
	struct deferred collect; /* looks for finished dials */
	struct list under_way;   /* struct dial, not yet reported */
	unsigned dials;          /* not yet closed */
};

struct dial_share {
	CURLSH *share; /* owned */
};

struct dial {
	struct list link;      /* on the dialer's list while under way */
	struct dialer *dialer; /* borrowed */
	CURL *easy;            /* owned */
	int fd;                /* borrowed from libcurl, after DIAL_OK */
	bool tls;
	bool is_unix;
	bool send_failed;    /* of TLS: nothing more comes than what is here */
	unsigned recv_waits; /* of TLS, in a row */
	unsigned send_waits; /* the same for what is sent */
	void *ssl;           /* borrowed from libcurl; OpenSSL's handle, once it is used past libcurl */
	bool pending;        /* with ssl: the last dial_recv left something in it */
	bool drained;        /* the last dial_recv took all that had come */
	bool near;           /* with no_near: an address was excluded */
	bool in_multi;
	bool reported;
	struct deferred starved;       /* fails it for want of memory */
	struct curl_slist *connect_to; /* owned; NULL without */
	int ca_fd;                     /* owned; -1 without */
	char error[CURL_ERROR_SIZE];   /* libcurl's own words; may be empty */
	void (*on_done)(void *arg, enum dial_outcome outcome, int fd, const char *why);
	void *arg;
};

/* Lets libcurl act. When it is without memory it does not say for which dial, and that one would never end. */
/* OpenSSL's list of errors may have some: libcurl or a failed call of ours has been there since it was last cleared. */
static bool errors_left;

static void act(struct dialer *d, curl_socket_t fd, int bits)
{
	int running;

	errors_left = true;
	loop_defer(d->loop, &d->collect);
	if (curl_multi_socket_action(d->multi, fd, bits, &running) == CURLM_OK)
		return;
	LIST_FOREACH (n, &d->under_way)
		loop_defer(d->loop, &CONTAINER_OF(n, struct dial, link)->starved);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	act(arg, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

/* Wakes libcurl after this time; negative: not before it says so. */
static int set_timer(struct dialer *d, long ms)
{
	struct timeval tv = {.tv_sec = ms < 0 ? TIMER_IDLE_S : ms / 1000, .tv_usec = ms < 0 ? 0 : ms % 1000 * 1000};

	return event_add(d->timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dialer *d = arg;

	(void)fd;
	(void)what;
	(void)set_timer(d, -1);
	act(d, CURL_SOCKET_TIMEOUT, 0);
}

/*
 * A dial whose socket cannot be watched fails. To say so to libcurl by the callback's result would end every other dial of
 * this multi handle too, for ever.
 */
static void starve(struct loop *loop, CURL *easy)
{
	struct dial *dial = NULL;

	if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&dial) == CURLE_OK && dial)
		loop_defer(loop, &dial->starved);
}

static int socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_data)
{
	struct dialer *d = arg;
	struct event *event = socket_data;
	short bits = EV_PERSIST;

	/* The number may be another connection's as soon as libcurl has closed it: the event goes first. */
	if (event)
		event_free(event);
	curl_multi_assign(d->multi, fd, NULL);
	if (what == CURL_POLL_REMOVE)
		return 0;
	if (what & CURL_POLL_IN)
		bits |= EV_READ;
	if (what & CURL_POLL_OUT)
		bits |= EV_WRITE;
	event = event_new(loop_base(d->loop), fd, bits, on_socket, d);
	if (!event || event_add(event, NULL) < 0) {
		if (event)
			event_free(event);
		starve(d->loop, easy);
		return 0;
	}
	curl_multi_assign(d->multi, fd, event);
	return 0;
}

static int timer_callback(CURLM *multi, long timeout_ms, void *arg)
{
	(void)multi;
	(void)set_timer(arg, timeout_ms);
	return 0;
}

static enum dial_outcome outcome_of(CURLcode code)
{
	if (code == CURLE_OK)
		return DIAL_OK;
	if (code == CURLE_OPERATION_TIMEDOUT)
		return DIAL_TIMEOUT;
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
		return DIAL_REFUSED;
	return DIAL_FAILED;
}

/*
 * Where libcurl's TLS library is OpenSSL, a connection that has been spoken on is read and written past libcurl, and some
 * things are asked that libcurl does not offer. OpenSSL is in the process for libcurl only and may be another library
 * tomorrow, so its functions are looked up and not linked.
 */
static struct {
	int (*get_shutdown)(const void *ssl);
	long (*ctrl)(void *ssl, int command, long larg, void *parg);
	int (*set_fd)(void *ssl, int fd);
	int (*read)(void *ssl, void *to, int n);
	int (*write)(void *ssl, const void *from, int n);
	int (*get_error)(const void *ssl, int rc);
	int (*has_pending)(const void *ssl);
	void *(*get_rbio)(const void *ssl);
	uint64_t (*number_read)(void *bio);
	void (*clear_error)(void);
	int (*free_buffers)(void *ssl);
	bool complete;
} openssl;

enum {
	OPENSSL_RECEIVED_SHUTDOWN = 2,
	OPENSSL_CTRL_MODE = 33,
	OPENSSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2,
	OPENSSL_CTRL_SET_READ_AHEAD = 41,
	OPENSSL_CTRL_CLEAR_MODE = 78,
	OPENSSL_MODE_RELEASE_BUFFERS = 16,
	OPENSSL_ERROR_WANT_READ = 2,
	OPENSSL_ERROR_WANT_WRITE = 3,
	OPENSSL_ERROR_ZERO_RETURN = 6,
	OPENSSL_BUFFER_BYTES = 16384, /* that it reads at once, at least */
};

static void openssl_look_up(void)
{
	const struct {
		const char *name;
		void *to;
	} functions[] = {
		{"SSL_get_shutdown", &openssl.get_shutdown},
		{"SSL_ctrl", &openssl.ctrl},
		{"SSL_set_fd", &openssl.set_fd},
		{"SSL_read", &openssl.read},
		{"SSL_write", &openssl.write},
		{"SSL_get_error", &openssl.get_error},
		{"SSL_has_pending", &openssl.has_pending},
		{"SSL_get_rbio", &openssl.get_rbio},
		{"BIO_number_read", &openssl.number_read},
		{"ERR_clear_error", &openssl.clear_error},
		{"SSL_free_buffers", &openssl.free_buffers},
	};

	openssl.complete = true;
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		void *function = dlsym(RTLD_DEFAULT, functions[i].name);
		memcpy(functions[i].to, &function, sizeof(function));
		openssl.complete = openssl.complete && function;
	}
}

/* Its handle, or NULL; known from the first curl_easy_recv on. */
static void *tls_handle(const struct dial *dial, curl_sslbackend *backend)
{
	struct curl_tlssessioninfo *info = NULL;

	*backend = CURLSSLBACKEND_NONE;
	if (curl_easy_getinfo(dial->easy, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK || !info)
		return NULL;
	*backend = info->backend;
	return info->internals;
}

/*
 * A write that would wait is tried again with the same bytes, but from wherever the buffer is by then: OpenSSL takes that
 * for an error unless it is told.
 */
static bool tls_prepare(const struct dial *dial)
{
	curl_sslbackend backend;
	void *ssl = tls_handle(dial, &backend);

	if (backend == CURLSSLBACKEND_GNUTLS)
		return true;
	if (backend != CURLSSLBACKEND_OPENSSL || !ssl || !openssl.complete)
		return false;
	openssl.ctrl(ssl, OPENSSL_CTRL_MODE, OPENSSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, NULL);
	return true;
}

/*
 * Whether the other side said that its stream ends (close_notify). On OpenSSL libcurl reports a stream that was cut short
 * as ended all the same; on GnuTLS it reports an error.
 */
static bool tls_ended(const struct dial *dial)
{
	curl_sslbackend backend;
	void *ssl = tls_handle(dial, &backend);

	if (backend != CURLSSLBACKEND_OPENSSL)
		return true;
	return ssl && (openssl.get_shutdown(ssl) & OPENSSL_RECEIVED_SHUTDOWN);
}

/* Takes the connection out of libcurl's idle count (see above) and gives its socket, or -1. */
static int claim_socket(struct dial *dial)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	char byte;
	size_t got = 0;

	if (curl_easy_recv(dial->easy, &byte, 1, &got) != CURLE_AGAIN)
		return -1;
	if (curl_easy_getinfo(dial->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD)
		return -1;
	return fd;
}

/* Of a Unix socket libcurl says that it failed to connect to the URL's host and port, which nobody tried. */
static void explain_unix(struct dial *dial)
{
	long error = 0;

	if (curl_easy_getinfo(dial->easy, CURLINFO_OS_ERRNO, &error) != CURLE_OK || error == 0)
		error = ECONNREFUSED;
	snprintf(dial->error, sizeof(dial->error), "Unix socket: %s", strerror((int)error));
}

static void report(struct dial *dial, CURLcode code)
{
	enum dial_outcome outcome = outcome_of(code);
	int fd = -1;

	if (dial->is_unix && outcome == DIAL_REFUSED)
		explain_unix(dial);
	if (dial->near && outcome == DIAL_REFUSED)
		outcome = DIAL_NEAR;
	const char *why = dial->error[0] ? dial->error : curl_easy_strerror(code);

	dial->reported = true;
	list_remove(&dial->link);
	if (outcome == DIAL_OK) {
		fd = claim_socket(dial);
		if (fd < 0) {
			outcome = DIAL_FAILED;
			why = "the server spoke first or closed at once";
		} else if (dial->tls && !tls_prepare(dial)) {
			outcome = DIAL_FAILED;
			why = "libcurl uses a TLS library that is not known here: OpenSSL and GnuTLS are";
			fd = -1;
		}
	}
	dial->fd = fd;
	dial->on_done(dial->arg, outcome, fd, why);
}

static void on_starved(struct deferred *deferred)
{
	struct dial *dial = CONTAINER_OF(deferred, struct dial, starved);

	if (!dial->reported)
		report(dial, CURLE_OUT_OF_MEMORY);
}

static void collect(struct deferred *deferred)
{
	struct dialer *d = CONTAINER_OF(deferred, struct dialer, collect);
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(d->multi, &left))) {
		struct dial *dial = NULL;
		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&dial);
		if (dial && !dial->reported)
			report(dial, msg->data.result);
	}
}

const char *dial_library(void)
{
	return curl_version();
}

struct dialer *dialer_new(struct loop *loop)
{
	struct dialer *d;

	if (curl_global_init_mem(CURL_GLOBAL_ALL, reserve_malloc, reserve_free, reserve_realloc, reserve_strdup,
				 reserve_calloc) != CURLE_OK)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->loop = loop;
	list_init(&d->under_way);
	openssl_look_up();
	deferred_init(&d->collect, collect);
	d->timer = evtimer_new(loop_base(loop), on_timer, d);
	d->multi = curl_multi_init();
	if (!d->timer || !d->multi || set_timer(d, -1) < 0) {
		dialer_free(d);
		return NULL;
	}
	curl_multi_setopt(d->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(d->multi, CURLMOPT_SOCKETDATA, d);
	curl_multi_setopt(d->multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	curl_multi_setopt(d->multi, CURLMOPT_TIMERDATA, d);
	return d;
}

void dialer_free(struct dialer *d)
{
	if (!d)
		return;
	CHECK(d->dials == 0);
	deferred_cancel(&d->collect);
	if (d->multi)
		curl_multi_cleanup(d->multi);
	if (d->timer)
		event_free(d->timer);
	free(d);
	curl_global_cleanup();
}

/* libcurl's descriptors would reach a program that we start; nothing is started after start-up, but still. */
static int on_socket_open(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	(void)arg;
	(void)purpose;
	return evutil_make_socket_closeonexec(fd) == 0 ? CURL_SOCKOPT_OK : CURL_SOCKOPT_ERROR;
}

static bool is_near_v4(uint32_t address)
{
	return address >> 24 == 127 || address >> 24 == 0 || address >> 16 == 0xa9fe;
}

/* RFC 1122 3.2.1.3, RFC 3927 2.1, RFC 4291 2.5: of this machine, or of its links. An IPv4 address may be written in IPv6. */
static bool is_near(const struct sockaddr *sa)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	const unsigned char *a = v6.sin6_addr.s6_addr;

	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof(v4));
		return is_near_v4(ntohl(v4.sin_addr.s_addr));
	}
	if (sa->sa_family != AF_INET6)
		return true;
	memcpy(&v6, sa, sizeof(v6));
	if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) || IN6_IS_ADDR_V4COMPAT(&v6.sin6_addr))
		return is_near_v4((uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15]);
	return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) || IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr) ||
	       IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr);
}

/* For no_near: asked with each address of a name, before anything is sent there. */
static curl_socket_t open_far_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct dial *dial = arg;

	(void)purpose;
	if (is_near(&address->addr)) {
		dial->near = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool is_not_offered(CURLcode code)
{
	return code == CURLE_NOT_BUILT_IN || code == CURLE_UNKNOWN_OPTION;
}

/*
 * libcurl 8.14 remembers authorities by the path that they came from, for all dials of a day. Where this is no option it does
 * not.
 */
static bool set_authorities_forgotten(CURL *easy)
{
	CURLcode code = curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);

	return code == CURLE_OK || is_not_offered(code);
}

/*
 * The authorities as they were read. libcurl's GnuTLS takes files only, so it gets one that exists nowhere else and lives
 * as long as the dial; the next may have its path.
 */
static bool set_authorities(struct dial *dial, struct str ca)
{
	struct curl_blob blob = {(void *)(uintptr_t)ca.p, ca.n, CURL_BLOB_COPY};
	CURLcode code = curl_easy_setopt(dial->easy, CURLOPT_CAINFO_BLOB, &blob);
	char path[40];

	if (is_not_offered(code)) {
		dial->ca_fd = memfd_create("authorities", MFD_CLOEXEC);
		if (dial->ca_fd < 0 || fd_write_all(dial->ca_fd, ca.p, ca.n) || !set_authorities_forgotten(dial->easy))
			return false;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", dial->ca_fd);
		code = curl_easy_setopt(dial->easy, CURLOPT_CAINFO, path);
	}
	return code == CURLE_OK && curl_easy_setopt(dial->easy, CURLOPT_CAPATH, NULL) == CURLE_OK;
}

static bool set_options(struct dial *dial, const struct dial_target *target)
{
	CURL *e = dial->easy;
	bool ok = true;

#define SET(option, value) (ok = ok && curl_easy_setopt(e, option, value) == CURLE_OK)
	SET(CURLOPT_PRIVATE, dial);
	SET(CURLOPT_URL, target->url);
	SET(CURLOPT_CONNECT_ONLY, 1L);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_BUFFERSIZE, 1024L); /* kept for the life of the connection; only a proxy answers into it */
	/* Never the environment's. */
	SET(CURLOPT_PROXY, target->proxy ? target->proxy : "");
	SET(CURLOPT_NOPROXY, target->proxy ? "" : "*");
	SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* ALPN offers http/1.1 only */
	SET(CURLOPT_ERRORBUFFER, dial->error);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	/* Long enough for dials at the same time; what a name means may change. */
	SET(CURLOPT_DNS_CACHE_TIMEOUT, 1L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_SOCKOPTFUNCTION, on_socket_open);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)target->timeout_ms);
	if (target->no_near) {
		SET(CURLOPT_OPENSOCKETFUNCTION, open_far_socket);
		SET(CURLOPT_OPENSOCKETDATA, dial);
	}
	if (target->unix_path)
		SET(CURLOPT_UNIX_SOCKET_PATH, target->unix_path);
	if (dial->tls) {
		SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
		SET(CURLOPT_SSL_VERIFYPEER, 1L);
		SET(CURLOPT_SSL_VERIFYHOST, 2L);
	}
	if (dial->tls && target->ca.n)
		ok = ok && set_authorities(dial, target->ca);
	if (dial->tls && target->cert_file) {
		SET(CURLOPT_SSLCERT, target->cert_file);
		SET(CURLOPT_SSLKEY, target->key_file ? target->key_file : target->cert_file);
	}
	if (target->share)
		SET(CURLOPT_SHARE, target->share->share);
#undef SET
	return ok;
}

/* "name:port:host:port" for libcurl; the list must live as long as the handle. */
static bool set_connect_to(struct dial *dial, const char *connect_to)
{
	if (!connect_to)
		return true;
	dial->connect_to = curl_slist_append(NULL, connect_to);
	return dial->connect_to && curl_easy_setopt(dial->easy, CURLOPT_CONNECT_TO, dial->connect_to) == CURLE_OK;
}

struct dial *dial_start(struct dialer *d, const struct dial_target *target,
			void (*on_done)(void *arg, enum dial_outcome outcome, int fd, const char *why), void *arg)
{
	struct dial *dial = reserve_is_low() ? NULL : calloc(1, sizeof(*dial));

	if (!dial)
		return NULL;
	dial->dialer = d;
	dial->on_done = on_done;
	dial->arg = arg;
	d->dials++;
	deferred_init(&dial->starved, on_starved);
	list_init(&dial->link);
	dial->fd = dial->ca_fd = -1;
	dial->is_unix = target->unix_path;
	dial->tls = strncmp(target->url, "https:", 6) == 0;
	dial->easy = curl_easy_init();
	if (dial->easy && set_options(dial, target) && set_connect_to(dial, target->connect_to) &&
	    curl_multi_add_handle(d->multi, dial->easy) == CURLM_OK) {
		dial->in_multi = true;
		list_add_tail(&d->under_way, &dial->link);
		return dial;
	}
	dial_close(&dial);
	return NULL;
}

void dial_close(struct dial **dial)
{
	struct dial *gone = *dial;

	*dial = NULL;
	if (!gone)
		return;
	list_remove(&gone->link);
	deferred_cancel(&gone->starved);
	errors_left = true;
	if (gone->in_multi)
		curl_multi_remove_handle(gone->dialer->multi, gone->easy);
	if (gone->easy)
		curl_easy_cleanup(gone->easy);
	curl_slist_free_all(gone->connect_to);
	if (gone->ca_fd >= 0)
		close(gone->ca_fd);
	gone->dialer->dials--;
	free(gone);
}

/*
 * OpenSSL that was without memory once says for ever after that it waits, and moves no byte. Who waits with reason has left
 * the socket unready; it is looked at only after many waits in a row, since that costs a system call.
 */
static bool is_stuck(const struct dial *dial, unsigned *waits, short readiness)
{
	struct pollfd p = {.fd = dial->fd, .events = readiness};

	if (++*waits < STUCK_LOOKED_AT)
		return false;
	if (poll(&p, 1, 0) != 1)
		*waits = 0;
	return *waits >= STUCK_WAITS;
}

/*
 * From the first answer on OpenSSL reads the socket itself and as much at once as there is: that spares a system call for
 * the head of each record, and libcurl's own work. Not before, since tickets come ahead of the first answer and are kept
 * by libcurl only when it reads them.
 */
static void go_direct(struct dial *dial)
{
	curl_sslbackend backend;
	void *ssl = tls_handle(dial, &backend);

	if (backend != CURLSSLBACKEND_OPENSSL || !ssl || openssl.set_fd(ssl, dial->fd) != 1)
		return;
	openssl.ctrl(ssl, OPENSSL_CTRL_SET_READ_AHEAD, 1, NULL);
	/* libcurl has them freed and made again for every record, which costs a seventh of a small request: see dial_rest. */
	dial->pending = true; /* perhaps */
	openssl.ctrl(ssl, OPENSSL_CTRL_CLEAR_MODE, OPENSSL_MODE_RELEASE_BUFFERS, NULL);
	dial->ssl = ssl;
}

void dial_rest(struct dial *dial)
{
	if (dial->ssl)
		openssl.free_buffers(dial->ssl);
}

/* What a call that moved nothing returns. */
static ssize_t recv_waits(struct dial *dial)
{
	return dial->send_failed || is_stuck(dial, &dial->recv_waits, POLLIN) ? -EIO : -EAGAIN;
}

static ssize_t send_failed(struct dial *dial)
{
	dial->send_failed = true;
	return -EIO;
}

static ssize_t send_waits(struct dial *dial)
{
	return is_stuck(dial, &dial->send_waits, POLLOUT) ? send_failed(dial) : -EAGAIN;
}

static ssize_t sent_some(struct dial *dial, ssize_t n)
{
	dial->send_waits = 0;
	return n;
}

static ssize_t curl_recv(struct dial *dial, void *to, size_t n)
{
	size_t got = 0;
	CURLcode code = curl_easy_recv(dial->easy, to, n, &got);

	errors_left = true;
	if (code == CURLE_AGAIN)
		return recv_waits(dial);
	dial->recv_waits = 0;
	if (code != CURLE_OK || (got == 0 && !tls_ended(dial)))
		return -EIO;
	if (got)
		go_direct(dial);
	return (ssize_t)got;
}

static ssize_t curl_send(struct dial *dial, const void *from, size_t n)
{
	size_t sent = 0;
	CURLcode code = curl_easy_send(dial->easy, from, n, &sent);

	errors_left = true;
	if (code == CURLE_AGAIN)
		return send_waits(dial);
	return code == CURLE_OK ? sent_some(dial, (ssize_t)sent) : send_failed(dial);
}

/* What an unsuccessful call means. A stream that ends without close_notify is an error of OpenSSL's, as it should be. */
static ssize_t openssl_failure(const struct dial *dial, int rc)
{
	errors_left = true;
	switch (openssl.get_error(dial->ssl, rc)) {
	case OPENSSL_ERROR_WANT_READ:
	case OPENSSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case OPENSSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		return -EIO;
	}
}

/* What was left there before would be taken for an error of this call. */
static void forget_errors(void)
{
	if (errors_left)
		openssl.clear_error();
	errors_left = false;
}

static int at_most_int(size_t n)
{
	return n < INT_MAX ? (int)n : INT_MAX;
}

static ssize_t openssl_recv(struct dial *dial, void *to, size_t n)
{
	bool was_empty = !dial->pending;
	void *bio = openssl.get_rbio(dial->ssl);
	uint64_t before = openssl.number_read(bio);
	int got;

	forget_errors();
	got = openssl.read(dial->ssl, to, at_most_int(n));
	/* Less came than there was room for, and nothing of it is left. */
	dial->pending = openssl.has_pending(dial->ssl);
	dial->drained = was_empty && !dial->pending && openssl.number_read(bio) - before < OPENSSL_BUFFER_BYTES;
	if (got <= 0) {
		ssize_t rc = openssl_failure(dial, got);
		return rc == -EAGAIN ? recv_waits(dial) : rc;
	}
	dial->recv_waits = 0;
	return got;
}

static ssize_t openssl_send(struct dial *dial, const void *from, size_t n)
{
	int sent;

	forget_errors();
	sent = openssl.write(dial->ssl, from, at_most_int(n));
	if (sent > 0)
		return sent_some(dial, sent);
	return openssl_failure(dial, sent) == -EAGAIN ? send_waits(dial) : send_failed(dial);
}

static ssize_t plain_recv(struct dial *dial, void *to, size_t n)
{
	ssize_t got;

	do
		got = recv(dial->fd, to, n, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	/* A socket gives less than it is asked for only when it has no more (recv(2)). */
	dial->drained = got > 0 && (size_t)got < n;
	return got < 0 ? -errno : got;
}

static ssize_t plain_send(struct dial *dial, const void *from, size_t n)
{
	ssize_t sent;

	do
		sent = send(dial->fd, from, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

ssize_t dial_recv(struct dial *dial, void *to, size_t n)
{
	if (dial->ssl)
		return openssl_recv(dial, to, n);
	return dial->tls ? curl_recv(dial, to, n) : plain_recv(dial, to, n);
}

ssize_t dial_send(struct dial *dial, const void *from, size_t n)
{
	if (dial->ssl)
		return openssl_send(dial, from, n);
	return dial->tls ? curl_send(dial, from, n) : plain_send(dial, from, n);
}

bool dial_is_tls(const struct dial *dial)
{
	return dial->tls;
}

bool dial_is_buffered(const struct dial *dial)
{
	return dial->ssl ? dial->pending : dial->tls;
}

bool dial_is_drained(const struct dial *dial)
{
	return dial->drained;
}

struct dial_share *dial_share_new(void)
{
	struct dial_share *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->share = curl_share_init();
	if (s->share && curl_share_setopt(s->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK)
		return s;
	dial_share_free(s);
	return NULL;
}

void dial_share_free(struct dial_share *s)
{
	if (!s)
		return;
	if (s->share)
		curl_share_cleanup(s->share);
	free(s);
}
