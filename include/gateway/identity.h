/* SPDX-License-Identifier: Apache-2.0 */
/* Who a peer is, as the kernel said when its connection was accepted: a plain value that never changes. */
#ifndef GATEWAY_IDENTITY_H
#define GATEWAY_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What the kernel shows for an id that it cannot express here, as under PrivateUsers=yes. */
enum {
	IDENTITY_OVERFLOW_ID = 65534
};

struct identity {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* for people only: never decides anything, since pids are used again */
	size_t ngroups;
	gid_t *groups; /* owned; supplementary groups */
};

void identity_fini(struct identity *id);

/* Whether gid is the peer's own or one of its supplementary groups. */
bool identity_in_group(const struct identity *id, gid_t gid);

/* Whether the kernel told an identity that means somebody: pid 0 and overflow ids mean nobody. */
bool identity_is_known(const struct identity *id);

#endif
