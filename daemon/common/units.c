/* SPDX-License-Identifier: Apache-2.0 */
#include "common/units.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct {
	struct str name;
	int64_t ns;
} duration_units[] = {
	{{"ns", 2}, 1},
	{{"us", 2}, 1000},
	{{"\xc2\xb5s", 3}, 1000}, /* U+00B5 */
	{{"\xce\xbcs", 3}, 1000}, /* U+03BC */
	{{"ms", 2}, 1000000},
	{{"s", 1}, 1000000000},
	{{"m", 1}, 60 * (int64_t)1000000000},
	{{"h", 1}, 3600 * (int64_t)1000000000},
};

static bool is_digit(struct str s)
{
	return s.n && s.p[0] >= '0' && s.p[0] <= '9';
}

static struct str skip(struct str s, size_t n)
{
	return str_of(s.p + n, s.n - n);
}

static int64_t unit_ns(struct str name)
{
	for (size_t i = 0; i < sizeof(duration_units) / sizeof(duration_units[0]); i++)
		if (str_eq(name, duration_units[i].name))
			return duration_units[i].ns;
	return 0;
}

/* Takes one number+unit off *s and adds it to *total. */
static enum duration_fault take_term(struct str *s, uint64_t *total)
{
	const uint64_t limit = (uint64_t)1 << 63;
	uint64_t whole = 0;
	uint64_t fraction = 0;
	double scale = 1;
	bool digits = is_digit(*s);

	for (; is_digit(*s); *s = skip(*s, 1)) {
		if (whole > limit / 10)
			return DURATION_INVALID;
		whole = whole * 10 + (uint64_t)(s->p[0] - '0');
	}
	if (s->n && s->p[0] == '.') {
		*s = skip(*s, 1);
		digits = digits || is_digit(*s);
		for (; is_digit(*s); *s = skip(*s, 1)) {
			if (fraction > (limit - 9) / 10)
				continue; /* digits beyond 63 bits add nothing, as in Go */
			fraction = fraction * 10 + (uint64_t)(s->p[0] - '0');
			scale *= 10;
		}
	}
	if (!digits)
		return DURATION_INVALID;
	size_t n = 0;
	while (n < s->n && s->p[n] != '.' && (s->p[n] < '0' || s->p[n] > '9'))
		n++;
	if (n == 0)
		return DURATION_MISSING_UNIT;
	int64_t unit = unit_ns(str_of(s->p, n));
	if (unit == 0)
		return DURATION_UNKNOWN_UNIT;
	*s = skip(*s, n);
	if (whole > limit / (uint64_t)unit)
		return DURATION_INVALID;
	uint64_t ns = whole * (uint64_t)unit + (uint64_t)((double)fraction * ((double)unit / scale));
	if (ns > limit || ns > limit - *total)
		return DURATION_INVALID;
	*total += ns;
	return DURATION_OK;
}

enum duration_fault duration_parse(struct str text, int64_t *ns)
{
	struct str s = text;
	bool negative = false;
	uint64_t total = 0;

	if (s.n && (s.p[0] == '-' || s.p[0] == '+')) {
		negative = s.p[0] == '-';
		s = skip(s, 1);
	}
	if (str_eq(s, STR("0"))) {
		*ns = 0;
		return DURATION_OK;
	}
	if (s.n == 0)
		return DURATION_INVALID;
	while (s.n) {
		enum duration_fault fault = take_term(&s, &total);
		if (fault != DURATION_OK)
			return fault;
	}
	if (!negative && total > INT64_MAX)
		return DURATION_INVALID;
	*ns = negative ? (int64_t)(0 - total) : (int64_t)total;
	return DURATION_OK;
}

void duration_fault_text(enum duration_fault fault, struct str text, char *out, size_t size)
{
	char quoted[96];
	size_t n = 0;

	/* Go quotes with strconv.Quote; the common part of it. */
	for (size_t i = 0; i < text.n && n < sizeof(quoted) - 5; i++) {
		unsigned char c = (unsigned char)text.p[i];
		if (c == '"' || c == '\\')
			quoted[n++] = '\\';
		if (c < 0x20 || c == 0x7f)
			n += (size_t)snprintf(quoted + n, 5, "\\x%02x", c);
		else
			quoted[n++] = (char)c;
	}
	quoted[n] = '\0';
	switch (fault) {
	case DURATION_OK:
		snprintf(out, size, "ok");
		return;
	case DURATION_INVALID:
		snprintf(out, size, "time: invalid duration \"%s\"", quoted);
		return;
	case DURATION_MISSING_UNIT:
		snprintf(out, size, "time: missing unit in duration \"%s\"", quoted);
		return;
	case DURATION_UNKNOWN_UNIT: {
		struct str rest = text;
		while (rest.n && ((rest.p[0] >= '0' && rest.p[0] <= '9') || strchr("+-.", rest.p[0])))
			rest = skip(rest, 1);
		size_t unit = 0;
		/* The faulty unit is the first that is not known. */
		for (;;) {
			unit = 0;
			while (unit < rest.n && rest.p[unit] != '.' && (rest.p[unit] < '0' || rest.p[unit] > '9'))
				unit++;
			if (unit == rest.n || unit_ns(str_of(rest.p, unit)) == 0)
				break;
			rest = skip(rest, unit);
			while (rest.n && ((rest.p[0] >= '0' && rest.p[0] <= '9') || rest.p[0] == '.'))
				rest = skip(rest, 1);
		}
		snprintf(out, size, "time: unknown unit \"%.*s\" in duration \"%s\"", (int)(unit > 32 ? 32 : unit),
			 rest.p, quoted);
		return;
	}
	}
}

/* Appends value/unit with the fraction's trailing zeros cut. */
static void format_fraction(uint64_t value, uint64_t unit, int digits, const char *name, char out[40])
{
	int n = snprintf(out, 24, "%llu", (unsigned long long)(value / unit));

	if (value % unit) {
		n += snprintf(out + n, 12, ".%0*llu", digits, (unsigned long long)(value % unit));
		while (out[n - 1] == '0')
			n--;
	}
	snprintf(out + n, 4, "%s", name);
}

void duration_format(int64_t ns, char out[40])
{
	uint64_t v = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;

	if (ns < 0)
		*out++ = '-';
	if (v == 0) {
		snprintf(out, 3, "0s");
	} else if (v < 1000) {
		snprintf(out, 8, "%lluns", (unsigned long long)v);
	} else if (v < 1000000) {
		format_fraction(v, 1000, 3, "\xc2\xb5s", out);
	} else if (v < 1000000000) {
		format_fraction(v, 1000000, 6, "ms", out);
	} else {
		uint64_t minutes = v / (60 * (uint64_t)1000000000);
		if (minutes >= 60)
			out += snprintf(out, 16, "%lluh%llum", (unsigned long long)(minutes / 60),
					(unsigned long long)(minutes % 60));
		else if (minutes)
			out += snprintf(out, 8, "%llum", (unsigned long long)minutes);
		format_fraction(v % (60 * (uint64_t)1000000000), 1000000000, 9, "s", out);
	}
}

int size_parse(struct str text, uint64_t *bytes)
{
	static const struct {
		struct str suffix;
		unsigned shift;
	} units[] = {{{"KiB", 3}, 10}, {{"MiB", 3}, 20}, {{"GiB", 3}, 30}};
	unsigned shift = 0;
	uint64_t v;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (str_ends(text, units[i].suffix)) {
			shift = units[i].shift;
			text.n -= units[i].suffix.n;
			break;
		}
	}
	int rc = str_parse_u64(text, &v);
	if (rc)
		return rc;
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = v << shift;
	return 0;
}

void size_format(uint64_t bytes, char out[24])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	double value = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024) {
		snprintf(out, 24, "%u B", (unsigned)bytes);
		return;
	}
	for (; value >= 1024 && i < 3; i++)
		value /= 1024;
	snprintf(out, 24, "%.1f %s", value, units[i]);
}
