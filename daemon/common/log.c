/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/json_write.h"

static const char *log_program = "stacygate";
static enum log_level log_level = LOG_LEVEL_INFO;
static enum log_format log_format = LOG_FORMAT_TEXT;
static unsigned long log_lost;
static bool log_prefixed;
static void (*log_writer)(void *arg, enum log_level level, struct str text, struct str line);
static void *log_writer_arg;

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

/* Whether the variable names the very file that is stderr, as systemd.exec(5) says to compare them. */
static bool stderr_is_journal(void)
{
	const char *named = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (!named || fstat(STDERR_FILENO, &st) < 0)
		return false;
	snprintf(own, sizeof(own), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return strcmp(named, own) == 0;
}

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_level = level;
	log_prefixed = stderr_is_journal();
}

void log_set_format(enum log_format format)
{
	log_format = format;
}

void log_set_writer(void (*writer)(void *arg, enum log_level level, struct str text, struct str line), void *arg)
{
	log_writer = writer;
	log_writer_arg = arg;
}

const char *log_stderr_prefix(enum log_level level)
{
	/* The levels of syslog(3). */
	static const char *const prefixes[] = {
		[LOG_LEVEL_ERROR] = "<3>",
		[LOG_LEVEL_WARN] = "<4>",
		[LOG_LEVEL_INFO] = "<6>",
		[LOG_LEVEL_DEBUG] = "<7>",
	};

	return log_prefixed ? prefixes[level] : "";
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

static const char *const level_words[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

const char *log_level_word(enum log_level level)
{
	return level_words[level];
}

bool log_level_parse(struct str word, enum log_level *out)
{
	for (unsigned i = 0; i < sizeof(level_words) / sizeof(level_words[0]); i++) {
		if (!str_eq(word, str_from(level_words[i])))
			continue;
		*out = (enum log_level)i;
		return true;
	}
	return false;
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

static size_t put(char *to, const char *text)
{
	size_t n = strlen(text);

	memcpy(to, text, n);
	return n;
}

static size_t format_text(char *out, const char *when, enum log_level level, struct str text)
{
	size_t n = (size_t)snprintf(out, 160, "%s %s %.32s: ", when, level_names[level], log_program);

	return n + escape(out + n, text.p, text.n);
}

static size_t format_json(char *out, const char *when, enum log_level level, struct str text)
{
	size_t n = (size_t)snprintf(out, 160, "{\"time\":\"%s\",\"level\":\"%s\",\"program\":\"%.32s\",\"message\":\"",
				    when, level_names[level], log_program);

	n += json_escape_ascii(out + n, text);
	return n + put(out + n, "\"}");
}

size_t log_format_line(char out[LOG_LINE_MAX_BYTES], enum log_level level, struct str text)
{
	char when[25];
	size_t n;

	if (text.n > LOG_TEXT_MAX_BYTES)
		text.n = LOG_TEXT_MAX_BYTES;
	clock_format_ms(clock_wall_ns(), when);
	n = log_format == LOG_FORMAT_JSON ? format_json(out, when, level, text) : format_text(out, when, level, text);
	out[n++] = '\n';
	return n;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char text[LOG_TEXT_MAX_BYTES + 1];
	char line[8 + LOG_LINE_MAX_BYTES];
	va_list ap;
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
	len = put(line, log_stderr_prefix(level));
	len += log_format_line(line + len, level, str_of(text, (size_t)n));
	if (log_writer)
		log_writer(log_writer_arg, level, str_of(text, (size_t)n), str_of(line, len));
	else if (fd_write_now(STDERR_FILENO, line, len) != (ssize_t)len)
		log_lost++;
}
