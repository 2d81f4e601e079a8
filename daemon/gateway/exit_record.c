/* SPDX-License-Identifier: Apache-2.0 */
/* A line is held back only as long as it looks like the record; output never does, since its lines begin with "stream". */
#include "gateway/exit_record.h"

static const struct str prefix = {"{\"exit_code\":", 13};

void exit_record_fini(struct exit_record *r)
{
	buf_fini(&r->line);
}

static bool may_be_one(const struct exit_record *r)
{
	size_t n = r->line.len < prefix.n ? r->line.len : prefix.n;

	return r->line.len <= EXIT_RECORD_MAX_BYTES && str_eq(str_of(buf_data(&r->line), n), str_of(prefix.p, n));
}

/* What was held back is none after all. */
static void let_go(struct exit_record *r, struct buf *out)
{
	buf_add_str(out, buf_str(&r->line));
	out->failed = out->failed || r->line.failed;
	buf_fini(&r->line);
}

static void end_line(struct exit_record *r, struct buf *out)
{
	if (r->line.len >= prefix.n && !r->found) {
		r->found = true;
		return;
	}
	let_go(r, out);
	buf_add_char(out, '\n');
}

void exit_record_feed(struct exit_record *r, struct str bytes, struct buf *out)
{
	while (bytes.n) {
		const char *newline = memchr(bytes.p, '\n', bytes.n);
		size_t n = newline ? (size_t)(newline - bytes.p) : bytes.n;

		if (r->found || r->in_line) {
			buf_add(out, bytes.p, n + (newline != NULL));
			r->in_line = !newline;
		} else {
			buf_add(&r->line, bytes.p, n);
			if (r->line.failed || !may_be_one(r)) {
				let_go(r, out);
				if (newline)
					buf_add_char(out, '\n');
				r->in_line = !newline;
			} else if (newline) {
				end_line(r, out);
			}
		}
		n += newline != NULL;
		bytes = str_of(bytes.p + n, bytes.n - n);
	}
}

void exit_record_end(struct exit_record *r, struct buf *out)
{
	bool open = r->in_line;

	if (!r->found && r->line.len) {
		if (may_be_one(r) && r->line.len >= prefix.n && buf_data(&r->line)[r->line.len - 1] == '}') {
			r->found = true;
		} else {
			let_go(r, out);
			open = true;
		}
	}
	if (open)
		buf_add_char(out, '\n');
	r->in_line = false;
}
