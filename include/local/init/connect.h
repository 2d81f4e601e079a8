/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to ports of this sandbox: made here, inside its network, and handed over to the server. */
#ifndef LOCAL_INIT_CONNECT_H
#define LOCAL_INIT_CONNECT_H

#include <stdint.h>

struct init;

/* Connects to a port of the loopback addresses; answers with the connected socket, or why there is none. */
void connect_start(struct init *init, uint32_t id, uint16_t port);

#endif
