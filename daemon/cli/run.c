/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn -> copy the files -> run the command, streamed -> destroy. From the moment that the sandbox has a
 * name every way out leads through the destroy: a refused copy, a broken stream, a reader that has gone,
 * SIGINT, SIGTERM, SIGHUP (which end the step under way and are then put off). A spawn under way is waited
 * for, since only its answer names what has to be destroyed. What cannot be destroyed is named on stderr; its
 * ttl ends it.
 */
#include "cli/run.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/copy.h"
#include "cli/interrupt.h"
#include "cli/remote.h"
#include "cli/stream_exec.h"

void run_split_file(const char *pair, struct str *local, struct str *remote)
{
	*remote = str_from(pair);
	*local = str_cut(remote, ':');
}

static int copy_file(struct api *a, const char *id, const char *pair, struct fault *f)
{
	struct str local;
	struct str remote;
	char *path;
	uint64_t bytes;
	int rc;

	run_split_file(pair, &local, &remote);
	path = str_dup(local);
	if (!path)
		return fault_memory(f);
	rc = copy_up(a, id, path, remote.p, &bytes, f);
	free(path);
	return rc;
}

static int use(struct api *a, const char *id, const struct options *o, int *code, struct fault *f)
{
	if (interrupt_pending())
		return fault_set(f, FAULT_INTERRUPTED, "INTERRUPTED", "stopped by a signal");
	for (size_t i = 0; i < o->files.n; i++)
		if (copy_file(a, id, o->files.at[i], f) < 0)
			return -1;
	return stream_exec(a, id, o, code, f);
}

static void destroy(struct api *a, const char *id, bool json)
{
	struct fault f = {0};
	struct fault told;

	/* 404: it is gone already, by its ttl or by somebody's kill. */
	if (remote_destroy(a, id, &f) == 0 || f.status == 404)
		return;
	fault_set(&told, FAULT_ERROR, f.code, "the sandbox %s could not be destroyed and lives to its ttl: %.900s", id,
		  f.message);
	fault_print(&told, json);
}

int run_command(struct api *a, const struct options *o, struct fault *f)
{
	char id[REMOTE_ID_SIZE] = "";
	struct buf answer = BUF_EMPTY;
	int code = 0;
	int rc = remote_spawn(a, NULL, o, &answer, id, f);

	buf_fini(&answer);
	if (rc < 0)
		return -1;
	rc = use(a, id, o, &code, f);
	destroy(a, id, o->json);
	return rc < 0 ? -1 : code;
}
