/* SPDX-License-Identifier: Apache-2.0 */
/* Decides what becomes of a request. */
#ifndef GATEWAY_FRONT_JUDGE_H
#define GATEWAY_FRONT_JUDGE_H

struct front;
struct http_head;

/* Begins its exchange or its call, or sets what is pending; it may have been answered, and be gone, afterwards. */
void front_judge(struct front *f, const struct http_head *head);

#endif
