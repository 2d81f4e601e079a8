/* SPDX-License-Identifier: Apache-2.0 */
/* Who is connected and what they are waiting for, for the status. */
#ifndef GATEWAY_FRONT_CLIENTS_H
#define GATEWAY_FRONT_CLIENTS_H

struct json_writer;

/*
 * Adds two arrays: "owners", connections counted by uid, owner and rule, and "active", requests under way, the oldest
 * connection's first. Each has at most 100 rows; "owners_left_out" and "active_left_out" say how many more there are.
 * `arg` is the struct front_shared.
 */
void front_clients_write(const void *arg, struct json_writer *w);

#endif
