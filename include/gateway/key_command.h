/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the command that prints a key: at once, again at its ttl, and after a failure with growing pauses. */
#ifndef GATEWAY_KEY_COMMAND_H
#define GATEWAY_KEY_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/sm.h"

struct config_key;
struct key_command;
struct launcher;
struct loop;

struct key_command_events {
	/* It ended with status 0 and printed this; wiped afterwards. Whether that was a key: 0 or a negative errno. */
	int (*on_output)(void *arg, char *bytes, size_t n);
	/* It did not come to that; `why` holds nothing of what it printed. */
	void (*on_failure)(void *arg, const char *why);
};

/* Everything but `out` is borrowed for its life. 0 or -ENOMEM. */
MUST_CHECK int key_command_new(struct loop *loop, struct launcher *launcher, const struct config_key *key,
			       const struct key_command_events *events, void *arg, struct key_command **out);
/* Runs it now, unless it runs; one of the events follows, never from within this call. */
void key_command_run(struct key_command *c);
/* Whether it runs now, so that an event follows. */
bool key_command_is_running(const struct key_command *c);
/* Kills it if it runs. NULL is fine. Not from within its events. */
void key_command_free(struct key_command *c);

/* The table of states, for the test that walks it. */
const struct sm *key_command_sm(void);

#endif
