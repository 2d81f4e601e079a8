/* SPDX-License-Identifier: Apache-2.0 */
#include "local/init/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct job *job_new(struct init *init, uint32_t id, const struct job_ops *ops, size_t size)
{
	struct job *job = calloc(1, size);

	if (!job) {
		init_fail_errno(init, id, ENOMEM, "memory");
		return NULL;
	}
	job->init = init;
	job->ops = ops;
	job->id = id;
	job->credit = WIRE_WINDOW;
	list_add_tail(&init->jobs, &job->link);
	return job;
}

void job_free(struct job *job)
{
	if (!job)
		return;
	list_remove(&job->link);
	job->ops->free(job);
}

struct job *job_find(struct init *init, uint32_t id)
{
	LIST_FOREACH (n, &init->jobs) {
		struct job *job = CONTAINER_OF(n, struct job, link);
		if (job->id == id && !job->answered)
			return job;
	}
	return NULL;
}

bool init_may_send(const struct init *init)
{
	return init->out.len < INIT_OUT_HIGH;
}

void init_done(struct init *init, uint32_t id, int exit_code)
{
	wire_put_event(&init->out, &(struct wire_event){.type = WIRE_DONE, .job = id, .exit_code = exit_code});
}

void init_pass(struct init *init, uint32_t id, int fd)
{
	init->pass_fd = fd;
	init->pass_at = init->out.len;
	wire_put_event(&init->out, &(struct wire_event){.type = WIRE_CONNECTED, .job = id});
}

void init_fail(struct init *init, uint32_t id, int error, const char *text)
{
	char mem[WIRE_TEXT_MAX];
	size_t n = strnlen(text, sizeof(mem));

	for (size_t i = 0; i < n; i++)
		mem[i] = (char)((unsigned char)text[i] < 0x20 || (unsigned char)text[i] > 0x7e ? '?' : text[i]);
	wire_put_event(&init->out,
		       &(struct wire_event){.type = WIRE_DONE, .job = id, .error = error, .text = str_of(mem, n)});
}

const char *init_error_text(int error, const char *what, char *mem, size_t size)
{
	switch (error) {
	case ENOENT:
		snprintf(mem, size, "no such %s", what);
		return mem;
	case EROFS:
		return "read-only file system";
	case EISDIR:
		return "is a directory";
	case ENOTDIR:
		return "not a directory";
	case ENOTEMPTY:
		return "directory not empty";
	default:
		snprintf(mem, size, "%s", strerror(error));
		if (mem[0] >= 'A' && mem[0] <= 'Z')
			mem[0] = (char)(mem[0] | 0x20);
		return mem;
	}
}

void init_fail_errno(struct init *init, uint32_t id, int error, const char *what)
{
	char mem[WIRE_TEXT_MAX];

	init_fail(init, id, error, init_error_text(error, what, mem, sizeof(mem)));
}

void init_log(struct init *init, struct str bytes)
{
	buf_add_str(&init->log, bytes);
	if (init->log.len > INIT_LOG_MAX)
		buf_consume(&init->log, init->log.len - INIT_LOG_MAX);
	init_log_flush(init);
}

void init_log_flush(struct init *init)
{
	while (init->log.len && init->log_credit && init_may_send(init)) {
		size_t n = init->log.len < WIRE_DATA_MAX ? init->log.len : WIRE_DATA_MAX;
		if (n > init->log_credit)
			n = (size_t)init->log_credit;
		wire_put_event(&init->out,
			       &(struct wire_event){.type = WIRE_LOG, .bytes = str_of(buf_data(&init->log), n)});
		buf_consume(&init->log, n);
		init->log_credit -= n;
	}
}
