/* SPDX-License-Identifier: Apache-2.0 */
/* Started as root, the daemon becomes the user that the configuration names. */
#ifndef GATEWAY_OWN_USER_H
#define GATEWAY_OWN_USER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

struct config;
struct config_places;

/* Whether this process is another user than the configuration names; false when it names none. */
bool own_user_differs(const struct config *c);

/*
 * Before own_user_become: directories that are missing (state, runtime, those of the sockets), owned by the user. 0, also
 * when there is nothing to do, or a negative errno and `why` for people: -EPERM for who is not root.
 */
MUST_CHECK int own_user_prepare(const struct config *c, const struct config_places *places, char *why, size_t why_size);

/*
 * Becomes the user, with the user's groups, for good; undumpable as before. 0, also when this process is the user or none is
 * named, or a negative errno and `why` for people: -EPERM for who is not root.
 */
MUST_CHECK int own_user_become(const struct config *c, char *why, size_t why_size);

/* Whether the user is in the group; asks the system. */
bool own_user_is_in(const struct config *c, unsigned gid);

#endif
