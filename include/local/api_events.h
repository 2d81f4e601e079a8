/* SPDX-License-Identifier: Apache-2.0 */
/* The handler that streams what happens in the server. */
#ifndef LOCAL_API_EVENTS_H
#define LOCAL_API_EVENTS_H

struct call;

void api_events_stream(struct call *call);

#endif
