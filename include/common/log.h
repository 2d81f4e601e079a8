/* SPDX-License-Identifier: Apache-2.0 */
/* The log of a program: one line per event on stderr, printable ASCII only, never a secret. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/str.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

enum log_format {
	LOG_FORMAT_TEXT, /* time, level, program, text; bytes that are not printable ASCII become \xNN */
	LOG_FORMAT_JSON, /* an object with time, level, program, message; as \uXXXX */
};

/*
 * Names the program in each line. `program` is borrowed for the life of the process. Default: "stacygate". When stderr is the
 * journal's ($JOURNAL_STREAM names it), lines begin with the level as <N>, which the journal takes off.
 */
void log_init(const char *program, enum log_level level);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);
/* The same as a configuration has it: error, warn, info, debug. Parsing gives false when no level has that word. */
const char *log_level_word(enum log_level level);
bool log_level_parse(struct str word, enum log_level *out);
bool log_enabled(enum log_level level);

void log_set_format(enum log_format format);

/*
 * Takes each line from now on, with prefix and newline, instead of stderr, and sees to its loss itself; NULL goes back to
 * stderr. `text` is what the line was made of, any bytes. For who has a loop, and so can wait for a reader without standing still.
 */
void log_set_writer(void (*writer)(void *arg, enum log_level level, struct str text, struct str line), void *arg);

/* "<6>" and the like when stderr is the journal's, else "": what stands before a line of this level on stderr. */
const char *log_stderr_prefix(enum log_level level);

enum {
	LOG_TEXT_MAX_BYTES = 2000,
	LOG_LINE_MAX_BYTES = 6 * LOG_TEXT_MAX_BYTES + 200
};
/* Makes a line of that text, as log_write does, with newline but without prefix. Its length. */
size_t log_format_line(char out[LOG_LINE_MAX_BYTES], enum log_level level, struct str text);

/*
 * Writes one line of printable ASCII, whatever a client sent; what is longer than LOG_TEXT_MAX_BYTES is cut. A write that
 * fails or would have to wait loses the line; log_dropped() counts those.
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
