/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_data.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum {
	NAME_SIZE = 64
};

const json_t *top_member(const json_t *object, const char *path)
{
	struct str rest = str_from(path);
	char name[NAME_SIZE];

	while (rest.p && object) {
		struct str part = str_cut(&rest, '.');
		snprintf(name, sizeof(name), "%.*s", STR_ARG(part));
		object = json_object_get(object, name);
	}
	return object;
}

int64_t top_number(const json_t *object, const char *path)
{
	json_int_t value = json_integer_value(top_member(object, path));

	return value > 0 ? (int64_t)value : 0;
}

struct str top_text(const json_t *object, const char *path)
{
	const json_t *value = top_member(object, path);

	return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value)) : STR("");
}

double top_per_second(const json_t *now, const json_t *before, int64_t value, int64_t value_before)
{
	int64_t ms = before ? top_number(now, "uptime_ms") - top_number(before, "uptime_ms") : 0;

	return ms > 0 && value > value_before ? (double)(value - value_before) * 1000 / (double)ms : 0;
}

double top_rate(const json_t *now, const json_t *before, const char *path)
{
	return top_per_second(now, before, top_number(now, path), top_number(before, path));
}

void top_format_rate(double rate, char out[TOP_SHORT])
{
	/* Above it a decimal says nothing, and what is not 0 must not look like it. */
	if (rate >= 100)
		snprintf(out, TOP_SHORT, "%.0f", rate);
	else if (rate > 0)
		snprintf(out, TOP_SHORT, "%.1f", rate < 0.1 ? 0.1 : rate);
	else
		snprintf(out, TOP_SHORT, "0");
}

void top_format_span(int64_t ms, char out[TOP_SHORT])
{
	long long s = ms / 1000, m = s / 60, h = m / 60, d = h / 24;

	if (d > 0)
		snprintf(out, TOP_SHORT, "%lldd %lldh", d, h % 24);
	else if (h > 0)
		snprintf(out, TOP_SHORT, "%lldh %lldm", h, m % 60);
	else if (m > 0)
		snprintf(out, TOP_SHORT, "%lldm %llds", m, s % 60);
	else
		snprintf(out, TOP_SHORT, "%llds", s);
}
