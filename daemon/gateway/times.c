/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/times.h"

#include <errno.h>
#include <stdbool.h>

struct moment {
	unsigned year, month, day; /* month and day from 1 */
	unsigned hour, minute, second;
};

/* Takes exactly n digits. */
static bool take_number(struct str *s, size_t n, unsigned *out)
{
	uint64_t v;

	if (s->n < n || str_parse_u64(str_of(s->p, n), &v))
		return false;
	*out = (unsigned)v;
	*s = str_of(s->p + n, s->n - n);
	return true;
}

/* Takes one byte that is c, in either case. */
static bool take_char(struct str *s, char c)
{
	if (s->n == 0 || !str_eq_nocase(str_of(s->p, 1), str_of(&c, 1)))
		return false;
	*s = str_of(s->p + 1, s->n - 1);
	return true;
}

static unsigned days_in_month(const struct moment *m)
{
	static const unsigned char days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (m->year % 4 == 0 && m->year % 100 != 0) || m->year % 400 == 0;

	return days[m->month - 1] + (m->month == 2 && leap ? 1u : 0u);
}

static bool is_sound(const struct moment *m)
{
	return m->month >= 1 && m->month <= 12 && m->day >= 1 && m->day <= days_in_month(m) && m->hour < 24 &&
	       m->minute < 60 && m->second <= 60;
}

/* Days since 1970-01-01 in the Gregorian calendar; a year is counted from March, so that the leap day is its last. */
static int64_t days_since_1970(const struct moment *m)
{
	int64_t year = (int64_t)m->year - (m->month <= 2 ? 1 : 0) + 400;
	int64_t era = year / 400;
	int64_t of_era = year % 400;
	int64_t of_year = (153 * (int64_t)(m->month > 2 ? m->month - 3 : m->month + 9) + 2) / 5 + m->day - 1;

	return (era - 1) * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int64_t seconds_since_1970(const struct moment *m)
{
	return days_since_1970(m) * 86400 + (int64_t)m->hour * 3600 + (int64_t)m->minute * 60 + m->second;
}

static bool take_clock(struct str *s, struct moment *m)
{
	return take_number(s, 2, &m->hour) && take_char(s, ':') && take_number(s, 2, &m->minute) && take_char(s, ':') &&
	       take_number(s, 2, &m->second);
}

/* ".123456789", if there is one, as whole milliseconds. */
static bool take_fraction(struct str *s, int64_t *ms)
{
	size_t n = 0;

	*ms = 0;
	if (!take_char(s, '.'))
		return true;
	for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++)
		if (n < 3)
			*ms = *ms * 10 + (s->p[n] - '0');
	if (n == 0 || n > 9)
		return false;
	for (size_t i = n; i < 3; i++)
		*ms *= 10;
	*s = str_of(s->p + n, s->n - n);
	return true;
}

/* "Z" or "+05:30", in seconds east of Greenwich. */
static bool take_offset(struct str *s, int64_t *seconds)
{
	unsigned hours;
	unsigned minutes;
	bool west;

	*seconds = 0;
	if (take_char(s, 'Z'))
		return true;
	west = take_char(s, '-');
	if (!west && !take_char(s, '+'))
		return false;
	if (!take_number(s, 2, &hours) || !take_char(s, ':') || !take_number(s, 2, &minutes) || hours > 23 ||
	    minutes > 59)
		return false;
	*seconds = (int64_t)hours * 3600 + (int64_t)minutes * 60;
	if (west)
		*seconds = -*seconds;
	return true;
}

int rfc3339_parse(struct str text, int64_t *unix_ms)
{
	struct moment m;
	int64_t ms;
	int64_t offset;

	if (!take_number(&text, 4, &m.year) || !take_char(&text, '-') || !take_number(&text, 2, &m.month) ||
	    !take_char(&text, '-') || !take_number(&text, 2, &m.day) || !take_char(&text, 'T') ||
	    !take_clock(&text, &m) || !take_fraction(&text, &ms) || !take_offset(&text, &offset) || text.n ||
	    !is_sound(&m))
		return -EINVAL;
	*unix_ms = (seconds_since_1970(&m) - offset) * 1000 + ms;
	return 0;
}

/* Takes one of n three-letter names, case as written; its place from 1. */
static bool take_name(struct str *s, const char *names, unsigned n, unsigned *out)
{
	for (unsigned i = 0; i < n; i++) {
		if (str_starts(*s, str_of(names + (size_t)i * 3, 3))) {
			*s = str_of(s->p + 3, s->n - 3);
			*out = i + 1;
			return true;
		}
	}
	return false;
}

int http_date_parse(struct str text, int64_t *unix_ms)
{
	struct moment m;
	unsigned weekday;

	if (!take_name(&text, "MonTueWedThuFriSatSun", 7, &weekday) || !take_char(&text, ',') ||
	    !take_char(&text, ' ') || !take_number(&text, 2, &m.day) || !take_char(&text, ' ') ||
	    !take_name(&text, "JanFebMarAprMayJunJulAugSepOctNovDec", 12, &m.month) || !take_char(&text, ' ') ||
	    !take_number(&text, 4, &m.year) || !take_char(&text, ' ') || !take_clock(&text, &m) ||
	    !str_eq(text, STR(" GMT")) || !is_sound(&m))
		return -EINVAL;
	*unix_ms = seconds_since_1970(&m) * 1000;
	return 0;
}
