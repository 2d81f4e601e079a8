/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jansson parses; what it is stricter about than Go is repaired in the text first (each byte of invalid UTF-8, lone
 * surrogate escapes), and only then is there a copy. Members are matched by name without case.
 */
#include "local/go_json.h"

#include <errno.h>

#include "common/buf.h"
#include "common/reserve.h"
#include "common/str.h"

/* --- repairing the text --------------------------------------------------------------------------------------- */

/* The code unit of a \uXXXX escape at the start of s, or -1. */
static int unit_at(struct str s)
{
	int unit = 0;

	if (s.n < 6 || s.p[0] != '\\' || s.p[1] != 'u')
		return -1;
	for (size_t i = 2; i < 6; i++) {
		int digit = str_hex_value(s.p[i]);
		if (digit < 0)
			return -1;
		unit = unit * 16 + digit;
	}
	return unit;
}

/* How many bytes stand well at the start of s (at least 1); 0 when they need a repair and *bad says how many. */
static size_t well_formed(struct str s, size_t *bad)
{
	if ((unsigned char)s.p[0] >= 0x80) {
		int n = str_utf8_len(s);
		*bad = 1;
		return n > 0 ? (size_t)n : 0;
	}
	if (s.p[0] != '\\')
		return 1;
	int unit = unit_at(s);
	if (unit < 0)
		return s.n < 2 ? 1 : 2;
	if (unit < 0xd800 || unit > 0xdfff)
		return 6;
	*bad = 6;
	if (unit >= 0xdc00)
		return 0;
	unit = unit_at(str_of(s.p + 6, s.n - 6));
	return unit >= 0xdc00 && unit <= 0xdfff ? 12 : 0;
}

/* Copies `text` with U+FFFD for what needs a repair; leaves *out empty when nothing does. */
static void repair(struct str text, struct buf *out)
{
	size_t copied = 0;
	size_t bad = 0;

	for (size_t i = 0; i < text.n;) {
		struct str rest = str_of(text.p + i, text.n - i);
		size_t good;
		/* A second backslash escapes nothing that follows it, so it must not be looked at by itself. */
		if (rest.n >= 2 && rest.p[0] == '\\' && (unsigned char)rest.p[1] >= 0x80)
			good = 1;
		else
			good = well_formed(rest, &bad);
		i += good ? good : bad;
		if (good)
			continue;
		buf_add(out, text.p + copied, i - bad - copied);
		buf_add_str(out, STR("\xef\xbf\xbd"));
		copied = i;
	}
	if (copied)
		buf_add(out, text.p + copied, text.n - copied);
}

int go_json_parse(struct str text, json_t **out)
{
	struct buf repaired = BUF_EMPTY;
	json_error_t error;
	json_t *value;

	repair(text, &repaired);
	if (repaired.failed || reserve_is_low()) {
		buf_fini(&repaired);
		return -ENOMEM;
	}
	if (repaired.len)
		text = buf_str(&repaired);
	value = text.n ? json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &error)
		       : NULL;
	buf_fini(&repaired);
	if (!value)
		return text.n && json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
	if (json_is_null(value))
		value = json_object();
	if (!value)
		return -ENOMEM;
	if (!json_is_object(value)) {
		json_decref(value);
		return -EINVAL;
	}
	*out = value;
	return 0;
}

/* --- binding --------------------------------------------------------------------------------------------------- */

static bool is_text(const json_t *v)
{
	return json_is_string(v) || json_is_null(v);
}

static bool is_list(const json_t *v)
{
	if (!json_is_array(v))
		return false;
	for (size_t i = 0; i < json_array_size(v); i++)
		if (!is_text(json_array_get(v, i)))
			return false;
	return true;
}

static bool is_map(const json_t *v)
{
	const char *key;
	json_t *member;

	if (!json_is_object(v))
		return false;
	json_object_foreach((json_t *)v, key, member) if (!is_text(member)) return false;
	return true;
}

static bool is_objects(const json_t *v)
{
	if (!json_is_array(v))
		return false;
	for (size_t i = 0; i < json_array_size(v); i++) {
		const json_t *element = json_array_get(v, i);
		if (!json_is_null(element) && !is_map(element))
			return false;
	}
	return true;
}

static bool set_field(const struct go_field *f, json_t *v, void *slot)
{
	switch (f->type) {
	case GO_STR:
		if (!json_is_string(v))
			return false;
		*(struct str *)slot = go_json_text(v);
		return true;
	case GO_INT:
		if (!json_is_integer(v))
			return false;
		*(int64_t *)slot = json_integer_value(v);
		return true;
	case GO_BOOL:
		if (!json_is_boolean(v))
			return false;
		*(bool *)slot = json_is_true(v);
		return true;
	case GO_LIST:
		*(json_t **)slot = v;
		return is_list(v);
	case GO_MAP:
		*(json_t **)slot = v;
		return is_map(v);
	case GO_OBJECTS:
		*(json_t **)slot = v;
		return is_objects(v);
	}
	return false;
}

int go_json_bind(const json_t *object, const struct go_field *fields, size_t nfields, void *target)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)object, key, value)
	{
		if (json_is_null(value))
			continue;
		for (size_t i = 0; i < nfields; i++)
			if (str_eq_nocase(str_from(key), str_from(fields[i].key)) &&
			    !set_field(&fields[i], value, (char *)target + fields[i].offset))
				return -EINVAL;
	}
	return 0;
}

struct str go_json_text(const json_t *value)
{
	return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value)) : STR("");
}

/* --- writing back ---------------------------------------------------------------------------------------------- */

static void emit_map(struct json_writer *w, const char *key, const json_t *map)
{
	const char *name;
	json_t *value;

	json_object_begin(w, key);
	json_object_foreach((json_t *)map, name, value) json_member(w, str_from(name), go_json_text(value));
	json_object_end(w);
}

void go_json_emit(struct json_writer *w, const char *key, const json_t *value)
{
	if (!value)
		return;
	if (!json_is_array(value)) {
		emit_map(w, key, value);
		return;
	}
	json_array_begin(w, key);
	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *element = json_array_get(value, i);
		if (json_is_object(element))
			emit_map(w, NULL, element);
		else
			json_str(w, NULL, go_json_text(element));
	}
	json_array_end(w);
}
