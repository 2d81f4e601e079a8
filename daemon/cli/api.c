/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One easy handle in a multi handle, so that waiting for the socket and for a signal is one wait; the
 * connection is kept between requests. Happy path: the handle is set up, added, driven until libcurl reports
 * it done, taken out.
 *
 * Failures: no connection (the gateway does not run), a broken one (it died, or cut the answer on purpose:
 * never taken for an end), an answer that is no 2xx (its body is read for code and message, at most
 * ERROR_BODY_MAX), a sink that gives up (its own fault is kept), a signal (the connection is closed, which is
 * what ends the command behind it).
 */
#include "cli/api.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/socket_path.h"
#include "cli/term.h"
#include "common/clock.h"
#include "config.h"

enum {
	ERROR_BODY_MAX = 64 << 10,
	ANSWER_MAX = 64 << 20,
	WAIT_MS = 1000
};

struct api {
	char *socket_path;         /* owned */
	struct progress *progress; /* borrowed */
	CURLM *multi;              /* owned; keeps the connection */
	CURL *easy;                /* owned; in the multi handle only during a call */
	/* of the call under way */
	const struct api_request *request; /* borrowed */
	struct fault *fault;               /* borrowed */
	struct buf error_body;             /* owned */
	struct buf notes;                  /* owned; of all calls */
	bool gateway_made;                 /* the answer carries Stacygate-Error */
	bool own_end;                      /* our side ended the transfer and set the fault */
};

struct api *api_new(const char *socket_path, struct progress *progress)
{
	struct api *a = calloc(1, sizeof(*a));

	if (!a || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(a);
		return NULL;
	}
	a->progress = progress;
	a->socket_path = strdup(socket_path);
	a->multi = curl_multi_init();
	a->easy = curl_easy_init();
	if (a->socket_path && a->multi && a->easy)
		return a;
	api_free(a);
	return NULL;
}

void api_free(struct api *a)
{
	if (!a)
		return;
	curl_easy_cleanup(a->easy);
	if (a->multi)
		curl_multi_cleanup(a->multi);
	curl_global_cleanup();
	buf_fini(&a->error_body);
	buf_fini(&a->notes);
	free(a->socket_path);
	free(a);
}

const char *api_socket_path(const struct api *a)
{
	return a->socket_path;
}

struct progress *api_progress(const struct api *a)
{
	return a->progress;
}

struct str api_notes(const struct api *a)
{
	return a->notes.failed ? STR("") : buf_str(&a->notes);
}

static long status_of(struct api *a)
{
	long status = 0;

	curl_easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static bool is_success(long status)
{
	return status >= 200 && status < 300;
}

static int deliver(struct api *a, struct str bytes)
{
	const struct api_request *r = a->request;

	if (r->sink)
		return r->sink(r->user, bytes);
	if (!r->answer)
		return 0;
	if (r->answer->len + bytes.n > ANSWER_MAX)
		return fault_set(a->fault, FAULT_ERROR, "CONNECTION_ERROR", "the answer is too large");
	buf_add_str(r->answer, bytes);
	return r->answer->failed ? fault_memory(a->fault) : 0;
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
	struct api *a = user;
	size_t bytes = size * n;

	if (!is_success(status_of(a))) {
		if (a->error_body.len + bytes <= ERROR_BODY_MAX)
			buf_add(&a->error_body, p, bytes);
		return bytes;
	}
	if (deliver(a, str_of(p, bytes)) == 0)
		return bytes;
	a->own_end = true;
	return CURL_WRITEFUNC_ERROR;
}

/* More than this many bytes of notes are not kept. */
enum {
	NOTES_MAX = 4096
};

static void note(struct api *a, const char *what, struct str value)
{
	while (value.n && (value.p[value.n - 1] == '\r' || value.p[value.n - 1] == '\n'))
		value.n--;
	if (a->notes.len + value.n > NOTES_MAX)
		return;
	buf_addf(&a->notes, "stacygate: %s: ", what);
	term_escape(&a->notes, str_trim(value), TERM_LINE);
	buf_add_char(&a->notes, '\n');
}

static size_t on_header(char *p, size_t size, size_t n, void *user)
{
	struct api *a = user;
	struct str rest = str_of(p, size * n);
	struct str name = str_cut(&rest, ':');

	if (str_eq_nocase(name, STR("Stacygate-Error")))
		a->gateway_made = true;
	else if (str_eq_nocase(name, STR("Stacygate-Clamped")))
		note(a, "lowered by the gateway", rest);
	else if (str_eq_nocase(name, STR("Stacygate-Ignored")))
		note(a, "not stored by the server", rest);
	return size * n;
}

/* Adds "NAME: VALUE" unless value is NULL; false without memory. */
static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
	struct buf line = BUF_EMPTY;
	struct curl_slist *longer;

	if (!value)
		return true;
	buf_addf(&line, "%s:%s%s", name, *value ? " " : "", value);
	buf_add_char(&line, 0);
	longer = line.failed ? NULL : curl_slist_append(*list, buf_data(&line));
	buf_fini(&line);
	if (longer)
		*list = longer;
	return longer;
}

static struct curl_slist *header_list(const struct api_request *r)
{
	struct curl_slist *list = NULL;

	/* "Expect:" without a value keeps libcurl from waiting for a 100 before a large body. */
	if (add_header(&list, "Content-Type", "application/json") && add_header(&list, "Expect", "") &&
	    add_header(&list, "Accept", r->accept ? r->accept : "*/*") &&
	    add_header(&list, "Stacygate-Lease", r->lease))
		return list;
	curl_slist_free_all(list);
	return NULL;
}

/* What holds for every request: this socket and nothing else, whatever the environment says. */
static void set_up_connection(struct api *a)
{
	curl_easy_reset(a->easy);
	curl_easy_setopt(a->easy, CURLOPT_UNIX_SOCKET_PATH, a->socket_path);
	curl_easy_setopt(a->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(a->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(a->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(a->easy, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(a->easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(a->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(a->easy, CURLOPT_HTTP09_ALLOWED, 0L);
	curl_easy_setopt(a->easy, CURLOPT_USERAGENT, "stacygate/" PACKAGE_VERSION);
	curl_easy_setopt(a->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(a->easy, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(a->easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(a->easy, CURLOPT_HEADERDATA, a);
}

static CURLcode set_up_request(struct api *a, const struct api_request *r, struct curl_slist *headers)
{
	struct buf url = BUF_EMPTY;
	CURLcode rc = CURLE_OUT_OF_MEMORY;

	set_up_connection(a);
	buf_add_cstr(&url, "http://localhost");
	buf_add_cstr(&url, r->path);
	buf_add_char(&url, 0);
	if (!url.failed)
		rc = curl_easy_setopt(a->easy, CURLOPT_URL, buf_data(&url));
	buf_fini(&url);
	curl_easy_setopt(a->easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(a->easy, CURLOPT_TIMEOUT_MS, r->timeout_ms);
	curl_easy_setopt(a->easy, CURLOPT_HTTPHEADER, headers);
	if (r->body.p) {
		curl_easy_setopt(a->easy, CURLOPT_POSTFIELDS, r->body.p);
		curl_easy_setopt(a->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
	}
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(a->easy, CURLOPT_CUSTOMREQUEST, r->method);
	return rc;
}

/* Whether the transfer has ended, and how. */
static bool take_result(struct api *a, CURLcode *result)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(a->multi, &left))) {
		if (msg->msg == CURLMSG_DONE && msg->easy_handle == a->easy) {
			*result = msg->data.result;
			return true;
		}
	}
	return false;
}

/* A signal ends the wait, at once or when the time that the request asked for has passed. */
static bool gave_up(const struct api_request *r, uint64_t *since_ms)
{
	if (!interrupt_pending())
		return false;
	if (*since_ms == 0)
		*since_ms = clock_ms();
	return clock_ms() - *since_ms >= (uint64_t)r->linger_ms;
}

static void add_wait(struct curl_waitfd *extra, unsigned *n, int fd)
{
	if (fd >= 0)
		extra[(*n)++] = (struct curl_waitfd){.fd = fd, .events = CURL_WAIT_POLLIN};
}

static void wait_for_something(struct api *a)
{
	const struct api_watch *watch = a->request->watch;
	struct curl_waitfd extra[1 + API_WATCHED];
	int wait_ms = progress_is_on(a->progress) ? PROGRESS_TICK_MS : WAIT_MS;
	unsigned n = 0;

	/* The descriptor stays readable after a signal: watching it on would spin. */
	if (!interrupt_pending())
		add_wait(extra, &n, interrupt_fd());
	for (size_t i = 0; watch && i < API_WATCHED; i++)
		add_wait(extra, &n, watch->fds[i]);
	curl_multi_poll(a->multi, extra, n, interrupt_pending() ? 50 : wait_ms, NULL);
}

/* Whether whoever watches has no objection to going on. */
static bool take_turn(struct api *a)
{
	const struct api_request *r = a->request;

	progress_tick(a->progress);
	a->own_end = r->watch && r->watch->on_turn(r->user) < 0;
	return !a->own_end;
}

enum drive_end {
	DRIVE_DONE,
	DRIVE_INTERRUPTED,
	DRIVE_BROKEN,
};

static enum drive_end drive(struct api *a, CURLcode *result)
{
	uint64_t interrupted_at_ms = 0;
	int running;

	for (;;) {
		if (gave_up(a->request, &interrupted_at_ms))
			return DRIVE_INTERRUPTED;
		if (curl_multi_perform(a->multi, &running) != CURLM_OK)
			return DRIVE_BROKEN;
		if (take_result(a, result))
			return DRIVE_DONE;
		wait_for_something(a);
		if (!take_turn(a))
			return DRIVE_BROKEN;
	}
}

static int broken(struct api *a, CURLcode result)
{
	long os_error = 0;

	if (a->own_end)
		return -1;
	curl_easy_getinfo(a->easy, CURLINFO_OS_ERRNO, &os_error);
	if (result == CURLE_COULDNT_CONNECT && (os_error == EACCES || os_error == EPERM))
		return socket_path_forbidden(a->socket_path, (int)os_error, a->fault);
	if (result == CURLE_COULDNT_CONNECT)
		return fault_set(a->fault, FAULT_ERROR, "CONNECTION_ERROR",
				 "cannot connect to %s: %s; is stacygated running?", a->socket_path,
				 os_error ? strerror((int)os_error) : "no answer");
	if (result == CURLE_OPERATION_TIMEDOUT)
		return fault_set(a->fault, FAULT_ERROR, "TIMEOUT", "the gateway did not answer in time");
	return fault_set(a->fault, FAULT_ERROR, "CONNECTION_ERROR", "the connection to %s broke off: %s",
			 a->socket_path, curl_easy_strerror(result));
}

static int refused(struct api *a, long status)
{
	const char *from = a->gateway_made ? " (said by the gateway)" : "";
	json_t *body = json_loadb(a->error_body.len ? buf_data(&a->error_body) : "", a->error_body.len, 0, NULL);
	const char *code = json_string_value(json_object_get(body, "code"));
	const char *message = json_string_value(json_object_get(body, "message"));

	if (code && message)
		fault_set(a->fault, FAULT_ERROR, code, "%s%s", message, from);
	else
		fault_set(a->fault, FAULT_ERROR, "HTTP_ERROR", "HTTP status %ld%s", status, from);
	a->fault->status = status;
	json_decref(body);
	return -1;
}

static int conclude(struct api *a, enum drive_end end, CURLcode result)
{
	switch (end) {
	case DRIVE_INTERRUPTED:
		return fault_set(a->fault, FAULT_INTERRUPTED, "INTERRUPTED", "stopped by a signal");
	case DRIVE_BROKEN:
		return broken(a, CURLE_FAILED_INIT);
	case DRIVE_DONE:
		break;
	}
	if (result != CURLE_OK)
		return broken(a, result);
	return is_success(status_of(a)) ? 0 : refused(a, status_of(a));
}

int api_call(struct api *a, const struct api_request *request, struct fault *f)
{
	struct curl_slist *headers = header_list(request);
	CURLcode result = CURLE_OUT_OF_MEMORY;
	enum drive_end end = DRIVE_DONE;
	int rc;

	a->request = request;
	a->fault = f;
	a->gateway_made = false;
	a->own_end = false;
	buf_reset(&a->error_body);
	if (headers)
		result = set_up_request(a, request, headers);
	if (result == CURLE_OK && curl_multi_add_handle(a->multi, a->easy) == CURLM_OK) {
		end = drive(a, &result);
		curl_multi_remove_handle(a->multi, a->easy);
	}
	rc = conclude(a, end, result);
	curl_slist_free_all(headers);
	return rc;
}
