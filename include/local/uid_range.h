/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel uids that a server started by root gives its sandboxes: a range that is nobody else's. */
#ifndef LOCAL_UID_RANGE_H
#define LOCAL_UID_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

enum {
	UID_RANGE_DEFAULT = 512
};

struct uid_range {
	uint32_t first;
	uint32_t count;
};

/* Where it is written down what is taken. */
struct uid_sources {
	const char *uid_map; /* borrowed; the ids that exist in this user namespace, as /proc/self/uid_map */
	const char *gid_map;
	const char *subuid; /* borrowed; as /etc/subuid; a missing file names nobody */
	const char *subgid;
	bool nss; /* also ask the system's user and group databases */
};

extern const struct uid_sources uid_sources_system;

/*
 * Whether the range may be used. Blocking. 0, or -EEXIST and `why` names the range and what it overlaps, or -ERANGE (not
 * all of it exists here), or another negative errno.
 */
MUST_CHECK int uid_range_check(struct uid_range range, const struct uid_sources *from, char *why, size_t why_size);

/* Finds `count` free ones; the seed says where to begin, so that two servers come out at different places. */
MUST_CHECK int uid_range_pick(uint32_t count, uint64_t seed, const struct uid_sources *from, struct uid_range *out,
			      char *why, size_t why_size);

#endif
