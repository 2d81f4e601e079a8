/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line per change, appended by one write(2) each: what the kernel has taken outlives the process.
 *
 *     CHECK put KEY VALUE        CHECK: 8 hexadecimal digits over all that follows the space behind it
 *     CHECK drop KEY
 *
 * with '%', spaces of a key, control bytes and DEL as %XX. All records stay in memory, so that the file can be written anew by
 * nobody else: when lines that no longer count outweigh those that do, the live ones go to a second file that takes its
 * place by rename(2).
 *
 * Failure modes: the disk is full, then the change is owed: it stands on a list, in order, and is written before anything
 * later. A record that is dropped before it was ever written is forgotten; one that was written stays on the list as a drop,
 * so that there are never more of those than records in the file. Half a line was written: it is cut off, or where not even
 * that can be done the next line begins with a newline, and the half is a damaged line at the next start.
 */
#include "gateway/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/check.h"
#include "common/list.h"
#include "common/log.h"

enum {
	BUCKETS = 1024,
	CHECK_DIGITS = 8,
	LINE_MAX_BYTES = 3 * JOURNAL_RECORD_MAX_BYTES + 32, /* every byte escaped */
	READ_BYTES = 65536,
	DEAD_LINES_MIN = 256, /* below this a file is not written anew */
	FILE_MODE = 0600,
};

struct record {
	struct list link;   /* on journal.records; none once it is dropped */
	struct list bucket; /* on one of journal.buckets, dropped ones as well */
	struct list owed;   /* on journal.owed while the file lacks its last change */
	bool dropped;       /* and the file does not know yet */
	bool written;       /* the file has a line of it */
	size_t key_bytes;
	size_t value_bytes;
	char text[]; /* key, then value */
};

struct journal {
	char *path; /* owned */
	int fd;
	struct list records; /* struct record, those that live, oldest change first */
	size_t count;
	struct list owed;             /* struct record, in the order of the changes */
	size_t lines;                 /* in the file */
	size_t patience;              /* dead lines at which the next attempt to write it anew is worth while */
	bool torn;                    /* the file ends within a line */
	bool failing;                 /* the last write failed, and the log says so */
	uint64_t damaged;             /* lines that could not be read */
	struct list buckets[BUCKETS]; /* struct record, by hash of the key */
};

/* --- records -------------------------------------------------------------------------------------------------------- */

static struct str key_of(const struct record *r)
{
	return str_of(r->text, r->key_bytes);
}

static struct str value_of(const struct record *r)
{
	return str_of(r->text + r->key_bytes, r->value_bytes);
}

static struct record *find(struct journal *j, struct str key)
{
	LIST_FOREACH (n, &j->buckets[str_hash(key) % BUCKETS]) {
		struct record *r = CONTAINER_OF(n, struct record, bucket);
		if (str_eq(key_of(r), key))
			return r;
	}
	return NULL;
}

static void forget(struct record *r)
{
	list_remove(&r->link);
	list_remove(&r->bucket);
	list_remove(&r->owed);
	free(r);
}

static struct record *add(struct journal *j, struct str key, struct str value)
{
	struct record *r = malloc(sizeof(*r) + key.n + value.n);

	if (!r)
		return NULL;
	*r = (struct record){.key_bytes = key.n, .value_bytes = value.n};
	memcpy(r->text, key.p, key.n);
	if (value.n)
		memcpy(r->text + key.n, value.p, value.n);
	list_init(&r->owed);
	list_add_tail(&j->records, &r->link);
	list_add_tail(&j->buckets[str_hash(key) % BUCKETS], &r->bucket);
	j->count++;
	return r;
}

/* Puts a record in the place of the one of that key, which may be a dropped one; it is not owed yet. */
static struct record *replace(struct journal *j, struct str key, struct str value)
{
	struct record *old = find(j, key);
	struct record *r = add(j, key, value);

	if (r && old) {
		r->written = old->written;
		j->count -= !old->dropped;
		forget(old);
	}
	return r;
}

/* --- lines ---------------------------------------------------------------------------------------------------------- */

static void add_escaped(struct buf *line, struct str s, bool key)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c < 0x20 || c == 0x7f || c == '%' || (key && c == ' ')) {
			buf_add_char(line, '%');
			buf_add_char(line, hex[c >> 4]);
			buf_add_char(line, hex[c & 15]);
		} else {
			buf_add_char(line, (char)c);
		}
	}
}

static void add_line(struct buf *out, const struct record *r)
{
	struct buf text = BUF_EMPTY;

	buf_add_cstr(&text, r->dropped ? "drop " : "put ");
	add_escaped(&text, key_of(r), true);
	if (!r->dropped) {
		buf_add_char(&text, ' ');
		add_escaped(&text, value_of(r), false);
	}
	buf_addf(out, "%08x ", str_hash(buf_str(&text)));
	buf_add_str(out, buf_str(&text));
	buf_add_char(out, '\n');
	out->failed |= text.failed;
	buf_fini(&text);
}

/* Decodes in place. */
static int unescape(struct str *s)
{
	ssize_t n = str_percent_decode(*s, false, (char *)(uintptr_t)s->p);

	if (n < 0)
		return (int)n;
	s->n = (size_t)n;
	return 0;
}

static bool check_fits(struct str digits, struct str text)
{
	uint32_t check = 0;

	if (digits.n != CHECK_DIGITS)
		return false;
	for (size_t i = 0; i < CHECK_DIGITS; i++) {
		int v = str_hex_value(digits.p[i]);
		if (v < 0)
			return false;
		check = check << 4 | (uint32_t)v;
	}
	return check == str_hash(text);
}

/* Takes a line of the file, which is overwritten. 0, -EBADMSG for a damaged one, or -ENOMEM. */
static int take_line(struct journal *j, struct str line)
{
	struct str digits = str_cut(&line, ' ');
	bool fits = line.p && check_fits(digits, line);
	struct str verb = str_cut(&line, ' ');
	struct str key = str_cut(&line, ' ');
	struct record *old;

	if (!fits || unescape(&key) || unescape(&line) || key.n == 0 || key.n + line.n > JOURNAL_RECORD_MAX_BYTES)
		return -EBADMSG;
	if (str_eq(verb, STR("put"))) {
		struct record *r = replace(j, key, line);
		if (r)
			r->written = true;
		return r ? 0 : -ENOMEM;
	}
	if (!str_eq(verb, STR("drop")))
		return -EBADMSG;
	old = find(j, key);
	if (old) {
		j->count--;
		forget(old);
	}
	return 0;
}

/* --- writing -------------------------------------------------------------------------------------------------------- */

/* One write; what it did not take is cut off again. */
static int append(struct journal *j, struct str line)
{
	off_t end = lseek(j->fd, 0, SEEK_END);
	ssize_t n = write(j->fd, line.p, line.n);
	int rc = n < 0 ? -errno : -ENOSPC;

	if (n == (ssize_t)line.n)
		return 0;
	if (n > 0 && (end < 0 || ftruncate(j->fd, end) < 0))
		j->torn = true;
	return rc;
}

static int write_record(struct journal *j, struct record *r)
{
	struct buf line = BUF_EMPTY;
	int rc;

	if (j->torn)
		buf_add_char(&line, '\n');
	add_line(&line, r);
	rc = line.failed ? -ENOMEM : append(j, buf_str(&line));
	buf_fini(&line);
	if (rc)
		return rc;
	j->torn = false;
	j->lines++;
	r->written = true;
	list_remove(&r->owed);
	if (r->dropped)
		forget(r);
	return 0;
}

static int write_all(int fd, const struct buf *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = write(fd, buf_data(b) + at, b->len - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		at += (size_t)n;
	}
	return 0;
}

static int write_live(struct journal *j, int fd)
{
	struct buf lines = BUF_EMPTY;
	int rc = 0;

	LIST_FOREACH (n, &j->records) {
		add_line(&lines, CONTAINER_OF(n, struct record, link));
		if (lines.failed)
			rc = -ENOMEM;
		else if (lines.len >= READ_BYTES || n->next == &j->records)
			rc = write_all(fd, &lines);
		if (rc)
			break;
		if (lines.len >= READ_BYTES)
			buf_reset(&lines);
	}
	buf_fini(&lines);
	return rc;
}

/* The second file has taken the place of the first: nothing is owed. */
static void use_new_file(struct journal *j, int fd)
{
	close(j->fd);
	j->fd = fd;
	j->torn = false;
	j->lines = j->count;
	LIST_FOREACH (n, &j->records)
		CONTAINER_OF(n, struct record, link)->written = true;
	LIST_FOREACH_SAFE (n, &j->owed) {
		struct record *r = CONTAINER_OF(n, struct record, owed);
		list_remove(&r->owed);
		if (r->dropped)
			forget(r);
	}
}

static int write_anew(struct journal *j)
{
	char *path;
	int fd;
	int rc;

	if (asprintf(&path, "%s.new", j->path) < 0)
		return -ENOMEM;
	unlink(path);
	fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
	rc = fd < 0 ? -errno : write_live(j, fd);
	if (rc == 0 && rename(path, j->path) < 0)
		rc = -errno;
	if (rc == 0) {
		use_new_file(j, fd);
	} else if (fd >= 0) {
		unlink(path);
		close(fd);
	}
	free(path);
	return rc;
}

/* When lines that no longer count outweigh the others. An attempt that failed is made again when there are twice as many. */
static void compact(struct journal *j)
{
	size_t dead = j->lines > j->count ? j->lines - j->count : 0;
	int rc;

	if (dead < j->patience || dead <= j->count)
		return;
	rc = write_anew(j);
	j->patience = rc ? 2 * dead : DEAD_LINES_MIN;
	if (rc)
		log_warn("%s: cannot be written anew: %s; it goes on growing", j->path, strerror(-rc));
}

int journal_retry(struct journal *j)
{
	int rc = 0;

	while (rc == 0 && !list_empty(&j->owed))
		rc = write_record(j, LIST_FIRST(&j->owed, struct record, owed));
	if (rc && !j->failing)
		log_error("%s: cannot be written: %s; what is not in it would not survive the end of this process",
			  j->path, strerror(-rc));
	if (!rc && j->failing)
		log_info("%s: is written again, nothing is missing", j->path);
	j->failing = rc != 0;
	if (rc == 0)
		compact(j);
	return rc;
}

/* --- changes -------------------------------------------------------------------------------------------------------- */

int journal_put(struct journal *j, struct str key, struct str value)
{
	struct record *r;

	if (key.n == 0)
		return -EINVAL;
	if (key.n > JOURNAL_RECORD_MAX_BYTES || value.n > JOURNAL_RECORD_MAX_BYTES - key.n)
		return -EMSGSIZE;
	r = replace(j, key, value);
	if (!r)
		return -ENOMEM;
	list_add_tail(&j->owed, &r->owed);
	return journal_retry(j);
}

int journal_drop(struct journal *j, struct str key)
{
	struct record *r = find(j, key);

	if (!r || r->dropped)
		return journal_retry(j);
	j->count--;
	if (!r->written) {
		forget(r);
		return journal_retry(j);
	}
	r->dropped = true;
	list_remove(&r->link);
	list_remove(&r->owed);
	list_add_tail(&j->owed, &r->owed);
	return journal_retry(j);
}

size_t journal_count(const struct journal *j)
{
	return j->count;
}

uint64_t journal_damaged(const struct journal *j)
{
	return j->damaged;
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

/* The number of bytes that they were, or -ENOMEM. */
static ssize_t take_whole_lines(struct journal *j, struct buf *bytes)
{
	struct str rest = buf_str(bytes);
	size_t used = 0;

	for (;;) {
		const char *end = rest.n ? memchr(rest.p, '\n', rest.n) : NULL;
		size_t n;
		int rc;
		if (!end)
			break;
		n = (size_t)(end - rest.p);
		rc = n > LINE_MAX_BYTES ? -EBADMSG : take_line(j, str_of(rest.p, n));
		if (rc == -ENOMEM)
			return rc;
		j->lines++;
		j->damaged += rc != 0;
		rest = str_of(end + 1, rest.n - n - 1);
		used += n + 1;
	}
	buf_consume(bytes, used);
	return (ssize_t)used;
}

/* Reads all of it; what follows the last newline is cut off. */
static int replay(struct journal *j)
{
	struct buf bytes = BUF_EMPTY;
	off_t end = 0;  /* of what was read */
	off_t good = 0; /* behind the last newline */
	int rc = 0;

	while (rc == 0) {
		char *room = buf_reserve(&bytes, READ_BYTES);
		ssize_t n = room ? read(j->fd, room, READ_BYTES) : -1;
		ssize_t used;
		if (n < 0)
			rc = room ? -errno : -ENOMEM;
		if (n <= 0)
			break;
		buf_commit(&bytes, (size_t)n);
		end += n;
		used = take_whole_lines(j, &bytes);
		rc = used < 0 ? (int)used : 0;
		if (used > 0)
			good = end - (off_t)bytes.len;
		/* Too long to be one of ours: its start goes, its end will be a damaged line. */
		if (bytes.len > LINE_MAX_BYTES)
			buf_consume(&bytes, bytes.len);
	}
	if (rc == 0 && end > good && ftruncate(j->fd, good) < 0)
		j->torn = true;
	buf_fini(&bytes);
	return rc;
}

static int open_file(struct journal *j)
{
	struct stat st;

	j->fd = open(j->path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, FILE_MODE);
	if (j->fd < 0)
		return errno == ELOOP || errno == EISDIR || errno == ENXIO ? -EINVAL : -errno;
	if (fstat(j->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return fchmod(j->fd, FILE_MODE) < 0 ? -errno : 0;
}

int journal_open(const char *path, void (*on_record)(void *arg, struct str key, struct str value), void *arg,
		 struct journal **out)
{
	struct journal *j = calloc(1, sizeof(*j));
	int rc;

	if (!j)
		return -ENOMEM;
	j->fd = -1;
	j->patience = DEAD_LINES_MIN;
	list_init(&j->records);
	list_init(&j->owed);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&j->buckets[i]);
	j->path = strdup(path);
	rc = j->path ? open_file(j) : -ENOMEM;
	if (rc == 0)
		rc = replay(j);
	if (rc) {
		journal_free(j);
		return rc;
	}
	if (j->damaged)
		log_warn("%s: %llu damaged lines are skipped", path, (unsigned long long)j->damaged);
	compact(j);
	LIST_FOREACH (n, &j->records) {
		const struct record *r = CONTAINER_OF(n, struct record, link);
		on_record(arg, key_of(r), value_of(r));
	}
	*out = j;
	return 0;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	while (!list_empty(&j->owed) && j->fd >= 0 && write_record(j, LIST_FIRST(&j->owed, struct record, owed)) == 0)
		;
	LIST_FOREACH_SAFE (n, &j->owed)
		forget(CONTAINER_OF(n, struct record, owed));
	LIST_FOREACH_SAFE (n, &j->records)
		forget(CONTAINER_OF(n, struct record, link));
	if (j->fd >= 0)
		close(j->fd);
	free(j->path);
	free(j);
}

bool journal_owes(const struct journal *j)
{
	return !list_empty(&j->owed);
}
