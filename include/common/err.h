/* SPDX-License-Identifier: Apache-2.0 */
/* How functions report failure: 0 or a negative errno for mechanisms, an enum for outcomes. */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#define MUST_CHECK              __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

#endif
