/* SPDX-License-Identifier: Apache-2.0 */
/* The URL is made here of port, id and the domain in the sandbox's record; only that domain may have to be asked for. */
#include "gateway/preview_url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/http_write.h"
#include "common/json_write.h"
#include "gateway/config.h"
#include "gateway/headers.h"
#include "gateway/preview_domain.h"
#include "gateway/preview_host.h"
#include "gateway/route.h"

struct preview_url {
	struct call call;
	struct preview_domain domain;
	uint16_t port;   /* 0: the client named none */
	bool wants_text; /* the bare URL instead of JSON */
};

static void on_free(struct call *c)
{
	struct preview_url *p = CONTAINER_OF(c, struct preview_url, call);

	call_fini(c);
	preview_domain_cancel(&p->domain);
	free(p);
}

/* --- the answer ------------------------------------------------------------------------------------------------------- */

/* RFC 9211, RFC 9111 5.1. */
static void add_cache_lines(const struct preview_domain *d, struct buf *out)
{
	static const char *const words[] = {
		[PREVIEW_DOMAIN_MISS] = "miss",
		[PREVIEW_DOMAIN_STALE] = "stale",
		[PREVIEW_DOMAIN_REQUEST] = "request",
	};
	long long age_s = (long long)(d->age_ms / 1000);

	if (d->source != PREVIEW_DOMAIN_HIT && d->source != PREVIEW_DOMAIN_ERROR) {
		buf_addf(out, "Cache-Status: stacygate; fwd=%s; stored\r\n", words[d->source]);
		return;
	}
	buf_addf(out, "Cache-Status: stacygate; hit; ttl=%lld%s\r\nAge: %lld\r\n",
		 (long long)(d->ttl_ms / 1000) - age_s,
		 d->source == PREVIEW_DOMAIN_ERROR ? "; detail=upstream-unavailable" : "", age_s);
}

static void answer(struct preview_url *p)
{
	const struct preview_domain *d = &p->domain;
	const char *scheme = p->call.c.config->preview.scheme == CONFIG_HTTPS ? "https" : "http";
	struct buf extra = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);
	char url[512];

	if (d->status) {
		call_refuse(&p->call, d->status, "%s", d->why);
		return;
	}
	snprintf(url, sizeof(url), "%s://%u-%s.%s", scheme, p->port, d->sandbox, d->domain);
	add_cache_lines(d, &extra);
	http_write_header(&extra, STR("Cache-Control"), STR("no-store"));
	http_write_header(&extra, STR("Vary"), STR("Accept"));
	if (p->wants_text) {
		buf_addf(&body, "%s\n", url);
		call_text(&p->call, 200, "text/plain; charset=utf-8", &extra, &body);
	} else {
		json_object_begin(&w, NULL);
		json_cstr(&w, "url", url);
		json_object_end(&w);
		call_json(&p->call, 200, &extra, &body);
	}
	buf_fini(&extra);
}

static void on_known(struct preview_domain *d)
{
	answer(CONTAINER_OF(d, struct preview_url, domain));
}

static void on_request(struct call *c, struct str body)
{
	struct preview_url *p = CONTAINER_OF(c, struct preview_url, call);

	(void)body;
	if (p->port == 0)
		call_refuse(c, 400, "the port of a preview is a number from 1 to 65535");
	else if (preview_domain_ask(&p->domain))
		answer(p);
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

/* --- the request ------------------------------------------------------------------------------------------------------ */

static struct str last_segment(struct str path)
{
	const char *slash = memrchr(path.p, '/', path.n);

	return str_of(slash + 1, (size_t)(path.p + path.n - slash - 1));
}

int preview_url_call_new(const struct call_case *what, struct call **out)
{
	struct preview_url *p = calloc(1, sizeof(*p));
	struct preview_domain *d;

	if (!p)
		return -ENOMEM;
	d = &p->domain;
	p->port = preview_host_port(last_segment(what->route->rest));
	p->wants_text = headers_prefer(what->head, STR("text/plain"), STR("application/json"));
	d->ownership = &what->admit->ownership;
	d->feed = &what->admit->feed;
	d->asker = what->caller;
	memcpy(d->sandbox, what->route->sandbox.p, what->route->sandbox.n);
	d->ttl_ms = what->config->cache.preview_ttl_ms;
	d->isolated = what->rule->isolation == CONFIG_ISOLATION_OWNER;
	d->no_cache = http_head_has_token(what->head, STR("cache-control"), STR("no-cache"));
	d->on_known = on_known;
	preview_domain_init(d);
	*out = &p->call;
	if (call_init(&p->call, &ops, what, what->route->sandbox) == 0)
		return 0;
	on_free(&p->call);
	*out = NULL;
	return -ENOMEM;
}
