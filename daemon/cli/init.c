/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text goes into a new file beside the one that is meant and is checked there; then it gets its name, by a link unless
 * --force was given, so that whatever has that name already stays.
 */
#include "cli/init.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/check_config.h"
#include "cli/interrupt.h"
#include "cli/show.h"
#include "common/buf.h"
#include "common/fd.h"
#include "common/json_write.h"
#include "common/str.h"

enum {
	ANSWER_SIZE = 1024
};

struct plan {
	char upstream_answer[ANSWER_SIZE];
	char key_answer[ANSWER_SIZE];
	char own[256];        /* our own user */
	const char *upstream; /* borrowed */
	const char *key_file; /* borrowed; NULL: the upstream needs none */
	char *output;         /* owned */
};

/* --- what is to be written ----------------------------------------------------------------------------------------- */

static int ask(const char *question, char answer[ANSWER_SIZE], struct fault *f)
{
	bool got = fputs(question, stderr) >= 0 && fgets(answer, ANSWER_SIZE, stdin);

	if (interrupt_pending())
		return fault_set(f, FAULT_INTERRUPTED, "INTERRUPTED", "interrupted");
	if (!got || !strchr(answer, '\n'))
		return fault_set(f, FAULT_ERROR, "NO_ANSWER", got ? "the answer is too long" : "no answer");
	answer[strcspn(answer, "\n")] = '\0';
	return 0;
}

static bool may_ask(void)
{
	return isatty(0) && isatty(2);
}

static int find_upstream(struct plan *p, const struct options *o, struct fault *f)
{
	p->upstream = o->upstream;
	if (p->upstream)
		return 0;
	if (!may_ask())
		return fault_set(f, FAULT_USAGE, "USAGE",
				 "init: missing: --upstream local or URL, since there is no terminal to ask on");
	if (ask("Server: local, unix:///PATH, http://HOST:PORT or https://HOST:PORT [local]: ", p->upstream_answer, f) <
	    0)
		return -1;
	p->upstream = p->upstream_answer[0] ? p->upstream_answer : "local";
	return 0;
}

static int find_key_file(struct plan *p, const struct options *o, struct fault *f)
{
	p->key_file = o->key_file;
	if (strcmp(p->upstream, "local") == 0)
		return p->key_file ? fault_set(f, FAULT_USAGE, "USAGE",
					       "init: --key-file has no effect with local: the daemon makes that key")
				   : 0;
	if (p->key_file)
		return 0;
	if (!may_ask())
		return fault_set(f, FAULT_USAGE, "USAGE", "init: missing: --key-file PATH for %s", p->upstream);
	p->key_file = p->key_answer;
	return ask("File with its key, an absolute path: ", p->key_answer, f);
}

static int find_own(struct plan *p, struct fault *f)
{
	const struct passwd *pw = getpwuid(geteuid());

	if (!pw || (size_t)snprintf(p->own, sizeof(p->own), "%s", pw->pw_name) >= sizeof(p->own))
		return fault_set(f, FAULT_ERROR, "NO_USER", "uid %u has no name", (unsigned)geteuid());
	return 0;
}

/* Where the daemon looks. */
static char *default_output(void)
{
	const char *base = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");
	char *path = NULL;
	int n = -1;

	if (geteuid() == 0)
		return strdup(SG_SYSCONFDIR "/stacygate/stacygate.yaml");
	if (base && base[0] == '/')
		n = asprintf(&path, "%s/stacygate/stacygate.yaml", base);
	else if (home && home[0] == '/')
		n = asprintf(&path, "%s/.config/stacygate/stacygate.yaml", home);
	return n < 0 ? NULL : path;
}

/* The directories above a file. */
static int make_directories(char *path, struct fault *f)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int rc;

		*slash = '\0';
		rc = mkdir(path, 0755) < 0 && errno != EEXIST ? fault_errno(f, path, errno) : 0;
		*slash = '/';
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int find_output(struct plan *p, const struct options *o, struct fault *f)
{
	p->output = o->output ? strdup(o->output) : default_output();
	if (!p->output)
		return fault_set(f, FAULT_ERROR, "NO_PLACE", "HOME is not set: say --output FILE");
	return o->output ? 0 : make_directories(p->output, f);
}

/* --- the text ------------------------------------------------------------------------------------------------------ */

/* A string of JSON is one of YAML. */
static void add_value(struct buf *out, const char *before, const char *value, const char *after)
{
	buf_add_cstr(out, before);
	json_add_quoted(out, str_from(value));
	buf_add_cstr(out, after);
}

static bool names_others(const struct plan *p, const struct options *o)
{
	for (size_t i = 0; i < o->users.n; i++)
		if (strcmp(o->users.at[i], p->own) != 0)
			return true;
	return false;
}

static void add_text(struct buf *out, const struct plan *p, const struct options *o)
{
	const bool others = names_others(p, o);

	buf_add_cstr(out, "# Written by stacygate init; stacygate.yaml.example has every key with its default.\n");
	if (others)
		buf_add_cstr(out, "\nlisten:\n  - path: /run/stacygate/stacygate.sock\n"
				  "    mode: \"0666\"            # who may do what is for the rules to say\n");
	add_value(out, "\nupstreams:\n  main:\n    url: ", p->upstream, "\n");
	if (p->key_file)
		add_value(out, "\ncredentials:\n  main:\n    api_key: { file: ", p->key_file, " }\n");
	buf_add_cstr(out, "\nclients:\n  - name: users\n    match: { user: [");
	if (o->users.n == 0)
		add_value(out, "", p->own, "");
	for (size_t i = 0; i < o->users.n; i++)
		add_value(out, i ? ", " : "", o->users.at[i], "");
	buf_add_cstr(out, "] }\n    upstream: main\n");
	if (p->key_file)
		buf_add_cstr(out, "    credential: main\n");
	buf_add_cstr(out, "    user_id: \"{user}@{host}\"  # each user sees his own sandboxes\n");
	/* On a server of one's own one may do what holds without a file. */
	if (!p->key_file && !others)
		buf_add_cstr(out, "    admin: true\n");
}

/* --- the file ------------------------------------------------------------------------------------------------------ */

/* The first fault that the daemon finds, told of the file that was to be. */
static int check(const char *made, const char *output, struct fault *f)
{
	struct buf report = BUF_EMPTY;
	int status = check_config_gather(made, &report, f);

	if (status > 0) {
		struct str all = buf_str(&report);
		struct str line = str_cut(&all, '\n');

		if (str_starts(line, str_from(made)))
			line = str_of(line.p + strlen(made), line.n - strlen(made));
		status = fault_set(f, FAULT_ERROR, "CONFIGURATION", "%s would not be good%.*s", output, STR_ARG(line));
	}
	buf_fini(&report);
	return status;
}

static int put(int fd, const char *made, const struct buf *text, const char *output, bool force, struct fault *f)
{
	int rc = fd_write_all(fd, buf_data(text), text->len);

	if (rc == 0 && fchmod(fd, 0644) < 0)
		rc = -errno;
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (rc < 0)
		return fault_errno(f, made, -rc);
	if (check(made, output, f) < 0)
		return -1;
	if ((force ? rename(made, output) : link(made, output)) == 0)
		return 0;
	if (errno == EEXIST)
		return fault_set(f, FAULT_ERROR, "EXISTS", "%s exists: --force replaces it", output);
	return fault_errno(f, output, errno);
}

static int write_file(const struct plan *p, const struct options *o, struct fault *f)
{
	struct buf text = BUF_EMPTY;
	char *made = NULL;
	int fd = -1;
	int rc;

	add_text(&text, p, o);
	if (text.failed || asprintf(&made, "%s.XXXXXX", p->output) < 0) {
		buf_fini(&text);
		return fault_memory(f);
	}
	fd = mkostemp(made, O_CLOEXEC);
	rc = fd < 0 ? fault_errno(f, p->output, errno) : put(fd, made, &text, p->output, o->force, f);
	if (fd >= 0) {
		close(fd);
		unlink(made);
	}
	free(made);
	buf_fini(&text);
	return rc;
}

static int print_path(const char *path, bool json, struct fault *f)
{
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	if (json) {
		json_object_begin(&w, NULL);
		json_cstr(&w, "file", path);
		json_object_end(&w);
		buf_add_char(&out, '\n');
	} else {
		buf_addf(&out, "%s\n", path);
	}
	return show_flush(&out, f);
}

int init_write(const struct options *o, struct fault *f)
{
	struct plan p = {0};
	int rc = find_own(&p, f);

	if (rc == 0)
		rc = find_upstream(&p, o, f);
	if (rc == 0)
		rc = find_key_file(&p, o, f);
	if (rc == 0)
		rc = find_output(&p, o, f);
	if (rc == 0)
		rc = write_file(&p, o, f);
	if (rc == 0)
		rc = print_path(p.output, o->json, f);
	free(p.output);
	return rc;
}
