/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/term.h"
#include "common/buf.h"
#include "common/fd.h"
#include "common/json_write.h"

int fault_set(struct fault *f, enum fault_kind kind, const char *code, const char *fmt, ...)
{
	va_list args;

	f->kind = kind;
	f->status = 0;
	f->lines = false;
	snprintf(f->code, sizeof(f->code), "%s", code);
	va_start(args, fmt);
	vsnprintf(f->message, sizeof(f->message), fmt, args);
	va_end(args);
	return -1;
}

int fault_errno(struct fault *f, const char *path, int err)
{
	return fault_set(f, FAULT_ERROR, "LOCAL_ERROR", "%s: %s", path, strerror(err));
}

int fault_memory(struct fault *f)
{
	return fault_set(f, FAULT_ERROR, "LOCAL_ERROR", "out of memory");
}

static void add_json(struct buf *out, const struct fault *f)
{
	struct json_writer w = json_writer(out);

	json_object_begin(&w, NULL);
	json_cstr(&w, "code", f->code);
	json_cstr(&w, "message", f->message);
	if (f->status)
		json_int(&w, "status", f->status);
	json_object_end(&w);
}

static void add_line(struct buf *out, const struct fault *f)
{
	buf_add_cstr(out, "stacygate: ");
	if (f->kind == FAULT_ERROR) {
		term_escape(out, str_from(f->code), TERM_LINE);
		buf_add_cstr(out, ": ");
	}
	if (!f->lines) {
		term_escape(out, str_from(f->message), TERM_LINE);
		return;
	}
	for (struct str rest = str_from(f->message); rest.n;) {
		term_escape(out, str_cut(&rest, '\n'), TERM_LINE);
		if (rest.n)
			buf_add_cstr(out, "\n  ");
	}
}

void fault_print(const struct fault *f, bool json)
{
	struct buf out = BUF_EMPTY;

	switch (f->kind) {
	case FAULT_NONE:
	case FAULT_INTERRUPTED:
	case FAULT_PIPE:
		return;
	case FAULT_USAGE:
	case FAULT_ERROR:
		break;
	}
	if (json)
		add_json(&out, f);
	else
		add_line(&out, f);
	buf_add_char(&out, '\n');
	/* A stderr that cannot be written leaves the exit status to say it. */
	if (!out.failed && fd_write_all(2, buf_data(&out), out.len) < 0)
		out.failed = true;
	buf_fini(&out);
}

int fault_exit_status(const struct fault *f)
{
	switch (f->kind) {
	case FAULT_NONE:
		return 0;
	case FAULT_USAGE:
		return 2;
	case FAULT_ERROR:
	case FAULT_INTERRUPTED:
	case FAULT_PIPE:
		return 1;
	}
	return 1;
}
