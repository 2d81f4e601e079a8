/* SPDX-License-Identifier: Apache-2.0 */
/* Who a peer is, as the kernel said when its connection was accepted: a plain value that never changes. */
#ifndef GATEWAY_IDENTITY_H
#define GATEWAY_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/str.h"

/* What the kernel shows for an id that it cannot express here, as under PrivateUsers=yes. */
enum {
	IDENTITY_OVERFLOW_ID = 65534
};

struct identity {
	uid_t uid;
	gid_t gid;        /* (gid_t)-1 over TCP, where the kernel tells the uid only */
	pid_t pid;        /* for people only: never decides anything, since pids are used again; 0 over TCP */
	bool over_tcp;    /* told by the kernel's table of sockets, not by the socket itself */
	bool traits_read; /* exe and unit were asked for, whatever came of it */
	size_t ngroups;
	gid_t *groups; /* owned; supplementary groups */
	char *exe;     /* owned; path of the executable; NULL: not asked, or not to be told for certain */
	char *unit;    /* owned; "x.service" of the system, "user@UID:x.service" of a user; NULL: as above, or none */
};

void identity_fini(struct identity *id);

/* Whether gid is the peer's own or one of its supplementary groups. */
bool identity_in_group(const struct identity *id, gid_t gid);

/* Whether the kernel told an identity that means somebody: pid 0 and overflow ids mean nobody. */
bool identity_is_known(const struct identity *id);

/*
 * The systemd unit that a process's cgroups (the text of /proc/PID/cgroup) say: *out, owned by the caller, or NULL where
 * they say none. 0 or -ENOMEM.
 */
MUST_CHECK int identity_unit_of(struct str cgroups, char **out);

/* The number behind "NAME:" in the text of /proc/PID/status, the first of several, in that base. 0 or -EINVAL. */
MUST_CHECK int identity_status_field(struct str status, struct str name, unsigned base, uint64_t *out);

#endif
