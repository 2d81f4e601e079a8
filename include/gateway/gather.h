/* SPDX-License-Identifier: Apache-2.0 */
/* A request body that is read whole: bounded for itself, for its uid and for everybody, and cut when it hardly comes. */
#ifndef GATEWAY_GATHER_H
#define GATEWAY_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/loop.h"

enum {
	GATHER_MAX_BYTES = 2097152,          /* of one body; a larger one is 413 with this text */
	GATHER_UID_MAX_BYTES = 8 * 1048576,  /* in memory at a time, of one uid */
	GATHER_ALL_MAX_BYTES = 64 * 1048576, /* of everybody */
	GATHER_WINDOW_MS = 30000,            /* in each window so many bytes must come: 1 KiB/s */
	GATHER_WINDOW_MIN_BYTES = 30720,
};
#define GATHER_TOO_LARGE_TEXT "the request body is larger than the 2 MiB allowed here"
#define GATHER_NO_SHARE_TEXT  "too many request bodies are being read at the same time; try again"
#define GATHER_SLOW_TEXT      "the request body comes too slowly: less than 1 KiB/s"

/* What all of them share; owned by the gateway. */
struct gather_shared {
	uint64_t bytes;   /* in memory now */
	uint64_t refused; /* bodies for which there was no share */
	struct deadline_queue windows;
};

void gather_shared_init(struct gather_shared *s, struct loop *loop);
void gather_shared_fini(struct gather_shared *s);

enum gather_result {
	GATHER_OK,
	GATHER_TOO_LARGE, /* 413 */
	GATHER_NO_SHARE,  /* 503 */
	GATHER_NO_MEMORY, /* 503 */
};

/* Embedded in who reads the body. */
struct gather {
	struct gather_shared *shared; /* borrowed; NULL until gather_init */
	uint64_t *uid_bytes;          /* borrowed; in memory now, of the caller's uid */
	struct buf body;              /* so far */
	uint64_t counted;             /* bytes counted in the shares */
	size_t window_bytes;          /* how much there was at the last look */
	bool held;                    /* nothing is read of it now, so that it cannot be slow */
	struct deadline window;
	void (*on_slow)(struct gather *g); /* it must make way: 408; may free it */
};

/* Starts to watch that it comes. */
void gather_init(struct gather *g, struct gather_shared *shared, uint64_t *uid_bytes,
		 void (*on_slow)(struct gather *g));
/* The next bytes; but for GATHER_OK what is to be answered. */
MUST_CHECK enum gather_result gather_add(struct gather *g, const char *p, size_t n);
/* It is whole: nothing is watched any more. */
void gather_end(struct gather *g);
/* Lets the memory and the shares go; harmless without gather_init on zeroed memory, and twice. */
void gather_fini(struct gather *g);

#endif
