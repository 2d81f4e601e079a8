/* SPDX-License-Identifier: Apache-2.0 */
/* Asserts that are always on: for our own bugs, never for what the world sends. */
#ifndef COMMON_CHECK_H
#define COMMON_CHECK_H

#define CHECK(expr) ((expr) ? (void)0 : check_failed(#expr, __FILE__, __LINE__))

/* Writes "check failed: EXPR at FILE:LINE" to stderr and aborts. */
_Noreturn void check_failed(const char *expr, const char *file, int line);

#endif
