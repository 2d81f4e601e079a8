/* SPDX-License-Identifier: Apache-2.0 */
/* The server as a whole: builds its parts, runs until it is told to stop, takes them down. */
#ifndef LOCAL_SERVER_H
#define LOCAL_SERVER_H

#include "local/api_keys.h"
#include "local/options.h"

/*
 * Runs until SIGTERM, SIGINT or the end of the life descriptor. The keys are borrowed; `keeper` is what keeper_start() gave, with
 * --keep, and taken over. Returns the program's exit status: 0, or 3 when it could not start (the log says why).
 */
int server_run(const struct options *options, const struct api_keys *keys, int keeper);

#endif
