/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text goes into a new file beside the one that is meant and is checked there; then it gets its name, by a link unless
 * --force was given, so that whatever has that name already stays. An answer on the terminal is checked in the same way with
 * what is known by then, and asked for again when it is none.
 */
#include "cli/init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/check_config.h"
#include "cli/init_text.h"
#include "cli/interrupt.h"
#include "cli/show.h"
#include "common/buf.h"
#include "common/fd.h"
#include "common/json_write.h"
#include "common/str.h"

#define SERVICE_FILE SG_SYSCONFDIR "/stacygate/stacygate.yaml"
#define SERVICE_USER "stacygate" /* and its group */
#define REFUSED      "CONFIGURATION"

enum {
	ANSWER_SIZE = 1024
};

struct init {
	const struct options *o; /* borrowed */
	struct init_plan plan;
	char upstream[ANSWER_SIZE]; /* answers on the terminal */
	char key_file[ANSWER_SIZE];
	char own[256];
	char *output; /* owned: the file that is meant */
};

/* The text in a file of its own beside that one. */
struct draft {
	struct buf text;
	char *path; /* owned; NULL: there is none */
	int fd;
};

/* --- the file ------------------------------------------------------------------------------------------------------ */

static void draft_fini(struct draft *d)
{
	if (d->fd >= 0) {
		close(d->fd);
		unlink(d->path);
	}
	free(d->path);
	buf_fini(&d->text);
}

static int draft_init(struct draft *d, const struct init *in, struct fault *f)
{
	int rc;

	*d = (struct draft){.text = BUF_EMPTY, .fd = -1};
	init_text_add(&d->text, &in->plan);
	if (d->text.failed || asprintf(&d->path, "%s.XXXXXX", in->output) < 0) {
		d->path = NULL;
		return fault_memory(f);
	}
	d->fd = mkostemp(d->path, O_CLOEXEC);
	if (d->fd < 0)
		return fault_errno(f, in->output, errno);
	rc = fd_write_all(d->fd, buf_data(&d->text), d->text.len);
	if (rc == 0 && fchmod(d->fd, 0644) < 0)
		rc = -errno;
	return rc < 0 ? fault_errno(f, d->path, -rc) : 0;
}

/* Told of the answer that it comes from, since the file was not written. */
static int refuse(const struct init *in, enum init_part part, struct str what, struct fault *f)
{
	const char *more = "";

	if (part == INIT_KEY && in->plan.for_service)
		more = " (user stacygate is to read it)";
	else if (part == INIT_UPSTREAM && memmem(what.p, what.n, "allow_plaintext", strlen("allow_plaintext")))
		more = " (by --allow-plaintext)";
	return fault_set(f, FAULT_ERROR, REFUSED, "%s: %.*s%s",
			 part == INIT_REST ? "it would not be good" : init_text_option(part), STR_ARG(what), more);
}

/* The first fault that the daemon finds in an answer up to `last`. */
static int judge(const struct init *in, const struct draft *d, enum init_part last, struct str report, struct fault *f)
{
	while (report.n) {
		struct str what = str_cut(&report, '\n');
		enum init_part part = INIT_REST;

		if (str_starts(what, str_from(d->path))) {
			what = str_of(what.p + strlen(d->path), what.n - strlen(d->path));
			/* ":LINE:COLUMN: " */
			part = init_text_part(buf_str(&d->text), what.n ? strtoul(what.p + 1, NULL, 10) : 0);
			for (int i = 0; i < 3 && part != INIT_REST; i++)
				str_cut(&what, ':');
		}
		if (part <= last)
			return refuse(in, part, str_trim(what), f);
	}
	return 0;
}

static int check(const struct init *in, const struct draft *d, enum init_part last, struct fault *f)
{
	struct buf report = BUF_EMPTY;
	int status = check_config_gather(d->path, &report, f);

	if (status > 0)
		status = judge(in, d, last, buf_str(&report), f);
	buf_fini(&report);
	return status;
}

static int put(const struct draft *d, const char *output, bool force, struct fault *f)
{
	if (fsync(d->fd) < 0)
		return fault_errno(f, d->path, errno);
	if ((force ? rename(d->path, output) : link(d->path, output)) == 0)
		return 0;
	if (errno == EEXIST)
		return fault_set(f, FAULT_ERROR, "EXISTS", "%s exists: --force replaces it", output);
	return fault_errno(f, output, errno);
}

static int write_file(const struct init *in, struct fault *f)
{
	struct draft d;
	int rc = draft_init(&d, in, f);

	if (rc == 0)
		rc = check(in, &d, INIT_REST, f);
	if (rc == 0)
		rc = put(&d, in->output, in->o->force, f);
	draft_fini(&d);
	return rc;
}

/* Whether what was answered last is to be asked again: 0, 1 after saying why, or -1 with the fault. */
static int ask_again(const struct init *in, enum init_part last, struct fault *f)
{
	struct draft d;
	int rc = draft_init(&d, in, f);

	if (rc == 0)
		rc = check(in, &d, last, f);
	draft_fini(&d);
	if (rc == 0 || strcmp(f->code, REFUSED) != 0)
		return rc;
	fault_print(f, false);
	*f = (struct fault){0};
	return 1;
}

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

static int find_upstream(struct init *in, struct fault *f)
{
	int rc = 0;

	in->plan.upstream = in->o->upstream;
	if (in->plan.upstream)
		return 0;
	if (!may_ask())
		return fault_set(f, FAULT_USAGE, "USAGE",
				 "init: missing: --upstream local or URL, since there is no terminal to ask on");
	do {
		rc = ask("Server: local, unix:///PATH, http://HOST:PORT or https://HOST:PORT [local]: ", in->upstream,
			 f);
		in->plan.upstream = in->upstream[0] ? in->upstream : "local";
		if (rc == 0)
			rc = ask_again(in, INIT_PLAINTEXT, f);
	} while (rc > 0);
	return rc;
}

static int find_key_file(struct init *in, struct fault *f)
{
	int rc = 0;

	in->plan.key_file = in->o->key_file;
	if (strcmp(in->plan.upstream, "local") == 0)
		return in->plan.key_file
			       ? fault_set(f, FAULT_USAGE, "USAGE",
					   "init: --key-file has no effect with local: the daemon makes that key")
			       : 0;
	if (in->plan.key_file)
		return 0;
	if (!may_ask())
		return fault_set(f, FAULT_USAGE, "USAGE", "init: missing: --key-file PATH for that server");
	in->plan.key_file = in->key_file;
	do {
		rc = ask("File with its key, an absolute path: ", in->key_file, f);
		if (rc == 0)
			rc = ask_again(in, INIT_KEY, f);
	} while (rc > 0);
	return rc;
}

static int find_own(struct init *in, struct fault *f)
{
	const struct passwd *pw = getpwuid(geteuid());

	if (!pw || (size_t)snprintf(in->own, sizeof(in->own), "%s", pw->pw_name) >= sizeof(in->own))
		return fault_set(f, FAULT_ERROR, "NO_USER", "uid %u has no name", (unsigned)geteuid());
	in->plan.own = in->own;
	in->plan.is_root = geteuid() == 0;
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
		return strdup(SERVICE_FILE);
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

static int find_output(struct init *in, struct fault *f)
{
	const char *output = in->o->output;

	in->output = output ? strdup(output) : default_output();
	if (!in->output)
		return fault_set(f, FAULT_ERROR, "NO_PLACE", "HOME is not set: say --output FILE");
	in->plan.for_service = in->plan.is_root && strcmp(in->output, SERVICE_FILE) == 0 && getpwnam(SERVICE_USER);
	return output ? 0 : make_directories(in->output, f);
}

/* --- what is said -------------------------------------------------------------------------------------------------- */

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

static bool is_in_service_group(const char *user)
{
	const struct passwd *pw = getpwnam(user);
	const gid_t primary = pw ? pw->pw_gid : (gid_t)-1;
	const struct group *group = getgrnam(SERVICE_USER);

	for (char **member = group ? group->gr_mem : NULL; member && *member; member++)
		if (strcmp(*member, user) == 0)
			return true;
	return group && group->gr_gid == primary;
}

/* The socket of the service is its socket unit's, which lets root and a group in, whoever has a rule. */
static void say_what_is_left(const struct init *in)
{
	const struct words *users = &in->o->users;

	if (!in->plan.for_service || in->o->json)
		return;
	fputs("stacygate: to put it in force: systemctl restart stacygated\n", stderr);
	for (size_t i = 0; i < users->n; i++)
		if (strcmp(users->at[i], in->own) != 0 && !is_in_service_group(users->at[i]))
			fprintf(stderr,
				"stacygate: %s may not open the socket yet: usermod -aG " SERVICE_USER
				" %s, then a new login; or, for every user, SocketMode=0666 in a drop-in of "
				"stacygated.socket\n",
				users->at[i], users->at[i]);
}

int init_write(const struct options *o, struct fault *f)
{
	struct init in = {.o = o, .plan = {.users = &o->users, .allow_plaintext = o->allow_plaintext}};
	int rc = find_own(&in, f);

	if (rc == 0)
		rc = find_output(&in, f);
	if (rc == 0)
		rc = find_upstream(&in, f);
	if (rc == 0)
		rc = find_key_file(&in, f);
	if (rc == 0)
		rc = write_file(&in, f);
	if (rc == 0)
		rc = print_path(in.output, o->json, f);
	if (rc == 0)
		say_what_is_left(&in);
	free(in.output);
	return rc;
}
