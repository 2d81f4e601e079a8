/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/copy.h"

#include <errno.h>
#include <sys/random.h>

#include "cli/encode.h"
#include "cli/remote.h"
#include "cli/sh_quote.h"

struct str copy_base_name(struct str path)
{
	size_t at;

	while (path.n > 0 && path.p[path.n - 1] == '/')
		path.n--;
	for (at = path.n; at > 0 && path.p[at - 1] != '/'; at--)
		;
	return str_of(path.p + at, path.n - at);
}

void copy_remote_path(struct buf *out, struct str path)
{
	if (!str_starts(path, STR("/")))
		buf_add_cstr(out, "/workspace/");
	buf_add_str(out, path);
}

int copy_temp_name(struct buf *out, struct str path, const char *suffix)
{
	struct str name = copy_base_name(path);
	unsigned char random[8];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -errno;
	buf_add(out, path.p, (size_t)(name.p - path.p));
	buf_add_char(out, '.');
	/* A name may be 255 bytes long; ours must fit too. Cut between characters. */
	if (name.n > 200) {
		for (name.n = 200; name.n > 0 && ((unsigned char)name.p[name.n] & 0xc0) == 0x80; name.n--)
			;
	}
	buf_add_str(out, name);
	buf_add_cstr(out, ".stacygate-");
	for (size_t i = 0; i < sizeof(random); i++)
		buf_addf(out, "%02x", random[i]);
	buf_add_cstr(out, suffix);
	return out->failed ? -ENOMEM : 0;
}

static void add_cksum_script(struct buf *script, struct str path)
{
	buf_add_cstr(script, "cksum <");
	sh_quote(script, path);
	buf_add_cstr(script, " 2>/dev/null || { printf '%s ' - && wc -c <");
	sh_quote(script, path);
	buf_add_cstr(script, "; }");
}

int copy_remote_cksum(struct api *a, const char *id, struct str path, bool *has_crc, uint32_t *crc, uint64_t *bytes,
		      struct fault *f)
{
	struct buf script = BUF_EMPTY;
	struct buf out = BUF_EMPTY;
	int code = 0;
	int rc;

	add_cksum_script(&script, path);
	rc = script.failed ? fault_memory(f) : remote_sh(a, id, buf_str(&script), &code, &out, NULL, f);
	if (rc == 0 && (code != 0 || encode_cksum_parse(buf_str(&out), has_crc, crc, bytes) < 0))
		rc = fault_set(f, FAULT_ERROR, "COPY_FAILED", "the sandbox cannot tell the size of %.*s",
			       STR_ARG(path));
	buf_fini(&script);
	buf_fini(&out);
	return rc;
}
