/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each answer has a file named by hashes of whose it is; what it says of itself in its first line, with a checksum, is
 * compared when it is read, so a hash that two share, a cut file and one of zeros are harmless. Files are made under another
 * name and renamed. Nothing is synced: after a crash of the machine less may be there, never something else.
 *
 * What is to be done waits in a queue, of which a timer does a few at a time. An answer that is dropped before it was written
 * is never written.
 */
#include "gateway/cache_keep.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/fd.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"

enum {
	BUCKETS = 256,
	JOBS_PER_TURN = 16,
	TURN_MS = 50,
	FILE_MAX_BYTES = 1048576,
	WAITING_MAX_BYTES = 8 * 1048576,
	NAME_BYTES = 34, /* two hashes in hexadecimal, a dash, and a NUL */
	PARTS = 6,
};

#define MAGIC     "stacygate-cache-1"
#define TEMPORARY "new"

struct kept {
	struct list link;  /* in its bucket */
	struct list age;   /* on the list of those that are to stay, the one put last at its end */
	struct list job;   /* on the queue while something is to be done */
	uint64_t upstream; /* hash */
	uint64_t id;       /* hash of all of its key */
	struct buf text;   /* to be written; empty: it is to be removed, or nothing is to be done */
	bool there;        /* there may be a file */
};

struct cache_keep {
	struct loop *loop;   /* borrowed */
	struct event *timer; /* owned */
	bool ticking;
	int dir; /* owned; descriptor */
	size_t max_files;
	size_t count; /* of kept */
	size_t waiting_bytes;
	bool failed; /* the last write did; said once */
	struct list buckets[BUCKETS];
	struct list ages;
	struct list jobs;
};

/* FNV-1a; whoever makes two keys collide loses what is kept of his own. */
static uint64_t hash_more(uint64_t hash, struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		hash = (hash ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
	return (hash ^ 0xff) * UINT64_C(0x100000001b3); /* so that parts do not run into each other */
}

static uint64_t hash_of(struct str s)
{
	return hash_more(UINT64_C(0xcbf29ce484222325), s);
}

static uint64_t id_of(const struct cache_keep_key *key)
{
	return hash_more(hash_more(hash_more(hash_of(key->upstream), key->credential), key->user_id), key->target);
}

static void name_of(const struct kept *f, char out[NAME_BYTES])
{
	snprintf(out, NAME_BYTES, "%016" PRIx64 "-%016" PRIx64, f->upstream, f->id);
}

/* --- files -------------------------------------------------------------------------------------------------------------- */

static void add_text(struct buf *out, const struct cache_keep_entry *e)
{
	const struct str parts[PARTS] = {e->key.upstream, e->key.credential, e->key.user_id,
					 e->key.target,   e->head,           e->body};
	uint64_t sum = hash_of(STR(MAGIC));

	for (int i = 0; i < PARTS; i++)
		sum = hash_more(sum, parts[i]);
	buf_addf(out, MAGIC " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, sum, (uint64_t)e->asked_at_wall_ms,
		 e->age_ms, e->fresh_ms);
	for (int i = 0; i < PARTS; i++)
		buf_addf(out, " %zu", parts[i].n);
	buf_add_char(out, '\n');
	for (int i = 0; i < PARTS; i++)
		buf_add_str(out, parts[i]);
}

static bool take_number(struct str *line, uint64_t *out)
{
	return str_parse_u64(str_cut(line, ' '), out) == 0;
}

static bool read_text(struct str text, struct cache_keep_entry *e)
{
	struct str *const parts[PARTS] = {&e->key.upstream, &e->key.credential, &e->key.user_id,
					  &e->key.target,   &e->head,           &e->body};
	struct str line = str_cut(&text, '\n');
	uint64_t sum, wall, n;
	uint64_t made = hash_of(STR(MAGIC));

	if (!str_eq(str_cut(&line, ' '), STR(MAGIC)) || !take_number(&line, &sum) || !take_number(&line, &wall) ||
	    !take_number(&line, &e->age_ms) || !take_number(&line, &e->fresh_ms) || wall > INT64_MAX)
		return false;
	e->asked_at_wall_ms = (int64_t)wall;
	for (int i = 0; i < PARTS; i++) {
		if (!take_number(&line, &n) || n > text.n)
			return false;
		*parts[i] = str_of(text.p, n);
		text = str_of(text.p + n, text.n - n);
		made = hash_more(made, *parts[i]);
	}
	return line.n == 0 && text.n == 0 && made == sum;
}

static int write_file(int dir, const char *name, const struct buf *text)
{
	int fd = openat(dir, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fd_write_all(fd, buf_data(text), text->len);
	close(fd);
	if (rc == 0 && renameat(dir, TEMPORARY, dir, name) < 0)
		rc = -errno;
	if (rc)
		(void)unlinkat(dir, TEMPORARY, 0);
	return rc;
}

static int read_file(int dir, const char *name, struct buf *text)
{
	struct stat st;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int rc = -EINVAL;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		rc = fd_read_all(fd, FILE_MAX_BYTES + 65536, text);
	close(fd);
	return rc;
}

static int open_dir(const char *dir, bool make, int *out)
{
	char *path;
	int rc = 0;

	if (asprintf(&path, "%s/cache", dir) < 0)
		return -ENOMEM;
	if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0) {
		*out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		rc = *out < 0 ? -errno : 0;
	}
	free(path);
	return rc;
}

/* --- what is known of them ------------------------------------------------------------------------------------------------ */

static struct kept *find(struct cache_keep *k, uint64_t upstream, uint64_t id)
{
	LIST_FOREACH (n, &k->buckets[id % BUCKETS]) {
		struct kept *f = CONTAINER_OF(n, struct kept, link);
		if (f->id == id && f->upstream == upstream)
			return f;
	}
	return NULL;
}

static struct kept *add(struct cache_keep *k, uint64_t upstream, uint64_t id)
{
	struct kept *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->upstream = upstream;
	f->id = id;
	list_init(&f->job);
	list_add_tail(&k->buckets[id % BUCKETS], &f->link);
	list_add_tail(&k->ages, &f->age);
	k->count++;
	return f;
}

static void forget(struct cache_keep *k, struct kept *f)
{
	list_remove(&f->link);
	list_remove(&f->age);
	list_remove(&f->job);
	k->waiting_bytes -= f->text.len;
	k->count--;
	buf_fini(&f->text);
	free(f);
}

/* --- jobs ----------------------------------------------------------------------------------------------------------------- */

static void tick(struct cache_keep *k)
{
	const struct timeval tv = {.tv_usec = TURN_MS * 1000};

	if (!k->ticking && event_add(k->timer, &tv) == 0)
		k->ticking = true;
}

static void do_job(struct cache_keep *k, struct kept *f)
{
	char name[NAME_BYTES];
	int rc;

	list_remove(&f->job);
	name_of(f, name);
	if (f->text.len == 0) {
		(void)unlinkat(k->dir, name, 0);
		forget(k, f);
		return;
	}
	rc = write_file(k->dir, name, &f->text);
	k->waiting_bytes -= f->text.len;
	buf_fini(&f->text);
	f->there = f->there || rc == 0;
	if (rc && !k->failed)
		log_warn("cache: what is remembered cannot be kept: %s", strerror(-rc));
	k->failed = rc != 0;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct cache_keep *k = arg;

	(void)fd;
	(void)what;
	k->ticking = false;
	for (int i = 0; i < JOBS_PER_TURN && !list_empty(&k->jobs); i++)
		do_job(k, LIST_FIRST(&k->jobs, struct kept, job));
	if (!list_empty(&k->jobs))
		tick(k);
}

static void queue(struct cache_keep *k, struct kept *f)
{
	if (list_empty(&f->job))
		list_add_tail(&k->jobs, &f->job);
	tick(k);
}

/* It is not to be kept any more. */
static void doom(struct cache_keep *k, struct kept *f)
{
	list_remove(&f->age);
	k->waiting_bytes -= f->text.len;
	buf_fini(&f->text);
	if (f->there)
		queue(k, f);
	else
		forget(k, f);
}

void cache_keep_put(struct cache_keep *k, const struct cache_keep_entry *e)
{
	uint64_t upstream = hash_of(e->key.upstream);
	uint64_t id = id_of(&e->key);
	struct kept *f = find(k, upstream, id);
	size_t bytes = e->key.target.n + e->head.n + e->body.n;

	if (bytes > FILE_MAX_BYTES || k->waiting_bytes + bytes > WAITING_MAX_BYTES) {
		if (f)
			doom(k, f); /* an older one must not stand for it */
		return;
	}
	if (!f && k->count >= k->max_files && !list_empty(&k->ages))
		doom(k, CONTAINER_OF(k->ages.next, struct kept, age));
	if (!f)
		f = add(k, upstream, id);
	if (!f)
		return;
	list_remove(&f->age);
	list_add_tail(&k->ages, &f->age);
	k->waiting_bytes -= f->text.len;
	buf_reset(&f->text);
	add_text(&f->text, e);
	k->waiting_bytes += f->text.len;
	if (f->text.failed)
		doom(k, f);
	else
		queue(k, f);
}

void cache_keep_drop(struct cache_keep *k, const struct cache_keep_key *key)
{
	struct kept *f = find(k, hash_of(key->upstream), id_of(key));

	if (f)
		doom(k, f);
}

void cache_keep_drop_upstream(struct cache_keep *k, struct str upstream)
{
	uint64_t hash = hash_of(upstream);

	LIST_FOREACH_SAFE (n, &k->ages) {
		struct kept *f = CONTAINER_OF(n, struct kept, age);
		if (f->upstream == hash)
			doom(k, f);
	}
}

void cache_keep_drop_all(struct cache_keep *k)
{
	LIST_FOREACH_SAFE (n, &k->ages)
		doom(k, CONTAINER_OF(n, struct kept, age));
}

/* --- start and stop --------------------------------------------------------------------------------------------------------- */

int cache_keep_open(struct loop *loop, const char *dir, size_t max_files, struct cache_keep **out)
{
	struct cache_keep *k = calloc(1, sizeof(*k));
	int rc;

	if (!k)
		return -ENOMEM;
	k->loop = loop;
	k->max_files = max_files;
	k->dir = -1;
	list_init(&k->ages);
	list_init(&k->jobs);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&k->buckets[i]);
	k->timer = evtimer_new(loop_base(loop), on_tick, k);
	rc = k->timer ? open_dir(dir, true, &k->dir) : -ENOMEM;
	if (rc) {
		cache_keep_close(k);
		return rc;
	}
	*out = k;
	return 0;
}

void cache_keep_close(struct cache_keep *k)
{
	if (!k)
		return;
	while (!list_empty(&k->jobs))
		do_job(k, LIST_FIRST(&k->jobs, struct kept, job));
	while (!list_empty(&k->ages))
		forget(k, CONTAINER_OF(k->ages.next, struct kept, age));
	if (k->timer)
		event_free(k->timer);
	fd_close(&k->dir);
	free(k);
}

/* Whether the file is one of ours, whole, and wanted. */
static bool read_one(struct cache_keep *k, const char *name, bool (*each)(void *arg, const struct cache_keep_entry *e),
		     void *arg)
{
	struct buf text = BUF_EMPTY;
	struct cache_keep_entry e = {0};
	char expected[NAME_BYTES];
	bool good = read_file(k->dir, name, &text) == 0 && read_text(buf_str(&text), &e) && k->count < k->max_files;
	struct kept *f = good ? add(k, hash_of(e.key.upstream), id_of(&e.key)) : NULL;

	if (f) {
		f->there = true;
		name_of(f, expected);
		good = strcmp(expected, name) == 0 && each(arg, &e);
		if (!good)
			forget(k, f);
	}
	buf_fini(&text);
	return f && good;
}

void cache_keep_read(struct cache_keep *k, bool (*each)(void *arg, const struct cache_keep_entry *e), void *arg)
{
	int fd = fcntl(k->dir, F_DUPFD_CLOEXEC, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		fd_close(&fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !read_one(k, entry->d_name, each, arg))
			(void)unlinkat(k->dir, entry->d_name, 0);
	closedir(dir);
}

void cache_keep_clean(const char *path)
{
	int fd;
	DIR *dir;
	struct dirent *entry;

	if (open_dir(path, false, &fd))
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			(void)unlinkat(fd, entry->d_name, 0);
	closedir(dir);
}
