/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a sandbox for a caller: what is asked for is judged, what the caller has is counted, and one spawn is sent. */
#ifndef GATEWAY_MAKER_H
#define GATEWAY_MAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/str.h"
#include "gateway/call.h"
#include "gateway/spawn.h"

struct maker_ask {
	struct str body;       /* spawn fields, or the overrides of a template; borrowed for the call */
	struct str lines;      /* header lines of the client's that go with the spawn; borrowed until it is sent */
	struct str template;   /* its name as it stands in a path; n 0: none; borrowed for the call */
	uint64_t lease_ttl_ms; /* of the sandbox, whatever was asked for; 0: that */
	bool keep;             /* for a retry when its client has left */
};

/* Embedded in who makes one. */
struct maker {
	struct spawn_shared *spawns;   /* borrowed */
	const struct call_case *c;     /* borrowed; the request for which it is made */
	struct buf body;               /* overrides, later what is sent */
	struct str lines;              /* borrowed */
	struct template_get *template; /* owned; while it is read */
	struct survey *survey;         /* owned; while it counts */
	uint64_t lease_ttl_ms;
	uint64_t counted; /* by the survey */
	uint64_t others;  /* spawns of his that were under way when it began */
	bool keep;
	bool taken;          /* one spawn of his is counted in the limiter */
	bool sent;           /* a spawn has been asked for */
	struct spawn *spawn; /* owned: to be taken or left; NULL unless one is under way */
	/* Known from the verdict on the body on. */
	unsigned clamped; /* bits of body.h */
	uint64_t ttl_ms;  /* asked for, within the limits; 0: not said */
	char token[SPAWN_TOKEN_BYTES + 1];
	/* One of them, once; may come from within maker_start. The sandbox is to be taken or left from within (spawn.h). */
	void (*on_made)(struct maker *m, const struct spawn_result *r);
	void (*on_refused)(struct maker *m, unsigned status, const char *why);
	/* The server answered otherwise than with a sandbox. */
	void (*on_answered)(struct maker *m, const struct spawn_result *r);
};

/* The callbacks are set by whoever embeds it. */
void maker_init(struct maker *m, struct spawn_shared *spawns, const struct call_case *c);
void maker_start(struct maker *m, const struct maker_ask *ask);
/* Gives up: what is under way at the server is left (spawn.h). Harmless at any time after maker_init. */
void maker_cancel(struct maker *m);
/* The sandbox is the client's. */
void maker_taken(struct maker *m);

#endif
