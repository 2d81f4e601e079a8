/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/prometheus.h"

#include <stdio.h>
#include <string.h>

#define PREFIX "stacygate_"

void prometheus_family(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_addf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

/* A backslash, a quote and a line feed are the three that would end something else than the value. */
static void add_value(struct buf *out, const char *value)
{
	for (; *value; value++) {
		if (*value == '\n') {
			buf_add_cstr(out, "\\n");
			continue;
		}
		if (*value == '\\' || *value == '"')
			buf_add_char(out, '\\');
		buf_add_char(out, *value);
	}
}

static void add_name(struct buf *out, const char *name, const char *suffix, const struct prometheus_label *labels)
{
	char before = '{';

	buf_add_cstr(out, PREFIX);
	buf_add_cstr(out, name);
	buf_add_cstr(out, suffix);
	for (; labels && labels->name; labels++) {
		buf_add_char(out, before);
		before = ',';
		buf_add_cstr(out, labels->name);
		buf_add_cstr(out, "=\"");
		add_value(out, labels->value);
		buf_add_char(out, '"');
	}
	if (before == ',')
		buf_add_char(out, '}');
	buf_add_char(out, ' ');
}

void prometheus_sample(struct buf *out, const char *name, const char *suffix, const struct prometheus_label *labels,
		       uint64_t value)
{
	add_name(out, name, suffix, labels);
	buf_add_u64(out, value);
	buf_add_char(out, '\n');
}

void prometheus_seconds(struct buf *out, const char *name, const char *suffix, const struct prometheus_label *labels,
			uint64_t ms)
{
	add_name(out, name, suffix, labels);
	buf_addf(out, "%llu.%03u\n", (unsigned long long)(ms / 1000), (unsigned)(ms % 1000));
}

void prometheus_le(uint64_t ms, char out[24])
{
	size_t n = (size_t)snprintf(out, 24, "%llu.%03u", (unsigned long long)(ms / 1000), (unsigned)(ms % 1000));

	while (out[n - 1] == '0')
		n--;
	if (out[n - 1] == '.')
		n--;
	out[n] = '\0';
}
