/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ndjson.h"

#include <errno.h>
#include <string.h>

void ndjson_fini(struct ndjson *n)
{
	buf_fini(&n->partial);
}

static int emit(struct str line, ndjson_line_fn on_line, void *user)
{
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	return str_trim(line).n > 0 ? on_line(user, line) : 0;
}

static int keep(struct ndjson *n, struct str bytes)
{
	if (n->partial.len + bytes.n > NDJSON_LINE_MAX)
		return -EMSGSIZE;
	buf_add_str(&n->partial, bytes);
	return n->partial.failed ? -ENOMEM : 0;
}

int ndjson_feed(struct ndjson *n, struct str bytes, ndjson_line_fn on_line, void *user)
{
	int rc = 0;

	while (rc == 0 && bytes.n > 0) {
		const char *end = memchr(bytes.p, '\n', bytes.n);
		struct str line = str_of(bytes.p, end ? (size_t)(end - bytes.p) : bytes.n);

		if (n->partial.len > 0 || !end) {
			rc = keep(n, line);
			if (rc < 0 || !end)
				return rc;
			line = buf_str(&n->partial);
		}
		rc = emit(line, on_line, user);
		buf_reset(&n->partial);
		bytes = str_of(end + 1, bytes.n - (size_t)(end + 1 - bytes.p));
	}
	return rc;
}

int ndjson_finish(struct ndjson *n, ndjson_line_fn on_line, void *user)
{
	int rc = emit(buf_str(&n->partial), on_line, user);

	buf_reset(&n->partial);
	return rc;
}
