/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

enum {
	LINE_MAX_BYTES = 2000
};

static const char *log_program = "stacygate";
static enum log_level log_level = LOG_LEVEL_INFO;
static unsigned long log_lost;

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_level = level;
}

void log_set_level(enum log_level level)
{
	log_level = level;
}

enum log_level log_get_level(void)
{
	return log_level;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

bool log_enabled(enum log_level level)
{
	return level <= log_level;
}

unsigned long log_dropped(void)
{
	return log_lost;
}

/* Copies text to out with everything but printable ASCII escaped; out holds 4 bytes per byte of text. */
static size_t escape(char *out, const char *text, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c >= 0x20 && c < 0x7f) {
			out[o++] = (char)c;
			continue;
		}
		out[o++] = '\\';
		out[o++] = 'x';
		out[o++] = hex[c >> 4];
		out[o++] = hex[c & 15];
	}
	return o;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	char line[4 * LINE_MAX_BYTES + 160];
	char when[40];
	va_list ap;
	int64_t now;
	int n;
	size_t len;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof(text))
		n = sizeof(text) - 1;
	now = clock_wall_ns();
	clock_format_rfc3339(now / 1000000000 * 1000000000, when);
	len = (size_t)snprintf(line, 160, "%.19s.%03dZ %s %.32s: ", when, (int)(now / 1000000 % 1000),
			       level_names[level], log_program);
	len += escape(line + len, text, (size_t)n);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) != (ssize_t)len)
		log_lost++;
}
