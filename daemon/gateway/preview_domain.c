/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered for less than the time to live is the answer. Else the sandbox's record is looked at; when the server does
 * not say anything of it, what is remembered is the answer after all, however old: a preview does not depend on the server's API.
 */
#include "gateway/preview_domain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/loop.h"
#include "gateway/admit.h"
#include "gateway/feed.h"
#include "gateway/preview_host.h"
#include "gateway/upstream.h"

static void refuse(struct preview_domain *d, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void refuse(struct preview_domain *d, unsigned status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(d->why, sizeof(d->why), fmt, ap);
	va_end(ap);
	d->status = status;
}

/* Makes what is remembered the answer; false when nothing is. */
static bool recall(struct preview_domain *d)
{
	struct str domain;

	if (!ownership_domain(d->ownership, d->asker.upstream, str_from(d->sandbox), &domain, &d->age_ms))
		return false;
	if (domain.n == 0)
		domain = STR(PREVIEW_HOST_LOCAL);
	d->status = 0;
	if (preview_host_domain_is_good(domain))
		snprintf(d->domain, sizeof(d->domain), "%.*s", STR_ARG(domain));
	else
		refuse(d, 502, "upstream %s: names a preview domain that is none", upstream_name(d->asker.upstream));
	return true;
}

/* Whether what is remembered was seen since this request began. */
static bool is_news(const struct preview_domain *d)
{
	return loop_now_ms(d->ownership->loop) - d->began_ms >= d->age_ms;
}

static void settle(struct preview_domain *d, enum owner_answer answer, unsigned status, const char *why)
{
	bool known = recall(d);
	bool seen = answer == OWNER_SAME || (answer == OWNER_OTHER && !d->isolated);

	if (seen && known && is_news(d))
		return;
	if (answer != OWNER_UNKNOWN)
		refuse(d, 404, ADMIT_NOT_FOUND_TEXT, STR_ARG(str_from(d->sandbox)));
	else if (known && !d->no_cache)
		d->source = PREVIEW_DOMAIN_ERROR;
	else
		refuse(d, status, "upstream %s: %s", upstream_name(d->asker.upstream), why);
}

static void on_looked(struct ownership_wait *w, enum owner_answer answer, unsigned status, const char *why)
{
	struct preview_domain *d = CONTAINER_OF(w, struct preview_domain, wait);

	settle(d, answer, status, why);
	d->on_known(d);
}

void preview_domain_init(struct preview_domain *d)
{
	list_init(&d->wait.link);
	d->wait.look_up = NULL;
	d->wait.on_known = on_looked;
	d->began_ms = loop_now_ms(d->ownership->loop);
	if (d->no_cache)
		d->source = PREVIEW_DOMAIN_REQUEST;
	else if (!recall(d))
		d->source = PREVIEW_DOMAIN_MISS;
	else
		d->source = d->age_ms < d->ttl_ms ? PREVIEW_DOMAIN_HIT : PREVIEW_DOMAIN_STALE;
}

bool preview_domain_ask(struct preview_domain *d)
{
	bool known = recall(d);

	feed_want(d->feed, &d->asker);
	if (known && (d->source == PREVIEW_DOMAIN_HIT || (d->source == PREVIEW_DOMAIN_MISS && is_news(d))))
		return true;
	/* It was forgotten meanwhile. */
	if (d->source == PREVIEW_DOMAIN_HIT)
		d->source = PREVIEW_DOMAIN_MISS;
	if (ownership_ask(d->ownership, &d->asker, str_from(d->sandbox), &d->wait) == 0)
		return false;
	refuse(d, 503, "out of memory");
	return true;
}

void preview_domain_cancel(struct preview_domain *d)
{
	ownership_cancel(&d->wait);
}
