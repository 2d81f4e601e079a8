/* SPDX-License-Identifier: Apache-2.0 */
/* The log of a program: one line per event on stderr, printable ASCII only, never a secret. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>

#include "common/err.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Names the program in each line. `program` is borrowed for the life of the process. Default: "stacygate". */
void log_init(const char *program, enum log_level level);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);
bool log_enabled(enum log_level level);

/*
 * Writes one line: time, level, program, text. Bytes that are not printable ASCII become \xNN, so a line stays
 * a line whatever a client sent; what is longer than 2,000 bytes is cut. A write that fails or would block
 * loses the line; log_dropped() counts those.
 */
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
unsigned long log_dropped(void);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                                 \
	do {                                                                                                           \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                                      \
			log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                       \
	} while (0)

#endif
