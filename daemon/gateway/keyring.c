/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key is a small holder of the present secret. Configurations come and go around it: a reload finds the key of the same
 * source again. A value that is read and good replaces the old one by a pointer; requests under way hold a reference to the
 * one they began with. What cannot be read, or is no key, leaves the last good one in force, and that is said once, when it
 * begins, and when it is over.
 */
#include "gateway/keyring.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/secret.h"
#include "gateway/config.h"
#include "gateway/credential.h"
#include "gateway/key_command.h"
#include "gateway/key_watch.h"

enum {
	REFUSED_PAUSE_MS = 5000,
	TROUBLE_BYTES = 256
};

struct key {
	unsigned refs;
	struct list link;         /* keyring.keys */
	struct keyring *ring;     /* borrowed; NULL: fixed */
	struct config_key source; /* owned */
	char *name;               /* owned; the credential's */
	struct secret *secret;    /* owned reference; NULL: not loaded */
	uint64_t since_ms;        /* when the present value was first read */
	uint64_t changes;
	uint64_t refused_at_ms;      /* the last re-reading for a refusal; 0: none */
	char trouble[TROUBLE_BYTES]; /* of the last reading; empty: none */
	struct key_watch_file file;  /* file and systemd sources */
	struct key_command *command; /* owned; command sources */
	struct list waiting;         /* struct key_wait */
};

struct keyring {
	struct loop *loop;         /* borrowed */
	struct launcher *launcher; /* borrowed */
	struct key_watch *watch;   /* owned */
	struct list keys;          /* struct key; those of variables with a reference of ours */
};

/* --- values -------------------------------------------------------------------------------------------------------------- */

/* Puts a value in force that has just been read; consumes the reference. */
static void use(struct key *k, struct secret *fresh)
{
	bool changed = k->secret && !secret_same(k->secret, fresh);

	if (changed || !k->secret)
		k->since_ms = clock_ms();
	if (k->trouble[0])
		log_info("credential \"%s\": %s can be read again", k->name, k->source.from);
	k->trouble[0] = '\0';
	if (k->secret && !changed) {
		secret_unref(fresh);
		return;
	}
	if (changed) {
		k->changes++;
		log_info("credential \"%s\": %s holds a new key, used from now on", k->name, k->source.from);
	}
	secret_unref(k->secret);
	k->secret = fresh;
}

static void complain(struct key *k, const char *why)
{
	if (strcmp(k->trouble, why) == 0)
		return;
	snprintf(k->trouble, sizeof(k->trouble), "%s", why);
	log_error("credential \"%s\": %s; %s", k->name, why,
		  k->secret ? "the last good key stays in use" : "its requests are answered 503 until that works");
}

/* Reads a file now. */
static int read_now(struct key *k, char *why, size_t why_size)
{
	struct secret *fresh;
	int rc;

	key_watch_note(&k->file);
	rc = credential_load(&k->source, &fresh, why, why_size);
	if (rc == 0)
		use(k, fresh);
	return rc;
}

static void read_again(struct key *k)
{
	char why[TROUBLE_BYTES];

	if (read_now(k, why, sizeof(why)))
		complain(k, why);
}

static void on_change(struct key_watch_file *f)
{
	read_again(CONTAINER_OF(f, struct key, file));
}

/* --- commands ------------------------------------------------------------------------------------------------------------ */

static void settle(struct key *k)
{
	struct key_wait *w;

	while ((w = LIST_FIRST(&k->waiting, struct key_wait, link))) {
		list_remove(&w->link);
		w->on_settled(w);
	}
}

static int on_output(void *arg, char *bytes, size_t n)
{
	struct key *k = arg;
	struct secret *fresh;
	char why[TROUBLE_BYTES];
	int rc = credential_take(&k->source, bytes, n, &fresh, why, sizeof(why));

	if (rc == 0)
		use(k, fresh);
	else
		complain(k, why);
	settle(k);
	return rc;
}

static void on_failure(void *arg, const char *why)
{
	struct key *k = arg;
	char text[TROUBLE_BYTES];

	snprintf(text, sizeof(text), "command %s: %s", k->source.from, why);
	complain(k, text);
	settle(k);
}

static const struct key_command_events command_events = {on_output, on_failure};

/* --- refusals ------------------------------------------------------------------------------------------------------------ */

static enum key_verdict await(struct key *k, struct key_wait *wait)
{
	if (wait)
		list_add_tail(&k->waiting, &wait->link);
	return KEY_AWAITED;
}

enum key_verdict key_refused(struct key *k, const struct secret *used, struct key_wait *wait)
{
	uint64_t now = clock_ms();

	if (k->secret != used)
		return KEY_CHANGED;
	if (k->command && key_command_is_running(k->command))
		return await(k, wait);
	if (!k->ring || k->source.source == CONFIG_SOURCE_ENV ||
	    (k->refused_at_ms && now - k->refused_at_ms < REFUSED_PAUSE_MS))
		return KEY_SAME;
	k->refused_at_ms = now;
	log_warn("credential \"%s\": the server refuses the key, %s is read again", k->name, k->source.from);
	if (k->command) {
		key_command_run(k->command);
		return await(k, wait);
	}
	read_again(k);
	return k->secret == used ? KEY_SAME : KEY_CHANGED;
}

void key_wait_init(struct key_wait *w, void (*on_settled)(struct key_wait *w))
{
	list_init(&w->link);
	w->on_settled = on_settled;
}

void key_wait_cancel(struct key_wait *w)
{
	list_remove(&w->link);
}

/* --- life ---------------------------------------------------------------------------------------------------------------- */

static void key_free(struct key *k)
{
	CHECK(list_empty(&k->waiting));
	list_remove(&k->link);
	if (k->ring)
		key_watch_remove(k->ring->watch, &k->file);
	key_command_free(k->command);
	secret_unref(k->secret);
	config_key_fini(&k->source);
	free(k->name);
	free(k);
}

struct key *key_ref(struct key *k)
{
	k->refs++;
	return k;
}

void key_unref(struct key *k)
{
	if (!k)
		return;
	CHECK(k->refs > 0);
	if (--k->refs == 0)
		key_free(k);
}

static struct key *key_new(void)
{
	struct key *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->refs = 1;
	list_init(&k->link);
	list_init(&k->waiting);
	k->file.on_change = on_change;
	return k;
}

struct key *key_fixed(struct secret *s)
{
	struct key *k = key_new();

	if (!k)
		return NULL;
	k->secret = secret_ref(s);
	k->since_ms = clock_ms();
	return k;
}

/* Its first value, or what leads to it. */
static int begin(struct key *k, char *why, size_t why_size)
{
	char path[PATH_MAX];
	struct secret *value;
	int rc;

	switch (k->source.source) {
	case CONFIG_SOURCE_FILE:
	case CONFIG_SOURCE_SYSTEMD:
		rc = credential_path(&k->source, path, why, why_size);
		if (rc == 0)
			rc = key_watch_add(k->ring->watch, &k->file, path);
		return rc ? rc : read_now(k, why, why_size);
	case CONFIG_SOURCE_ENV:
		rc = credential_load(&k->source, &value, why, why_size);
		if (rc == 0) {
			use(k, value);
			key_ref(k); /* the keyring's */
		}
		return rc;
	case CONFIG_SOURCE_COMMAND:
		rc = key_command_new(k->ring->loop, k->ring->launcher, &k->source, &command_events, k, &k->command);
		if (rc == 0)
			key_command_run(k->command);
		return rc;
	case CONFIG_SOURCE_NONE:
		break;
	}
	CHECK(!"a key without a source");
	return -EINVAL;
}

/* One that is there already, for another credential or after a reload. */
static int renew(struct key *k, char *why, size_t why_size)
{
	if (k->file.path)
		return read_now(k, why, why_size);
	if (k->command)
		key_command_run(k->command);
	return 0;
}

static struct key *find(struct keyring *r, const struct config_key *source)
{
	LIST_FOREACH (n, &r->keys) {
		struct key *k = CONTAINER_OF(n, struct key, link);
		if (config_key_same(&k->source, source))
			return k;
	}
	return NULL;
}

/* What the file lacks now it may have later: the watch will see. */
static int tolerate(struct key *k, int rc, const char *why)
{
	if (rc == 0 || rc == -ENOMEM || !k->file.path)
		return rc;
	snprintf(k->trouble, sizeof(k->trouble), "%s", why);
	return 0;
}

static int make(struct keyring *r, const struct config_key *source, const char *name, bool awaited, struct key **out,
		char *why, size_t why_size)
{
	struct key *k = key_new();
	int rc;

	if (!k)
		return -ENOMEM;
	k->ring = r;
	list_add_tail(&r->keys, &k->link);
	k->name = strdup(name);
	rc = k->name ? config_key_copy(&k->source, source) : -ENOMEM;
	if (rc == 0)
		rc = begin(k, why, why_size);
	if (awaited)
		rc = tolerate(k, rc, why);
	if (rc)
		key_unref(k);
	else
		*out = k;
	return rc;
}

int keyring_get(struct keyring *r, const struct config_key *source, const char *name, struct key **out, char *why,
		size_t why_size)
{
	struct key *k = find(r, source);
	int rc;

	snprintf(why, why_size, "out of memory");
	if (!k)
		return make(r, source, name, false, out, why, why_size);
	rc = renew(k, why, why_size);
	if (rc == 0)
		*out = key_ref(k);
	return rc;
}

int keyring_await(struct keyring *r, const struct config_key *source, const char *name, struct key **out)
{
	char why[TROUBLE_BYTES] = "";
	struct key *k = find(r, source);
	int rc;

	if (!k)
		return make(r, source, name, true, out, why, sizeof(why));
	rc = tolerate(k, renew(k, why, sizeof(why)), why);
	if (rc == 0)
		*out = key_ref(k);
	return rc;
}

struct secret *key_secret(const struct key *k)
{
	return k->secret;
}

const char *key_name(const struct key *k)
{
	return k->name ? k->name : "";
}

uint64_t key_changes(const struct key *k)
{
	return k->changes;
}

struct key_state key_state(const struct key *k)
{
	return (struct key_state){
		.loaded = k->secret,
		.age_ms = k->secret ? clock_ms() - k->since_ms : 0,
		.changes = k->changes,
		.error = k->trouble[0] ? k->trouble : NULL,
	};
}

int keyring_new(struct loop *loop, struct launcher *launcher, struct keyring **out)
{
	struct keyring *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	r->loop = loop;
	r->launcher = launcher;
	list_init(&r->keys);
	rc = key_watch_new(loop, &r->watch);
	if (rc) {
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void keyring_free(struct keyring *r)
{
	if (!r)
		return;
	LIST_FOREACH_SAFE (n, &r->keys) {
		struct key *k = CONTAINER_OF(n, struct key, link);
		CHECK(k->source.source == CONFIG_SOURCE_ENV);
		key_unref(k);
	}
	CHECK(list_empty(&r->keys));
	key_watch_free(r->watch);
	free(r);
}
