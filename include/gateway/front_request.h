/* SPDX-License-Identifier: Apache-2.0 */
/* One request from its head to its end: what it counts for, what is said of it, what is answered at its end. */
#ifndef GATEWAY_FRONT_REQUEST_H
#define GATEWAY_FRONT_REQUEST_H

#include <stddef.h>

struct audit_record;
struct front;
struct front_ends;
struct http_head;

/* For client_events; `arg` is the front. */
void front_on_request(void *arg, const struct http_head *head);
void front_on_body(void *arg, const char *p, size_t n);
void front_on_body_end(void *arg);
void front_on_fault(void *arg, unsigned status, const char *why);
void front_on_drained(void *arg);
void front_on_gone(void *arg);

/* For front_shared. */
const struct front_ends *front_request_ends(void);

/* What is known of the connection. */
void front_add_caller(const struct front *f, struct audit_record *r);
/* It has ended, or its client has left. Harmless without one. */
void front_drop_request(struct front *f);

#endif
