/* SPDX-License-Identifier: Apache-2.0 */
/* One connection through the door of a preview: request by request to the gateway, each head judged. */
#ifndef CLI_RELAY_H
#define CLI_RELAY_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct admit;
struct relay;

/* What all relays of a door share; borrowed by them. */
struct relay_way {
	const struct admit *admit;
	const char *socket_path; /* the gateway's */
};

/* Takes the accepted, non-blocking connection over, whose peer may come in. NULL without memory: then it is closed. */
struct relay *relay_new(const struct relay_way *way, int fd, uint64_t now_ms);
void relay_free(struct relay *r);

enum {
	RELAY_FDS = 2
};

/* What it waits for; a descriptor of -1 is none. */
void relay_wants(const struct relay *r, struct pollfd fds[RELAY_FDS]);
/* When it is to be run at the latest; 0: no such time. */
uint64_t relay_deadline_ms(const struct relay *r);
/* Goes on with what poll() said. False: it is over and to be freed. */
bool relay_run(struct relay *r, const struct pollfd fds[RELAY_FDS], uint64_t now_ms);

#endif
