/* SPDX-License-Identifier: Apache-2.0 */
/* One direction of a relayed connection: what was read, what of it may go on, what is to be written. */
#ifndef CLI_FLOW_H
#define CLI_FLOW_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/http_parse.h"

struct flow {
	struct buf in;             /* read, not looked at yet */
	struct buf out;            /* to be written */
	struct http_parser parser; /* of the message under way */
	bool in_body;              /* its head has passed */
	bool begun;                /* the parser of its body has been asked once, since there may be none */
	bool done;                 /* it is over */
	bool eof;                  /* nothing more will be read */
	bool shut;                 /* the end has been passed on, or nobody takes anything any more */
};

void flow_fini(struct flow *f);

/* Forgets the message before and waits for the head of the next. */
void flow_next(struct flow *f, llhttp_type_t kind);

/* Whether there is room for more to be read. */
bool flow_has_room(const struct flow *f);
/* Whether nothing may be added to what is to be written. */
bool flow_is_full(const struct flow *f);
/* Whether memory was lacking for any of it. */
bool flow_failed(const struct flow *f);

/*
 * Reads and writes what the socket gives and takes without waiting. 1: bytes have moved (or the end has come), 0: none, or
 * a negative errno when there is no connection any more.
 */
MUST_CHECK int flow_read(struct flow *f, int fd);
MUST_CHECK int flow_write(struct flow *f, int fd);

/* Moves as much of a body as there is room for. 1: something moved or ended, 0: nothing to do, -1: it is no HTTP. */
MUST_CHECK int flow_move_body(struct flow *f);
/* The same for bytes that mean nothing here. */
bool flow_move_raw(struct flow *f);

#endif
