/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/secret.h"
#include "gateway/config.h"
#include "gateway/credential.h"
#include "gateway/upstream.h"

struct snapshot {
	unsigned refs;
	struct config *config;       /* owned reference */
	struct upstream **upstreams; /* owned references, one per configured upstream */
	struct secret **keys;        /* owned references, one per configured credential */
	struct secret *local_key;    /* owned reference; NULL without a local server */
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

static struct secret *previous_key(const struct snapshot *previous, const struct config_credential *k)
{
	if (!previous)
		return NULL;
	for (size_t i = 0; i < previous->config->ncredentials; i++) {
		const struct config_credential *old = &previous->config->credentials[i];
		if (old->source == k->source && strcmp(old->from, k->from) == 0)
			return previous->keys[i];
	}
	return NULL;
}

static int load_keys(struct snapshot *s, const struct snapshot *previous, char *why, size_t why_size)
{
	for (size_t i = 0; i < s->config->ncredentials; i++) {
		const struct config_credential *k = &s->config->credentials[i];
		int rc = credential_load(k, previous_key(previous, k), &s->keys[i], why, why_size);
		if (rc)
			return rc;
	}
	return 0;
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

int snapshot_new(struct loop *loop, struct dialer *dialer, struct config *config, const struct snapshot_local *local,
		 const struct snapshot *previous, struct snapshot **out, char *why, size_t why_size)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int rc;

	snprintf(why, why_size, "out of memory");
	if (!s)
		return -ENOMEM;
	s->refs = 1;
	s->config = config_ref(config);
	s->upstreams = calloc(config->nupstreams + 1, sizeof(struct upstream *));
	s->keys = calloc(config->ncredentials + 1, sizeof(struct secret *));
	if (local->key)
		s->local_key = secret_ref(local->key);
	rc = s->upstreams && s->keys ? 0 : -ENOMEM;
	if (rc == 0)
		rc = load_keys(s, previous, why, why_size);
	if (rc == 0)
		rc = make_upstreams(s, loop, dialer, local, previous);
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
	for (size_t i = 0; s->keys && i < s->config->ncredentials; i++)
		secret_unref(s->keys[i]);
	free(s->upstreams);
	free(s->keys);
	secret_unref(s->local_key);
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

struct secret *snapshot_key(const struct snapshot *s, const struct config_rule *rule)
{
	if (s->config->upstreams[rule->upstream].scheme == CONFIG_LOCAL)
		return s->local_key;
	return rule->has_credential ? s->keys[rule->credential] : NULL;
}
