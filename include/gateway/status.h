/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon says of itself as JSON: all of it to administrators, to others their part. */
#ifndef GATEWAY_STATUS_H
#define GATEWAY_STATUS_H

#include <stddef.h>
#include <stdint.h>

struct client_shared;
struct config_rule;
struct control_stats;
struct identity;
struct json_writer;
struct key;
struct snapshot;

/* Who asks. Borrowed. */
struct status_caller {
	const struct identity *peer;
	const char *listener;
	const struct config_rule *rule; /* never NULL: who matches none gets no further */
	const char *user_id;
	const uint64_t *own_connections; /* of the same uid, now */
};

/* What it is asked about, and by whom. Borrowed; the caller's rule belongs to the snapshot. */
struct status_view {
	const struct snapshot *snapshot;
	const struct control_stats *stats;
	const struct client_shared *clients;
	struct status_caller caller;
};

/* The whole document, an object without newline. */
void status_write(const struct status_view *v, struct json_writer *w);

/* --- parts that other answers have as well: members of an object that is begun --------------------------------------------- */

void status_write_version(const struct status_view *v, struct json_writer *w);
/* Why an upstream does not work, as far as is known; NULL when it does. */
const char *status_upstream_error(const struct status_view *v, size_t index);
void status_write_upstream(const struct status_view *v, struct json_writer *w, size_t index);
/* Only where it is known that users share a machine. */
void status_write_shared_vm(const struct status_view *v, struct json_writer *w, size_t index);
void status_write_credentials(const struct status_view *v, struct json_writer *w);

#endif
