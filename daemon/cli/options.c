/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table of all options says which command takes which and where the value goes. argv is walked once:
 * options, operands up to the number that the command has, then, for run and exec, the command to run,
 * untouched.
 */
#include "cli/options.h"

#include <stdlib.h>
#include <string.h>

#include "common/units.h"

enum option_kind {
	KIND_FLAG,     /* no value; a bool */
	KIND_TEXT,     /* const char * */
	KIND_TEXTS,    /* struct words */
	KIND_DURATION, /* const char *, a positive Go duration */
	KIND_NUMBER,   /* uint64_t, at least 1 */
	KIND_PAIR,     /* struct words, each K=V */
	KIND_FILE,     /* struct words, each LOCAL:REMOTE */
	KIND_LEASE,    /* const char *, options_is_lease() */
	KIND_PORT,     /* the two fields of --open-port */
};

#define ON(verb) (1u << (verb))
#define ON_ALL   (ON(VERB_COUNT) - 1)

/* Commands that make a sandbox, those that say what one is to be, and those that run a command in one. */
#define ON_SPAWN  (ON(VERB_SPAWN) | ON(VERB_TEMPLATE_SPAWN))
#define ON_IMAGE  (ON(VERB_RUN) | ON(VERB_SPAWN) | ON(VERB_TEMPLATE_SAVE))
#define ON_FIELDS (ON_IMAGE | ON(VERB_TEMPLATE_SPAWN))
#define ON_EXEC   (ON(VERB_RUN) | ON(VERB_EXEC))

struct option_row {
	const char *name;
	char letter; /* 0: none */
	enum option_kind kind;
	unsigned verbs;
	size_t offset; /* in struct options */
};

static const struct option_row rows[] = {
	{"help", 'h', KIND_FLAG, ON_ALL, offsetof(struct options, help)},
	{"json", 0, KIND_FLAG, ON_ALL & ~ON(VERB_TEMPLATE), offsetof(struct options, json)},
	{"image", 0, KIND_TEXT, ON_IMAGE, offsetof(struct options, image)},
	{"provider", 0, KIND_TEXT, ON_FIELDS, offsetof(struct options, provider)},
	{"ttl", 0, KIND_DURATION, ON_FIELDS, offsetof(struct options, ttl)},
	{"memory", 0, KIND_NUMBER, ON_FIELDS, offsetof(struct options, memory_mb)},
	{"vcpus", 0, KIND_NUMBER, ON_FIELDS, offsetof(struct options, vcpus)},
	{"metadata", 0, KIND_PAIR, ON_FIELDS, offsetof(struct options, metadata)},
	{"lease", 0, KIND_LEASE, ON_SPAWN, offsetof(struct options, lease)},
	{"file", 0, KIND_FILE, ON(VERB_RUN), offsetof(struct options, files)},
	{"env", 0, KIND_PAIR, ON_EXEC, offsetof(struct options, env)},
	{"timeout", 0, KIND_DURATION, ON_EXEC, offsetof(struct options, timeout)},
	{"workdir", 0, KIND_TEXT, ON_EXEC, offsetof(struct options, workdir)},
	{"lines", 0, KIND_NUMBER, ON(VERB_LOGS), offsetof(struct options, lines)},
	{"upstream", 0, KIND_TEXT, ON(VERB_INIT), offsetof(struct options, upstream)},
	{"key-file", 0, KIND_TEXT, ON(VERB_INIT), offsetof(struct options, key_file)},
	{"allow-plaintext", 0, KIND_FLAG, ON(VERB_INIT), offsetof(struct options, allow_plaintext)},
	{"user", 0, KIND_TEXTS, ON(VERB_INIT), offsetof(struct options, users)},
	{"output", 0, KIND_TEXT, ON(VERB_INIT), offsetof(struct options, output)},
	{"force", 0, KIND_FLAG, ON(VERB_INIT), offsetof(struct options, force)},
	{"open-port", 0, KIND_PORT, ON(VERB_PREVIEW), offsetof(struct options, open_port_at)},
};

/* argv as it is walked. */
struct walk {
	enum verb verb;
	char **at; /* the next word */
	char **end;
	struct options *o;
	struct fault *f;
};

static int usage(const struct walk *w, const char *what, const char *word)
{
	return fault_set(w->f, FAULT_USAGE, "USAGE", "%s: %s%s%s (see stacygate %s --help)", verb_name(w->verb), what,
			 word ? ": " : "", word ? word : "", verb_name(w->verb));
}

/* The row of "--NAME", "--NAME=VALUE" or "-X"; *value is what stands behind '='. */
static const struct option_row *find_row(enum verb verb, const char *word, const char **value)
{
	*value = NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = strlen(rows[i].name);

		if (!(rows[i].verbs & ON(verb)))
			continue;
		if (word[1] != '-') {
			if (rows[i].letter && word[1] == rows[i].letter && word[2] == 0)
				return &rows[i];
		} else if (strncmp(word + 2, rows[i].name, len) == 0 && (word[2 + len] == 0 || word[2 + len] == '=')) {
			*value = word[2 + len] ? word + 3 + len : NULL;
			return &rows[i];
		}
	}
	return NULL;
}

static int add_word(struct words *list, const char *word, struct fault *f)
{
	const char **grown = realloc(list->at, (list->n + 1) * sizeof(*grown));

	if (!grown)
		return fault_memory(f);
	list->at = grown;
	list->at[list->n++] = word;
	return 0;
}

static bool is_text(const char *value)
{
	struct str s = str_from(value);

	while (s.n > 0) {
		int len = str_utf8_len(s);

		if (len <= 0)
			return false;
		s = str_of(s.p + len, s.n - (size_t)len);
	}
	return true;
}

#define NOT_A_DURATION "not a duration such as 90s, 5m or 1h30m"
#define NOT_A_LEASE    "not a lease (connection, process, process=PID, or a duration such as 90s)"

static bool is_duration(const char *value)
{
	int64_t ns;

	return duration_parse(str_from(value), &ns) == DURATION_OK && ns > 0;
}

static int store(const struct walk *w, const struct option_row *row, const char *value)
{
	char *field = (char *)w->o + row->offset;
	uint64_t number;

	/* What goes into JSON must be text; a local file's name may be anything. */
	if (row->kind != KIND_FLAG && row->kind != KIND_FILE && !is_text(value))
		return usage(w, "not valid UTF-8, which the API cannot carry", row->name);
	switch (row->kind) {
	case KIND_FLAG:
		*(bool *)(void *)field = true;
		return 0;
	case KIND_TEXT:
		if (!*value)
			return usage(w, "a value that is not empty is needed for", row->name);
		*(const char **)(void *)field = value;
		return 0;
	case KIND_TEXTS:
		if (!*value)
			return usage(w, "a value that is not empty is needed for", row->name);
		return add_word((struct words *)(void *)field, value, w->f);
	case KIND_DURATION:
		if (!is_duration(value))
			return usage(w, NOT_A_DURATION, value);
		*(const char **)(void *)field = value;
		return 0;
	case KIND_NUMBER:
		if (str_parse_u64(str_from(value), &number) < 0 || number == 0 || number > INT32_MAX)
			return usage(w, "not a number above 0", value);
		*(uint64_t *)(void *)field = number;
		return 0;
	case KIND_PAIR:
		if (!strchr(value, '=') || value[0] == '=')
			return usage(w, "KEY=VALUE expected", value);
		return add_word((struct words *)(void *)field, value, w->f);
	case KIND_FILE:
		if (!strchr(value, ':') || value[0] == ':' || !strchr(value, ':')[1])
			return usage(w, "LOCAL:REMOTE expected", value);
		return add_word((struct words *)(void *)field, value, w->f);
	case KIND_LEASE:
		if (!options_is_lease(value))
			return usage(w, NOT_A_LEASE, value);
		*(const char **)(void *)field = value;
		return 0;
	case KIND_PORT:
		if (str_parse_u64(str_from(value), &number) < 0 || number > UINT16_MAX)
			return usage(w, "not a port, or 0 for a free one", value);
		*(uint16_t *)(void *)field = (uint16_t)number;
		w->o->open_port = true;
		return 0;
	}
	return -1;
}

static int take_option(struct walk *w)
{
	const char *word = *w->at++;
	const char *value;
	const struct option_row *row = find_row(w->verb, word, &value);

	if (!row)
		return usage(w, "unknown option", word);
	if (row->kind == KIND_FLAG && value)
		return usage(w, "takes no value", word);
	if (row->kind != KIND_FLAG && !value) {
		if (w->at == w->end)
			return usage(w, "needs a value", word);
		value = *w->at++;
	}
	return store(w, row, value);
}

static bool is_option(const char *word)
{
	return word[0] == '-' && word[1] != 0;
}

static int take_operand(struct walk *w)
{
	const struct verb_shape *shape = verb_shape(w->verb);

	if (w->o->operands.n < shape->operands_max)
		return add_word(&w->o->operands, *w->at++, w->f);
	if (w->verb == VERB_TEMPLATE)
		return usage(w, "unknown command", *w->at);
	if (!shape->command)
		return usage(w, "one word too many", *w->at);
	w->o->command = w->at;
	w->o->command_words = (size_t)(w->end - w->at);
	w->at = w->end;
	return 0;
}

static int check_copy(const struct walk *w)
{
	size_t len;
	bool down = options_is_remote(w->o->operands.at[0], &len);
	bool up = options_is_remote(w->o->operands.at[1], &len);

	if (up && down)
		return usage(w, "both are in a sandbox; copy by way of a local file", NULL);
	if (!up && !down)
		return usage(w, "neither is ID:PATH", NULL);
	/* The path in the sandbox goes into JSON; the local one may be anything. */
	return is_text(w->o->operands.at[up ? 1 : 0]) ? 0
						      : usage(w, "not valid UTF-8, which the API cannot carry", NULL);
}

static int check_operand(const struct walk *w, enum operand kind, const char *word)
{
	uint64_t port;

	switch (kind) {
	case OPERAND_ID:
		return options_is_id(word) ? 0 : usage(w, "not a sandbox's id", word);
	case OPERAND_NAME:
		return options_is_name(word) ? 0 : usage(w, "not a template's name", word);
	case OPERAND_DURATION:
		return is_duration(word) ? 0 : usage(w, NOT_A_DURATION, word);
	case OPERAND_LEASE:
		return options_is_lease(word) ? 0 : usage(w, NOT_A_LEASE, word);
	case OPERAND_PORT:
		return str_parse_u64(str_from(word), &port) == 0 && port > 0 && port <= UINT16_MAX
			       ? 0
			       : usage(w, "not a port", word);
	case OPERAND_FILE:
		return 0;
	}
	return -1;
}

static int check_operands(const struct walk *w)
{
	const struct verb_shape *shape = verb_shape(w->verb);

	for (size_t i = 0; i < w->o->operands.n; i++)
		if (check_operand(w, shape->kinds[i > 0], w->o->operands.at[i]) < 0)
			return -1;
	if (w->verb == VERB_TEMPLATE_SAVE && !w->o->image)
		return usage(w, "missing", "--image IMAGE");
	return w->verb == VERB_CP ? check_copy(w) : 0;
}

int options_parse(enum verb verb, int argc, char **argv, struct options *o, struct fault *f)
{
	struct walk w = {.verb = verb, .at = argv, .end = argv + argc, .o = o, .f = f};
	bool only_operands = false;
	int rc = 0;

	*o = (struct options){0};
	while (rc == 0 && !o->help && w.at < w.end) {
		if (!only_operands && strcmp(*w.at, "--") == 0) {
			only_operands = true;
			w.at++;
		} else if (!only_operands && is_option(*w.at)) {
			rc = take_option(&w);
		} else {
			rc = take_operand(&w);
		}
	}
	if (rc < 0 || o->help)
		return rc;
	if (o->operands.n < verb_shape(verb)->operands_min || (verb_shape(verb)->command && o->command_words == 0))
		return usage(&w, "missing", verb_shape(verb)->missing);
	return check_operands(&w);
}

void options_fini(struct options *o)
{
	free(o->env.at);
	free(o->metadata.at);
	free(o->files.at);
	free(o->users.at);
	free(o->operands.at);
	*o = (struct options){0};
}

struct str options_pair_key(const char *pair)
{
	return str_of(pair, strcspn(pair, "="));
}

struct str options_pair_value(const char *pair)
{
	return str_from(pair + strcspn(pair, "=") + 1);
}

static bool is_id_span(struct str s)
{
	if (s.n == 0 || s.n > 128 || str_eq(s, STR(".")) || str_eq(s, STR("..")))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
		      c == '_' || c == '-'))
			return false;
	}
	return true;
}

bool options_is_id(const char *text)
{
	return is_id_span(str_from(text));
}

bool options_is_lease(const char *text)
{
	struct str s = str_from(text);
	uint64_t pid;

	if (str_eq(s, STR("connection")) || str_eq(s, STR("process")) || is_duration(text))
		return true;
	return str_starts(s, STR("process=")) && str_parse_u64(str_of(s.p + 8, s.n - 8), &pid) == 0 && pid > 0 &&
	       pid <= INT32_MAX;
}

bool options_is_name(const char *text)
{
	if (strcmp(text, "") == 0 || strcmp(text, ".") == 0 || strcmp(text, "..") == 0 || !is_text(text))
		return false;
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f || *text == '/')
			return false;
	return true;
}

bool options_is_remote(const char *text, size_t *id_len)
{
	const char *colon = strchr(text, ':');

	if (!colon || colon[1] == 0 || !is_id_span(str_of(text, (size_t)(colon - text))))
		return false;
	*id_len = (size_t)(colon - text);
	return true;
}
