/* SPDX-License-Identifier: Apache-2.0 */
/* A port on loopback that leads to one port of one sandbox, for this user alone. */
#ifndef CLI_DOOR_H
#define CLI_DOOR_H

#include <stdint.h>

#include "cli/fault.h"
#include "common/err.h"
#include "common/loopback.h"
#include "common/str.h"

struct door {
	struct loopback listening; /* owned */
};

/* Binds both loopback addresses; port 0 is any free one, then listening.port says which. 0, or -1 with the fault. */
MUST_CHECK int door_open(struct door *d, uint16_t port, struct fault *f);
void door_close(struct door *d);

/*
 * Serves the preview of that host (no port) by way of the gateway's socket until a signal comes. Connections of other uids
 * are closed unread. Always -1 with the fault: FAULT_INTERRUPTED when all went well.
 */
int door_serve(struct door *d, struct str preview, const char *socket_path, struct fault *f);

#endif
