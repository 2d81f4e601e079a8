/* SPDX-License-Identifier: Apache-2.0 */
#include "local/exec_spec.h"

#include <errno.h>
#include <stdlib.h>

#include "local/go_json.h"

#define FIELD(key, type)                                                                                               \
	{                                                                                                              \
#key, type, offsetof(struct exec_fields, key)                                                          \
	}

static const struct go_field table[] = {
	FIELD(command, GO_STR), FIELD(mode, GO_STR), FIELD(workdir, GO_STR), FIELD(timeout, GO_STR),
	FIELD(args, GO_LIST),   FIELD(env, GO_MAP),  FIELD(stream, GO_BOOL),
};

const struct go_field *exec_fields_table(size_t *n)
{
	*n = sizeof(table) / sizeof(table[0]);
	return table;
}

bool exec_is_blank(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!strchr(" \t\r\n\v\f", s.p[i]) || s.p[i] == '\0')
			return false;
	return true;
}

enum exec_mode exec_mode_of(struct str mode)
{
	while (mode.n && exec_is_blank(str_of(mode.p, 1)))
		mode = str_of(mode.p + 1, mode.n - 1);
	while (mode.n && exec_is_blank(str_of(mode.p + mode.n - 1, 1)))
		mode.n--;
	if (mode.n == 0 || str_eq(mode, STR("shell")))
		return EXEC_SHELL;
	return str_eq(mode, STR("argv")) ? EXEC_ARGV : EXEC_UNKNOWN;
}

/* Whether a media range of an Accept header is for NDJSON with the parameter exit=1. */
static bool range_wants_exit(struct str range)
{
	bool wants = false;

	if (!str_eq_nocase(str_trim(str_cut(&range, ';')), STR("application/x-ndjson")))
		return false;
	while (range.p) {
		struct str value = str_cut(&range, ';');
		struct str name = str_trim(str_cut(&value, '='));
		value = str_trim(value);
		if (str_eq_nocase(name, STR("exit")))
			wants = str_eq(value, STR("1")) || str_eq(value, STR("\"1\""));
	}
	return wants;
}

bool exec_wants_exit(struct str accept)
{
	while (accept.p)
		if (range_wants_exit(str_cut(&accept, ',')))
			return true;
	return false;
}

void exec_quote(struct buf *out, struct str arg)
{
	buf_add_str(out, STR(" '"));
	for (size_t i = 0; i < arg.n; i++) {
		if (arg.p[i] == '\'')
			buf_add_str(out, STR("'\"'\"'"));
		else
			buf_add_char(out, arg.p[i]);
	}
	buf_add_char(out, '\'');
}

static bool has_nul(struct str s)
{
	return s.n && memchr(s.p, '\0', s.n);
}

static int add_argv(struct exec_command *cmd, const struct exec_fields *f)
{
	size_t nargs = json_array_size(f->args);

	cmd->words[0] = f->command;
	for (size_t i = 0; i < nargs; i++)
		cmd->words[i + 1] = go_json_text(json_array_get(f->args, i));
	cmd->spec.nargv = nargs + 1;
	for (size_t i = 0; i < cmd->spec.nargv; i++)
		if (has_nul(cmd->words[i]))
			return -EINVAL;
	return 0;
}

static int add_shell(struct exec_command *cmd, const struct exec_fields *f)
{
	buf_add_str(&cmd->text, f->command);
	for (size_t i = 0; i < json_array_size(f->args); i++)
		exec_quote(&cmd->text, go_json_text(json_array_get(f->args, i)));
	if (cmd->text.failed)
		return -ENOMEM;
	cmd->words[0] = STR("sh");
	cmd->words[1] = STR("-c");
	cmd->words[2] = buf_str(&cmd->text);
	cmd->spec.nargv = 3;
	return has_nul(cmd->words[2]) ? -EINVAL : 0;
}

static int add_env(struct exec_command *cmd, const json_t *env)
{
	struct str *entries = cmd->words + cmd->spec.nargv;
	const char *name;
	const char *at;
	json_t *value;
	size_t n = 0;

	json_object_foreach((json_t *)env, name, value)
	{
		size_t before = cmd->env.len;
		if (!*name || strchr(name, '=') || has_nul(go_json_text(value)))
			return -EINVAL;
		buf_add_cstr(&cmd->env, name);
		buf_add_char(&cmd->env, '=');
		buf_add_str(&cmd->env, go_json_text(value));
		entries[n++].n = cmd->env.len - before;
	}
	if (cmd->env.failed)
		return -ENOMEM;
	at = buf_data(&cmd->env);
	for (size_t i = 0; i < n; i++) {
		entries[i].p = at;
		at += entries[i].n;
	}
	cmd->spec.env = entries;
	cmd->spec.nenv = n;
	return 0;
}

int exec_command_init(struct exec_command *out, const struct exec_fields *f, enum exec_mode mode)
{
	int rc;

	*out = (struct exec_command){.spec.workdir = f->workdir};
	out->words = calloc(json_array_size(f->args) + 3 + json_object_size(f->env), sizeof(*out->words));
	if (!out->words)
		return -ENOMEM;
	out->spec.argv = out->words;
	rc = mode == EXEC_ARGV ? add_argv(out, f) : add_shell(out, f);
	if (rc == 0 && has_nul(f->workdir))
		rc = -EINVAL;
	if (rc == 0)
		rc = add_env(out, f->env);
	return rc;
}

void exec_command_fini(struct exec_command *cmd)
{
	free(cmd->words);
	buf_fini(&cmd->text);
	buf_fini(&cmd->env);
}
