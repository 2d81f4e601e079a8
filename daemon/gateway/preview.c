/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In this order: is the sandbox the caller's (under isolation), which domain does its record name, is that the Host's? Only then
 * is the way to it looked for. Every one of these ends in exchange_start or exchange_refuse, and none outlives the exchange.
 */
#include "gateway/preview.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/config.h"
#include "gateway/exchange.h"
#include "gateway/preview_domain.h"
#include "gateway/preview_host.h"
#include "gateway/upstream.h"

struct preview {
	struct exchange *exchange; /* borrowed */
	struct preview_ways *ways; /* borrowed */
	const struct config *config;
	const struct config_rule *rule;
	struct admit admit;
	struct preview_domain domain;
	uint16_t port;
	char asked[SANDBOX_DOC_DOMAIN_MAX_BYTES + 1]; /* the Host's domain; empty: longer than one may be */
	char suffix[8];                               /* and the port behind it */
};

/* The way is known: lets the request go. `name` is the preview's under the record's own domain. */
static void go(struct preview *p, const char *name, uint16_t port)
{
	const struct preview_target target = {
		.server = p->admit.asker.upstream,
		.config = &p->config->upstreams[p->rule->upstream],
		.front = &p->config->preview,
		.name = name,
		.port = port,
	};
	struct upstream *way = preview_ways_get(p->ways, &target);
	char host[520];

	snprintf(host, sizeof(host), "%s%s", name, p->suffix);
	if (way && exchange_take_way(p->exchange, way, host))
		exchange_start(p->exchange);
	else
		exchange_refuse(p->exchange, 503, "out of memory");
}

static void judge_domain(struct preview *p)
{
	const struct preview_domain *d = &p->domain;
	struct str domain = str_from(d->domain);
	uint16_t port = preview_host_cut_port(&domain);
	struct str asked = str_from(p->asked);
	char name[512];

	if (d->status) {
		exchange_refuse(p->exchange, d->status, "%s", d->why);
		return;
	}
	if (!str_eq_nocase(asked, domain) && !str_eq_nocase(asked, STR(PREVIEW_HOST_LOCAL))) {
		exchange_refuse(p->exchange, 421, "previews of %s are under %.*s", d->sandbox, STR_ARG(domain));
		return;
	}
	snprintf(name, sizeof(name), "%u-%s.%.*s", p->port, d->sandbox, STR_ARG(domain));
	go(p, name, port);
}

static void on_known(struct preview_domain *d)
{
	judge_domain(CONTAINER_OF(d, struct preview, domain));
}

/* False: it waits. */
static bool ask_domain(struct preview *p)
{
	bool known = preview_domain_ask(&p->domain);

	if (known)
		judge_domain(p);
	return known;
}

static void on_admitted(struct admit *a)
{
	(void)ask_domain(CONTAINER_OF(a, struct preview, admit));
}

static void on_refused(struct admit *a)
{
	exchange_refuse(CONTAINER_OF(a, struct preview, admit)->exchange, a->status, "%s", a->why);
}

void preview_start(struct preview *p, struct exchange *e)
{
	enum admit_verdict verdict = ADMIT_YES;

	p->exchange = e;
	if (p->domain.isolated)
		verdict = admit_ask(&p->admit);
	if (verdict == ADMIT_NO)
		on_refused(&p->admit);
	else if (verdict == ADMIT_PENDING || !ask_domain(p))
		exchange_hold_body(e);
}

static void prepare_questions(struct preview *p, const struct preview_case *c)
{
	struct preview_domain *d = &p->domain;

	admit_init(&p->admit, c->admit);
	p->admit.asker = c->caller;
	p->admit.shared_vm_accepted = c->config->upstreams[c->rule->upstream].shared_vm;
	memcpy(p->admit.sandbox, c->host->id, sizeof(p->admit.sandbox));
	p->admit.on_admitted = on_admitted;
	p->admit.on_refused = on_refused;
	d->ownership = &c->admit->ownership;
	d->feed = &c->admit->feed;
	d->asker = c->caller;
	memcpy(d->sandbox, c->host->id, sizeof(d->sandbox));
	d->ttl_ms = c->config->cache.preview_ttl_ms;
	d->isolated = c->rule->isolation == CONFIG_ISOLATION_OWNER;
	d->on_known = on_known;
	preview_domain_init(d);
}

struct preview *preview_new(const struct preview_case *c)
{
	struct preview *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->ways = c->ways;
	p->config = c->config;
	p->rule = c->rule;
	p->port = c->host->port;
	if (c->host->domain.n < sizeof(p->asked))
		snprintf(p->asked, sizeof(p->asked), "%.*s", STR_ARG(c->host->domain));
	snprintf(p->suffix, sizeof(p->suffix), "%.*s", STR_ARG(c->host->suffix));
	prepare_questions(p, c);
	return p;
}

void preview_free(struct preview *p)
{
	if (!p)
		return;
	admit_cancel(&p->admit);
	preview_domain_cancel(&p->domain);
	free(p);
}
