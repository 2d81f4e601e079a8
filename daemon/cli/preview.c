/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/preview.h"

#include <errno.h>
#include <stdio.h>

#include "cli/door.h"
#include "cli/remote.h"
#include "cli/show.h"
#include "common/json_write.h"

static bool is_host_byte(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
	       c == '_';
}

static bool cut_prefix(struct str *s, struct str prefix)
{
	if (!str_starts(*s, prefix))
		return false;
	*s = str_of(s->p + prefix.n, s->n - prefix.n);
	return true;
}

/* As the gateway knows preview traffic from calls of the API: under any other name a request would be one of those. */
static bool is_known_id(struct str id)
{
	if (!cut_prefix(&id, STR("sb-")) || id.n == 0)
		return false;
	for (size_t i = 0; i < id.n; i++)
		if (str_hex_value(id.p[i]) < 0)
			return false;
	return true;
}

int preview_host(struct str url, struct str id, struct str port, struct str *host)
{
	struct str rest = url;
	struct str tail;
	size_t n = 0;

	if (!is_known_id(id))
		return -EINVAL;
	if (!cut_prefix(&rest, STR("http://")) && !cut_prefix(&rest, STR("https://")))
		return -EINVAL;
	while (n < rest.n && is_host_byte(rest.p[n]))
		n++;
	if (n < rest.n && rest.p[n] != ':' && rest.p[n] != '/')
		return -EINVAL;
	*host = str_of(rest.p, n);
	tail = *host;
	if (!cut_prefix(&tail, port) || !cut_prefix(&tail, STR("-")) || !cut_prefix(&tail, id) ||
	    !cut_prefix(&tail, STR(".")) || tail.n == 0)
		return -EINVAL;
	return 0;
}

/* Whether it can be printed and opened: visible ASCII. */
static bool is_url(struct str url)
{
	for (size_t i = 0; i < url.n; i++)
		if (url.p[i] <= ' ' || url.p[i] > '~')
			return false;
	return str_starts(url, STR("http://")) || str_starts(url, STR("https://"));
}

/* The bare URL, without a line end. */
static int ask(const struct command *c, struct buf *url)
{
	const struct words *words = &c->options->operands;
	struct api_request r = {.method = "GET", .accept = "text/plain", .answer = url, .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	buf_addf(&path, "/gateway/v1/sandboxes/%s/preview/%s", words->at[0], words->at[1]);
	if (remote_call(c->api, &r, &path, NULL, c->fault) < 0)
		return -1;
	while (url->len && (buf_data(url)[url->len - 1] == '\n' || buf_data(url)[url->len - 1] == '\r'))
		url->len--;
	if (!is_url(buf_str(url)))
		return fault_set(c->fault, FAULT_ERROR, "BAD_ANSWER", "the gateway's answer is no URL");
	return 0;
}

static int print(const struct command *c, struct str url)
{
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	if (c->options->json) {
		json_object_begin(&w, NULL);
		json_str(&w, "url", url);
		json_object_end(&w);
	} else {
		buf_add_str(&out, url);
	}
	buf_add_char(&out, '\n');
	return show_flush(&out, c->fault);
}

/* Says where it is, and serves until a signal comes. */
static int serve(const struct command *c, struct str host)
{
	struct door door;
	char url[64];
	int rc;

	if (door_open(&door, c->options->open_port_at, c->fault) < 0)
		return -1;
	snprintf(url, sizeof(url), "http://localhost:%u/", (unsigned)door.listening.port);
	rc = print(c, str_from(url));
	if (rc == 0)
		rc = door_serve(&door, host, api_socket_path(c->api), c->fault);
	door_close(&door);
	return rc;
}

int preview_command(const struct command *c)
{
	const struct words *words = &c->options->operands;
	struct buf url = BUF_EMPTY;
	struct str host;
	int rc = ask(c, &url);

	if (rc == 0 && !c->options->open_port)
		rc = print(c, buf_str(&url));
	else if (rc == 0 && preview_host(buf_str(&url), str_from(words->at[0]), str_from(words->at[1]), &host) < 0)
		rc = fault_set(c->fault, FAULT_ERROR, "BAD_ANSWER",
			       "the gateway's URL is not of this sandbox's port: %.*s", STR_ARG(buf_str(&url)));
	else if (rc == 0)
		rc = serve(c, host);
	buf_fini(&url);
	return rc;
}
