/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the configuration, each kept as its source has it now: files are watched, commands run again. */
#ifndef GATEWAY_KEYRING_H
#define GATEWAY_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"

struct config_key;
struct key;
struct keyring;
struct launcher;
struct loop;
struct secret;

/* Both are borrowed for its life. 0 or -ENOMEM. */
MUST_CHECK int keyring_new(struct loop *loop, struct launcher *launcher, struct keyring **out);
/* When nobody holds a key of it any more. NULL is fine. */
void keyring_free(struct keyring *r);

/*
 * The key of this source, one for all who name it, read anew; `name` is the credential's, for the log. A variable is read
 * once and kept until the keyring goes, since it is taken out of the environment. A command is started, and the key has no
 * value until it has ended well. 0 and *out, the caller's reference; or a negative errno and `why`, and a key that was there
 * before keeps its value.
 */
MUST_CHECK int keyring_get(struct keyring *r, const struct config_key *source, const char *name, struct key **out,
			   char *why, size_t why_size);

/* The same for a file that may not be there yet: until it is, the key has no value. 0 or -ENOMEM. */
MUST_CHECK int keyring_await(struct keyring *r, const struct config_key *source, const char *name, struct key **out);

/* A key that never changes, of a secret that a reference is taken to. NULL without memory. */
struct key *key_fixed(struct secret *s);

struct key *key_ref(struct key *k);
/* NULL is fine. Not from within an on_settled. */
void key_unref(struct key *k);

/* What it is now: borrowed, until the loop's next turn; NULL: not loaded. Who needs it longer takes a reference. */
struct secret *key_secret(const struct key *k);

/* The name of the credential that it was first asked for by, "" of a fixed one, and how often another value came. */
const char *key_name(const struct key *k);
uint64_t key_changes(const struct key *k);

/* For health and status. */
struct key_state {
	bool loaded;
	uint64_t age_ms;  /* since this value was first read; 0 unless loaded */
	uint64_t changes; /* how often another value came */
	const char *
		error; /* why it could not be read the last time; NULL: it could. Borrowed; never a byte of the value */
};
struct key_state key_state(const struct key *k);

enum key_verdict {
	KEY_CHANGED, /* key_secret() is another one than was refused */
	KEY_SAME,    /* and will be for a while: the refusal stands */
	KEY_AWAITED, /* it is being read: on_settled follows, from the loop */
};

/* Who waits for a key to be read; embedded. */
struct key_wait {
	struct list link; /* key.waiting */
	void (*on_settled)(struct key_wait *w);
};

/*
 * The server refused `used`, a value that this key had: it is read anew, at most once in 5 s. `wait` may be NULL: nobody
 * waits. It must be initialised by key_wait_init.
 */
MUST_CHECK enum key_verdict key_refused(struct key *k, const struct secret *used, struct key_wait *wait);
void key_wait_init(struct key_wait *w, void (*on_settled)(struct key_wait *w));
/* No longer waits. */
void key_wait_cancel(struct key_wait *w);

#endif
