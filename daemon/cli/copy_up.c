/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file goes to a temporary name beside its target, is compared there, and is then moved over the target.
 *
 * Text up to ENCODE_TEXT_MAX goes through the file API's write and is read back. Anything else, and what is
 * larger, goes in pieces: each is written as base64 to a part file and appended to the temporary one by
 * `base64 -d` inside; then size and, where the sandbox has cksum(1), checksum are compared. Memory is bounded
 * by one piece.
 *
 * Any fault, a signal too, removes the temporary files; the target was not touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/copy.h"
#include "cli/encode.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/sh_quote.h"
#include "common/fd.h"

struct upload {
	struct api *api;
	const char *id;
	struct fault *fault;
	const char *local; /* as it was given, for messages */
	int fd;            /* owned; a regular file */
	uint64_t bytes;
	mode_t mode;
	struct buf target; /* absolute path in the sandbox */
	struct buf temp;   /* beside it: becomes the target */
	struct buf part;   /* beside it: base64 of one piece */
};

/* ---- the source -------------------------------------------------------- */

static int interrupted(struct fault *f)
{
	return fault_set(f, FAULT_INTERRUPTED, "INTERRUPTED", "stopped by a signal");
}

/* Standard input, waited for together with a signal. Bytes, 0 at the end, -1 with the fault. */
static ssize_t read_input(struct upload *u, void *p, size_t n)
{
	for (;;) {
		struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};
		ssize_t got;

		if (interrupt_pending())
			return interrupted(u->fault);
		if (poll(fds, 2, -1) < 0 || fds[0].revents == 0)
			continue;
		got = read(0, p, n);
		if (got >= 0)
			return got;
		if (errno != EINTR && errno != EAGAIN)
			return fault_errno(u->fault, "standard input", errno);
	}
}

static int unnamed_file(void)
{
	const char *dir = getenv("TMPDIR");

	return open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* Its size must be known before anything is sent, so a pipe is kept in a file without a name first. */
static int spool_input(struct upload *u)
{
	char piece[16384];
	ssize_t got;

	u->fd = unnamed_file();
	if (u->fd < 0)
		return fault_errno(u->fault, "temporary file", errno);
	while ((got = read_input(u, piece, sizeof(piece))) > 0) {
		int rc = fd_write_all(u->fd, piece, (size_t)got);

		if (rc < 0)
			return fault_errno(u->fault, "temporary file", -rc);
	}
	return (int)got;
}

static int open_source(struct upload *u)
{
	struct stat st;
	bool input = strcmp(u->local, "-") == 0;

	if (input) {
		if (spool_input(u) < 0)
			return -1;
	} else {
		/* Not waiting for a writer if it is a FIFO, which is refused below. */
		u->fd = open(u->local, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	}
	if (u->fd < 0 || fstat(u->fd, &st) < 0)
		return fault_errno(u->fault, u->local, errno);
	if (S_ISDIR(st.st_mode))
		return fault_errno(u->fault, u->local, EISDIR);
	if (!S_ISREG(st.st_mode))
		return fault_set(u->fault, FAULT_ERROR, "LOCAL_ERROR",
				 "%s: not a regular file; \"-\" copies standard input", u->local);
	u->bytes = (uint64_t)st.st_size;
	u->mode = input ? 0644 : st.st_mode & 0777;
	return 0;
}

/* Exactly n bytes from the offset; fewer are a fault: the file changed under us. */
static int read_piece(struct upload *u, uint64_t offset, size_t n, struct buf *out)
{
	buf_reset(out);
	while (out->len < n) {
		char *to = buf_reserve(out, n - out->len);
		ssize_t got = to ? pread(u->fd, to, n - out->len, (off_t)(offset + out->len)) : -ENOMEM;

		if (!to)
			return fault_memory(u->fault);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fault_errno(u->fault, u->local, errno);
		if (got == 0)
			return fault_set(u->fault, FAULT_ERROR, "COPY_FAILED", "%s: it changed while it was read",
					 u->local);
		buf_commit(out, (size_t)got);
	}
	return 0;
}

/* ---- the target -------------------------------------------------------- */

static struct str source_name(const struct upload *u)
{
	return strcmp(u->local, "-") == 0 ? STR("") : copy_base_name(str_from(u->local));
}

static int append_name(struct upload *u)
{
	struct str name = source_name(u);

	if (name.n == 0)
		return fault_set(u->fault, FAULT_ERROR, "COPY_FAILED", "%.*s is a directory",
				 STR_ARG(buf_str(&u->target)));
	if (!str_ends(buf_str(&u->target), STR("/")))
		buf_add_char(&u->target, '/');
	buf_add_str(&u->target, name);
	return u->target.failed ? fault_memory(u->fault) : 0;
}

/* A directory gets the file under its own name. */
static int find_target(struct upload *u, const char *remote)
{
	struct remote_stat st;
	struct fault f = {0};

	copy_remote_path(&u->target, str_from(remote));
	if (u->target.failed)
		return fault_memory(u->fault);
	if (remote_stat(u->api, u->id, buf_str(&u->target), &st, &f) == 0) {
		if (st.is_dir && append_name(u) < 0)
			return -1;
	} else if (f.status != 500) {
		/* 500 is how the server says that there is nothing yet. */
		*u->fault = f;
		return -1;
	} else if (str_ends(buf_str(&u->target), STR("/")) && append_name(u) < 0) {
		return -1;
	}
	if (!encode_is_text(buf_str(&u->target)))
		return fault_set(u->fault, FAULT_ERROR, "COPY_FAILED",
				 "%.*s: not valid UTF-8, which the API cannot carry", STR_ARG(buf_str(&u->target)));
	if (copy_temp_name(&u->temp, buf_str(&u->target), "") < 0 ||
	    copy_temp_name(&u->part, buf_str(&u->target), ".part") < 0)
		return fault_memory(u->fault);
	return 0;
}

/* ---- text -------------------------------------------------------------- */

struct comparison {
	struct str expected; /* what has not been seen yet */
	bool differs;
};

static int compare(void *user, struct str bytes)
{
	struct comparison *c = user;

	if (c->differs || bytes.n > c->expected.n || memcmp(bytes.p, c->expected.p, bytes.n) != 0) {
		c->differs = true;
		return 0;
	}
	c->expected = str_of(c->expected.p + bytes.n, c->expected.n - bytes.n);
	return 0;
}

static int differs(struct upload *u)
{
	return fault_set(u->fault, FAULT_ERROR, "COPY_FAILED", "what arrived in the sandbox is not what was sent");
}

static int send_text(struct upload *u, struct str text)
{
	struct str temp = buf_str(&u->temp);
	struct comparison c = {.expected = str_of(text.p ? text.p : "", text.n)};

	if (remote_write(u->api, u->id, temp, u->mode, c.expected, u->fault) < 0 ||
	    remote_read(u->api, u->id, temp, compare, &c, u->fault) < 0)
		return -1;
	if (c.differs || c.expected.n > 0)
		return differs(u);
	return remote_move(u->api, u->id, temp, buf_str(&u->target), u->fault);
}

/* ---- pieces ------------------------------------------------------------ */

/* Runs the script; what it prints on stderr is the reason when it fails. */
static int run_script(struct upload *u, struct buf *script)
{
	struct buf err = BUF_EMPTY;
	int code = 0;
	int rc;

	rc = script->failed ? fault_memory(u->fault)
			    : remote_sh(u->api, u->id, buf_str(script), &code, NULL, &err, u->fault);
	if (rc == 0 && code != 0)
		rc = fault_set(u->fault, FAULT_ERROR, "COPY_FAILED", "in the sandbox: %.*s (exit code %d)",
			       STR_ARG(str_trim(str_of(buf_data(&err), err.len > 0 ? err.len - 1 : 0))), code);
	buf_fini(script);
	buf_fini(&err);
	return rc;
}

static int append_piece(struct upload *u, struct str piece)
{
	struct buf encoded = BUF_EMPTY;
	struct buf script = BUF_EMPTY;
	int rc;

	encode_base64(&encoded, piece);
	rc = encoded.failed ? fault_memory(u->fault)
			    : remote_write(u->api, u->id, buf_str(&u->part), 0600, buf_str(&encoded), u->fault);
	buf_fini(&encoded);
	if (rc < 0)
		return -1;
	buf_add_cstr(&script, "umask 077; base64 -d <");
	sh_quote(&script, buf_str(&u->part));
	buf_add_cstr(&script, " >>");
	sh_quote(&script, buf_str(&u->temp));
	return run_script(u, &script);
}

static int check_sum(struct upload *u, const struct encode_cksum *sum)
{
	bool has_crc = false;
	uint32_t crc = 0;
	uint64_t bytes = 0;

	if (copy_remote_cksum(u->api, u->id, buf_str(&u->temp), &has_crc, &crc, &bytes, u->fault) < 0)
		return -1;
	if (bytes != sum->bytes || (has_crc && crc != encode_cksum_value(sum)))
		return differs(u);
	return 0;
}

static int put_in_place(struct upload *u)
{
	struct buf script = BUF_EMPTY;

	buf_add_cstr(&script, "rm -f ");
	sh_quote(&script, buf_str(&u->part));
	buf_addf(&script, "; chmod %04o ", (unsigned)u->mode);
	sh_quote(&script, buf_str(&u->temp));
	buf_add_cstr(&script, " && mv -f ");
	sh_quote(&script, buf_str(&u->temp));
	buf_add_char(&script, ' ');
	sh_quote(&script, buf_str(&u->target));
	return run_script(u, &script);
}

static int send_pieces(struct upload *u, struct buf *piece)
{
	struct encode_cksum sum = ENCODE_CKSUM_EMPTY;

	while (sum.bytes < u->bytes) {
		uint64_t left = u->bytes - sum.bytes;

		if (read_piece(u, sum.bytes, left < ENCODE_PIECE_BYTES ? (size_t)left : ENCODE_PIECE_BYTES, piece) <
			    0 ||
		    append_piece(u, buf_str(piece)) < 0)
			return -1;
		encode_cksum_add(&sum, buf_str(piece));
		progress_bytes(api_progress(u->api), sum.bytes);
	}
	return check_sum(u, &sum) < 0 ? -1 : put_in_place(u);
}

static int send_file(struct upload *u)
{
	struct buf content = BUF_EMPTY;
	int rc;

	if (u->bytes > ENCODE_TEXT_MAX)
		rc = send_pieces(u, &content);
	else if (read_piece(u, 0, (size_t)u->bytes, &content) < 0)
		rc = -1;
	else if (encode_is_text(buf_str(&content)))
		rc = send_text(u, buf_str(&content));
	else
		rc = send_pieces(u, &content);
	buf_fini(&content);
	return rc;
}

/* Nothing else can be done if this fails too; the first fault is the one to tell. */
static void clean_up(struct upload *u)
{
	struct fault ignored = {0};

	remote_delete(u->api, u->id, buf_str(&u->temp), &ignored);
	remote_delete(u->api, u->id, buf_str(&u->part), &ignored);
}

int copy_up(struct api *a, const char *id, const char *local, const char *remote, uint64_t *bytes, struct fault *f)
{
	struct upload u = {.api = a, .id = id, .fault = f, .local = local, .fd = -1};
	int rc = open_source(&u);

	if (rc == 0)
		rc = find_target(&u, remote);
	if (rc == 0) {
		progress_begin(api_progress(a), "copying", u.bytes);
		rc = send_file(&u);
		progress_end(api_progress(a));
		if (rc < 0)
			clean_up(&u);
	}
	*bytes = u.bytes;
	fd_close(&u.fd);
	buf_fini(&u.target);
	buf_fini(&u.temp);
	buf_fini(&u.part);
	return rc;
}
