/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "gateway/config.h"
#include "gateway/keyring.h"
#include "gateway/meter.h"
#include "gateway/upstream.h"

struct snapshot {
	unsigned refs;
	struct config *config;       /* owned reference */
	struct upstream **upstreams; /* owned references, one per configured upstream */
	struct upstream *tracing;    /* owned reference; NULL: no traces are made */
	struct key **keys;           /* owned references, one per configured credential */
	struct key **admin_keys;     /* the same; NULL where none was written */
	struct meter **meters;       /* owned references, one per rule and one for who matches none */
	struct key *local_key;       /* owned reference; NULL without a local server */
	struct key *local_admin_key; /* the same */
};

static struct upstream *kept_upstream(const struct snapshot *previous, const struct config_upstream *u)
{
	if (!previous)
		return NULL;
	for (size_t i = 0; i < previous->config->nupstreams; i++)
		if (config_upstream_same(&previous->config->upstreams[i], u))
			return upstream_ref(previous->upstreams[i]);
	return NULL;
}

/* The counters of the rule of that name; NULL: it is a new one. */
static struct meter *kept_meter(const struct snapshot *previous, const char *name)
{
	for (size_t i = 0; previous && i < previous->config->nrules; i++)
		if (strcmp(previous->config->rules[i].name, name) == 0)
			return meter_ref(previous->meters[i]);
	return NULL;
}

static int make_meters(struct snapshot *s, const struct snapshot *previous)
{
	const size_t n = s->config->nrules;

	for (size_t i = 0; i < n; i++) {
		s->meters[i] = kept_meter(previous, s->config->rules[i].name);
		if (!s->meters[i])
			s->meters[i] = meter_new();
		if (!s->meters[i])
			return -ENOMEM;
	}
	s->meters[n] = previous ? meter_ref(previous->meters[previous->config->nrules]) : meter_new();
	return s->meters[n] ? 0 : -ENOMEM;
}

static int get_keys(struct snapshot *s, struct keyring *keyring, char *why, size_t why_size)
{
	int rc = 0;

	for (size_t i = 0; i < s->config->ncredentials && rc == 0; i++) {
		const struct config_credential *k = &s->config->credentials[i];
		char text[256];
		rc = keyring_get(keyring, &k->api_key, k->name, &s->keys[i], text, sizeof(text));
		if (rc == 0 && k->admin_api_key.source != CONFIG_SOURCE_NONE)
			rc = keyring_get(keyring, &k->admin_api_key, k->name, &s->admin_keys[i], text, sizeof(text));
		if (rc)
			config_say(s->config, k->at, why, why_size, "credential \"%s\": %s", k->name, text);
	}
	return rc;
}

static int make_upstreams(struct snapshot *s, struct loop *loop, struct dialer *dialer,
			  const struct snapshot_local *local, const struct snapshot *previous)
{
	for (size_t i = 0; i < s->config->nupstreams; i++) {
		const struct config_upstream *u = &s->config->upstreams[i];
		const char *path = u->scheme == CONFIG_LOCAL ? local->socket : u->path;
		s->upstreams[i] = kept_upstream(previous, u);
		if (!s->upstreams[i])
			s->upstreams[i] = upstream_new(loop, dialer, u, path);
		if (!s->upstreams[i])
			return -ENOMEM;
	}
	return 0;
}

static int make_tracing(struct snapshot *s, struct loop *loop, struct dialer *dialer, const struct snapshot *previous)
{
	const struct config_upstream *to = &s->config->tracing.to;

	if (!to->url)
		return 0;
	if (previous && previous->tracing && config_upstream_same(&previous->config->tracing.to, to)) {
		s->tracing = upstream_ref(previous->tracing);
		return 0;
	}
	s->tracing = upstream_new(loop, dialer, to, to->path);
	if (!s->tracing)
		return -ENOMEM;
	upstream_stay_quiet(s->tracing);
	return 0;
}

int snapshot_new(struct loop *loop, struct dialer *dialer, struct keyring *keyring, struct config *config,
		 const struct snapshot_local *local, const struct snapshot *previous, struct snapshot **out, char *why,
		 size_t why_size)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int rc;

	snprintf(why, why_size, "out of memory");
	if (!s)
		return -ENOMEM;
	s->refs = 1;
	s->config = config_ref(config);
	s->upstreams = calloc(config->nupstreams + 1, sizeof(struct upstream *));
	s->keys = calloc(config->ncredentials + 1, sizeof(struct key *));
	s->admin_keys = calloc(config->ncredentials + 1, sizeof(struct key *));
	s->meters = calloc(config->nrules + 1, sizeof(struct meter *));
	if (local->key) {
		s->local_key = key_ref(local->key);
		s->local_admin_key = key_ref(local->admin_key);
	}
	rc = s->upstreams && s->keys && s->admin_keys && s->meters ? 0 : -ENOMEM;
	if (rc == 0)
		rc = make_meters(s, previous);
	if (rc == 0)
		rc = make_upstreams(s, loop, dialer, local, previous);
	if (rc == 0)
		rc = make_tracing(s, loop, dialer, previous);
	if (rc == 0)
		rc = get_keys(s, keyring, why, why_size);
	if (rc) {
		snapshot_unref(s);
		return rc;
	}
	*out = s;
	return 0;
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
	s->refs++;
	return s;
}

void snapshot_unref(struct snapshot *s)
{
	if (!s)
		return;
	CHECK(s->refs > 0);
	if (--s->refs)
		return;
	for (size_t i = 0; s->upstreams && i < s->config->nupstreams; i++)
		upstream_unref(s->upstreams[i]);
	upstream_unref(s->tracing);
	for (size_t i = 0; s->keys && i < s->config->ncredentials; i++)
		key_unref(s->keys[i]);
	for (size_t i = 0; s->admin_keys && i < s->config->ncredentials; i++)
		key_unref(s->admin_keys[i]);
	for (size_t i = 0; s->meters && i <= s->config->nrules; i++)
		meter_unref(s->meters[i]);
	free(s->meters);
	free(s->upstreams);
	free(s->keys);
	free(s->admin_keys);
	key_unref(s->local_key);
	key_unref(s->local_admin_key);
	config_unref(s->config);
	free(s);
}

const struct config *snapshot_config(const struct snapshot *s)
{
	return s->config;
}

struct upstream *snapshot_upstream(const struct snapshot *s, size_t index)
{
	CHECK(index < s->config->nupstreams);
	return s->upstreams[index];
}

struct upstream *snapshot_tracing(const struct snapshot *s)
{
	return s->tracing;
}

struct key *snapshot_key(const struct snapshot *s, const struct config_rule *rule)
{
	if (s->config->upstreams[rule->upstream].scheme == CONFIG_LOCAL)
		return s->local_key;
	return rule->has_credential ? s->keys[rule->credential] : NULL;
}

struct key *snapshot_admin_key(const struct snapshot *s, const struct config_rule *rule)
{
	if (!rule->admin)
		return NULL;
	if (s->config->upstreams[rule->upstream].scheme == CONFIG_LOCAL)
		return s->local_admin_key;
	return rule->has_credential ? s->admin_keys[rule->credential] : NULL;
}

struct key *snapshot_credential(const struct snapshot *s, size_t index)
{
	CHECK(index < s->config->ncredentials);
	return s->keys[index];
}

struct key *snapshot_admin_credential(const struct snapshot *s, size_t index)
{
	CHECK(index < s->config->ncredentials);
	return s->admin_keys[index];
}

struct meter *snapshot_meter(const struct snapshot *s, const struct config_rule *rule)
{
	return s->meters[rule ? (size_t)(rule - s->config->rules) : s->config->nrules];
}

static const struct config_credential *find_credential(const struct config *c, const char *name, size_t *index)
{
	for (size_t i = 0; i < c->ncredentials; i++) {
		if (strcmp(c->credentials[i].name, name) != 0)
			continue;
		*index = i;
		return &c->credentials[i];
	}
	return NULL;
}

bool snapshot_find(const struct snapshot *s, const char *upstream, const char *url, const char *credential,
		   struct upstream **u, struct key **key)
{
	const struct config *c = s->config;
	size_t which = 0;

	for (size_t i = 0; i < c->nupstreams; i++) {
		if (strcmp(c->upstreams[i].name, upstream) != 0 || strcmp(c->upstreams[i].url, url) != 0)
			continue;
		if (c->upstreams[i].scheme == CONFIG_LOCAL)
			*key = s->local_key;
		else if (!credential)
			*key = NULL;
		else if (find_credential(c, credential, &which))
			*key = s->keys[which];
		else
			return false;
		*u = s->upstreams[i];
		return true;
	}
	return false;
}
