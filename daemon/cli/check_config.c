/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check_config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/show.h"
#include "common/buf.h"
#include "common/fd.h"
#include "common/json_write.h"
#include "common/process.h"

enum {
	REPORT_MAX_BYTES = 16777216
};

/* Its standard error goes to `to`; standard output, where -t writes nothing, to nowhere. 0 or a positive errno. */
static int start(char *const argv[], int to, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return rc;
	rc = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(&actions, to, 2);
	if (rc == 0)
		rc = posix_spawn(pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

/* The exit status of the program, what it wrote in `report`; or -1 with the fault. */
static int gather(char *const argv[], struct buf *report, struct fault *f)
{
	int ends[2];
	pid_t pid;
	int status = 0;
	int rc;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return fault_errno(f, "pipe", errno);
	rc = start(argv, ends[1], &pid);
	close(ends[1]);
	if (rc) {
		close(ends[0]);
		return fault_errno(f, argv[0], rc);
	}
	rc = fd_read_all(ends[0], REPORT_MAX_BYTES, report);
	close(ends[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return fault_errno(f, argv[0], errno);
	if (interrupt_pending())
		return fault_set(f, FAULT_INTERRUPTED, "INTERRUPTED", "interrupted");
	if (rc)
		return fault_errno(f, argv[0], -rc);
	if (!WIFEXITED(status))
		return fault_set(f, FAULT_ERROR, "CHECK_FAILED", "%s was ended by signal %d", argv[0],
				 WTERMSIG(status));
	return WEXITSTATUS(status);
}

static bool is_warning(struct str line, struct str file)
{
	return str_starts(line, file) && str_starts(str_of(line.p + file.n, line.n - file.n), STR(": warning: "));
}

static void add_lines(struct json_writer *w, const char *key, struct str report, struct str file, bool warnings)
{
	json_array_begin(w, key);
	while (report.n) {
		struct str line = str_cut(&report, '\n');

		if (line.n && is_warning(line, file) == warnings)
			json_str(w, NULL, line);
	}
	json_array_end(w);
}

static int print_report(int status, struct str report, struct str file, struct fault *f)
{
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	json_object_begin(&w, NULL);
	json_bool(&w, "ok", status == 0);
	add_lines(&w, "faults", report, file, false);
	add_lines(&w, "warnings", report, file, true);
	json_object_end(&w);
	buf_add_char(&out, '\n');
	return show_flush(&out, f);
}

int check_config_gather(const char *file, struct buf *report, struct fault *f)
{
	char path[PATH_MAX];
	char check[] = "-t";
	char from[] = "-c";
	char *const argv[] = {path, check, from, (char *)file, NULL};

	process_find("stacygated", SG_SBINDIR, path);
	return gather(argv, report, f);
}

int check_config(const struct options *o, struct fault *f)
{
	const char *file = o->operands.at[0];
	char path[PATH_MAX];
	struct buf report = BUF_EMPTY;
	int status;

	if (!o->json) {
		process_find("stacygated", SG_SBINDIR, path);
		execl(path, path, "-t", "-c", file, (char *)NULL);
		return fault_errno(f, path, errno);
	}
	status = check_config_gather(file, &report, f);
	if (status >= 0 && print_report(status, buf_str(&report), str_from(file), f) < 0)
		status = -1;
	buf_fini(&report);
	return status;
}
