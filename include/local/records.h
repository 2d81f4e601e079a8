/* SPDX-License-Identifier: Apache-2.0 */
/* What the server knows of each sandbox: its record, from the spawn to long after its end. */
#ifndef LOCAL_RECORDS_H
#define LOCAL_RECORDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/json_write.h"
#include "common/list.h"
#include "common/str.h"

struct event;
struct loop;
struct records;
struct sandbox_host;

enum record_state {
	RECORD_CREATING,
	RECORD_RUNNING,
	RECORD_EXPIRED,   /* its time is over; it is being destroyed */
	RECORD_ERROR,     /* it could not be started, or ended by itself */
	RECORD_DESTROYED, /* by request, or after it expired; the record is remembered for a while */
	RECORD_STATES,
};

enum {
	RECORD_ID_SIZE = 16 /* with the NUL */
};

/* The word for it in answers. */
const char *record_state_name(enum record_state state);
/* Whether a record may go from one state to the other. */
bool record_state_may_follow(enum record_state from, enum record_state to);

/* One who waits until everything of a sandbox is gone. */
struct record_waiter {
	struct list link; /* on the record's list while waiting */
	void (*on_gone)(struct record_waiter *w);
};

struct record {
	struct list link;        /* on the list of live or of remembered records, newest first */
	struct list hash_link;   /* on the list of its hash bucket */
	struct records *records; /* borrowed */
	enum record_state state;
	bool announced;          /* it ran, so somebody may know its id */
	char id[RECORD_ID_SIZE]; /* "sb-" and 8 hex digits */
	struct sandbox *sandbox; /* NULL once it is gone */
	char *image;             /* owned; NULL when only remembered */
	char *owner_id;          /* owned; NULL without one */
	json_t *metadata;        /* owned; NULL or a map of strings */
	int64_t memory_mb;
	int64_t vcpus;
	int64_t created_ns;   /* wall clock */
	int64_t expires_ns;   /* wall clock */
	struct event *expiry; /* owned; its timer */
	struct list waiters;  /* struct record_waiter */
	struct list previews; /* struct preview: connections to its ports; for that module */
	size_t npreviews;     /* on that list */
	/* Set while a spawn waits: called once, when it runs (error 0) or could not be started. */
	void (*on_started)(void *arg, struct record *r, int error, const char *why);
	void *on_started_arg;
};

struct record_spec {
	struct str image;
	struct str owner_id;    /* empty: none */
	const json_t *metadata; /* NULL or a map of strings; copied */
	int64_t memory_mb;
	int64_t vcpus;
	int64_t ttl_ns; /* zero or less: expired at birth */
};

/* What others want to hear of all records. */
struct records_watch {
	/* Destroyed, and nothing of its sandbox is left; its spawn had been answered. */
	void (*on_destroyed)(void *arg, const struct record *r);
	/* Nothing of its sandbox is left, however that came. */
	void (*on_gone)(void *arg, struct record *r);
};

/* NULL without memory. */
struct records *records_new(struct loop *loop, struct sandbox_host *host);
/* After the host has stopped, so that no sandbox is left but those that are kept: these go on without us. NULL is fine. */
void records_free(struct records *rs);

/* `watch` and `arg` are borrowed. */
void records_watch(struct records *rs, const struct records_watch *watch, void *arg);

/* Begins a sandbox; on_started follows, never from within this call. NULL without memory. */
struct record *records_spawn(struct records *rs, const struct record_spec *spec,
			     void (*on_started)(void *arg, struct record *r, int error, const char *why), void *arg);

/*
 * Takes up the sandboxes that an earlier server left with the host, each as it was: running, with its time going on. What cannot
 * be taken up is destroyed.
 */
void records_resume(struct records *rs);

/* The record of an id, also a remembered one; NULL when it was never known or is forgotten. */
struct record *records_find(struct records *rs, struct str id);

/* Nobody waits for the spawn any more; the sandbox is destroyed. */
void record_abandon(struct record *r);

/* Destroys a sandbox, whatever its state; `w` (may be NULL) hears when it is gone, never from within this call. */
void record_destroy(struct record *r, struct record_waiter *w);
/* Destroys it if it would not outlive us. */
void record_destroy_unless_kept(struct record *r);
/* The waiter is not interested any more. */
void record_waiter_cancel(struct record_waiter *w);

/* Its life now ends ttl_ns (more than 0) from now. */
void record_extend(struct record *r, int64_t ttl_ns);

/* Calls `each` for every record that is not destroyed, newest first; each may destroy the record. */
void records_each(struct records *rs, void (*each)(struct record *r, void *arg), void *arg);

/* How many are not destroyed; with an owner only his. */
size_t records_count(const struct records *rs, struct str owner_id);

/* Writes it as a sandbox object of the API. */
void record_write(const struct record *r, struct json_writer *w, const char *key);

#endif
