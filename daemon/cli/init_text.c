/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/init_text.h"

#include <string.h>

#include "common/json_write.h"

/* How the lines begin that an answer stands in. */
static const struct {
	const char *begin;
	const char *option;
} parts[] = {
	[INIT_UPSTREAM] = {"    url: ", "--upstream"},
	[INIT_PLAINTEXT] = {"    allow_plaintext: ", "--allow-plaintext"},
	[INIT_KEY] = {"    api_key: ", "--key-file"},
	[INIT_USERS] = {"    match: { user: ", "--user"},
};

/* A string of JSON is one of YAML. */
static void add_value(struct buf *out, const char *before, const char *value, const char *after)
{
	buf_add_cstr(out, before);
	json_add_quoted(out, str_from(value));
	buf_add_cstr(out, after);
}

bool init_text_has_others(const struct init_plan *p)
{
	for (size_t i = 0; i < p->users->n; i++)
		if (strcmp(p->users->at[i], p->own) != 0)
			return true;
	return false;
}

/* The service's socket is its socket unit's, which this agrees with; elsewhere nobody but the rules says who may do what. */
static void add_listen(struct buf *out, const struct init_plan *p)
{
	buf_add_cstr(out, "\nlisten:\n  - path: /run/stacygate/stacygate.sock\n");
	buf_add_cstr(out, p->for_service
				  ? "    mode: \"0660\"             # as stacygated.socket says, which decides\n"
				    "    group: stacygate\n"
				  : "    mode: \"0666\"             # who may do what is for the rules to say\n");
}

static void add_upstream(struct buf *out, const struct init_plan *p)
{
	add_value(out, "\nupstreams:\n  main:\n    url: ", p->upstream, "\n");
	if (p->allow_plaintext)
		buf_add_cstr(out, "    allow_plaintext: true    # the key crosses the network in clear\n");
	if (p->key_file)
		add_value(out, "\ncredentials:\n  main:\n    api_key: { file: ", p->key_file, " }\n");
}

static void add_use(struct buf *out, const struct init_plan *p)
{
	buf_add_cstr(out, "    upstream: main\n");
	if (p->key_file)
		buf_add_cstr(out, "    credential: main\n");
}

/* Whoever looks after the gateway: its full status, reload. Admin routes of a server need a key of their own. */
static void add_root(struct buf *out, const struct init_plan *p)
{
	buf_add_cstr(out, "  - name: root\n    match: { uid: 0 }\n");
	add_use(out, p);
	buf_add_cstr(out, "    admin: true              # reload, the gateway's status, and everybody's sandboxes\n");
	if (p->key_file)
		buf_add_cstr(out,
			     "    allow: [sandboxes, \"templates:read\", \"templates:write\", system, events, preview, "
			     "run, metrics]\n");
}

static void add_users(struct buf *out, const struct init_plan *p, bool admin)
{
	bool first = true;

	buf_add_cstr(out, "  - name: users\n    match: { user: [");
	for (size_t i = 0; i < p->users->n; i++) {
		/* root has a rule before this one. */
		if (p->is_root && strcmp(p->users->at[i], p->own) == 0 && !admin)
			continue;
		add_value(out, first ? "" : ", ", p->users->at[i], "");
		first = false;
	}
	if (first)
		add_value(out, "", p->own, "");
	buf_add_cstr(out, "] }\n");
	add_use(out, p);
	buf_add_cstr(out, admin ? "    admin: true              # on a server of one's own: everything on it\n"
				: "    user_id: \"{user}@{host}\" # each user sees his own sandboxes\n");
}

void init_text_add(struct buf *out, const struct init_plan *p)
{
	const bool others = init_text_has_others(p);
	const bool root_beside = p->is_root && (others || p->key_file);

	buf_add_cstr(out, "# Written by stacygate init; stacygate.yaml.example has every key with its default.\n");
	if (p->for_service)
		buf_add_cstr(out, "\nuser: stacygate              # whom the unit runs it as\n");
	if (others)
		add_listen(out, p);
	add_upstream(out, p);
	buf_add_cstr(out, "\nclients:\n");
	if (root_beside)
		add_root(out, p);
	if (others || !root_beside)
		add_users(out, p, !p->key_file && !others);
}

enum init_part init_text_part(struct str text, unsigned long line)
{
	struct str at = STR("");

	for (unsigned long i = 0; i < line && text.n; i++)
		at = str_cut(&text, '\n');
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (str_starts(at, str_from(parts[i].begin)))
			return (enum init_part)i;
	return INIT_REST;
}

const char *init_text_option(enum init_part part)
{
	return part == INIT_REST ? NULL : parts[part].option;
}
