/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything here runs in a worker. Paths are the sandbox's own, so a link or a rename under way can only lead to another
 * place of the same sandbox; what is bounded is the answer (entries and bytes) and the depth of a copy.
 */
#include "local/init/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "local/box_path.h"
#include "local/init_wire.h"
#include "local/tree_remove.h"

enum {
	COPY_DEPTH_MAX = 200
};

int walk_flush(struct walk *w)
{
	if (w->out.failed)
		return -ENOMEM;
	int rc = fd_write_all(w->fd, buf_data(&w->out), w->out.len);
	buf_reset(&w->out);
	return rc;
}

void walk_fill_entry(struct wire_event *e, struct str path, const struct stat *st)
{
	e->path = path;
	e->size = S_ISREG(st->st_mode) && st->st_size > 0 ? (uint64_t)st->st_size : 0;
	e->mode = st->st_mode & 07777;
	e->is_dir = S_ISDIR(st->st_mode);
	e->mtime_sec = st->st_mtime;
}

static int send_entry(struct walk *w, struct str path, const struct stat *st)
{
	struct wire_event e = {.type = WIRE_ENTRY, .job = 1};

	walk_fill_entry(&e, path, st);
	w->entries++;
	w->bytes += wire_entry_cost(path);
	if (w->entries > WIRE_ENTRIES_MAX || w->bytes > WIRE_ENTRIES_BYTES_MAX)
		return -E2BIG;
	wire_put_event(&w->out, &e);
	return w->out.len > WIRE_DATA_MAX ? walk_flush(w) : 0;
}

/* --- names, collected and sorted ------------------------------------------------------------------------------ */

struct names {
	char **items; /* owned, each owned */
	size_t n;
	size_t cap;
	size_t bytes;
};

static void names_fini(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->items[i]);
	free(names->items);
	*names = (struct names){0};
}

static int names_add(struct names *names, const char *name)
{
	names->bytes += strlen(name) + 1;
	if (names->n >= WIRE_ENTRIES_MAX || names->bytes > WIRE_ENTRIES_BYTES_MAX)
		return -E2BIG;
	if (names->n == names->cap) {
		size_t cap = names->cap ? names->cap * 2 : 64;
		char **items = realloc(names->items, cap * sizeof(*items));
		if (!items)
			return -ENOMEM;
		names->items = items;
		names->cap = cap;
	}
	names->items[names->n] = strdup(name);
	return names->items[names->n++] ? 0 : -ENOMEM;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_sort(struct names *names)
{
	if (names->n)
		qsort(names->items, names->n, sizeof(char *), compare_names);
}

/* Opens a directory of the sandbox; never waits, whatever the path is. */
static DIR *open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int read_names(const char *path, struct names *names)
{
	DIR *dir = open_dir(path);
	struct dirent *d;
	int rc = 0;

	if (!dir)
		return -errno;
	while (rc == 0 && (d = readdir(dir)))
		if (!is_dots(d->d_name))
			rc = names_add(names, d->d_name);
	closedir(dir);
	return rc;
}

/* Joins into `out` (BOX_PATH_MAX + 1 bytes). False: too long. */
static bool join(char *out, const char *dir, const char *name)
{
	const char *slash = dir[0] && strcmp(dir, "/") == 0 ? "" : "/";

	return snprintf(out, BOX_PATH_MAX + 1, "%s%s%s", dir, slash, name) <= BOX_PATH_MAX;
}

/* --- list ----------------------------------------------------------------------------------------------------- */

static int list_one(struct walk *w, const char *name)
{
	char path[BOX_PATH_MAX + 1];
	struct stat st;

	/* What vanished meanwhile is left out, as is what has no name that could be used. */
	if (!join(path, w->a, name) || lstat(path, &st) < 0)
		return 0;
	return send_entry(w, str_from(path), &st);
}

int walk_list(struct walk *w)
{
	struct names names = {0};
	int rc = read_names(w->a, &names);

	names_sort(&names);
	for (size_t i = 0; rc == 0 && i < names.n; i++)
		rc = list_one(w, names.items[i]);
	names_fini(&names);
	return rc;
}

/* --- glob ----------------------------------------------------------------------------------------------------- */

struct glob {
	struct names found;
	char path[BOX_PATH_MAX + 1]; /* the directory that is looked at; "" is the root */
};

static int glob_from(struct glob *g, struct str pattern, bool again);

static size_t path_push(struct glob *g, struct str name)
{
	size_t n = strlen(g->path);

	if (n + 1 + name.n > BOX_PATH_MAX)
		return SIZE_MAX;
	g->path[n] = '/';
	memcpy(g->path + n + 1, name.p, name.n);
	g->path[n + 1 + name.n] = 0;
	return n;
}

/* The entry `name` matches the first segment; goes on with the rest of the pattern. */
static int glob_descend(struct glob *g, struct str name, struct str rest)
{
	struct stat st;
	size_t n = path_push(g, name);
	int rc = 0;

	if (n == SIZE_MAX)
		return 0;
	if (rest.p)
		rc = stat(g->path, &st) == 0 && S_ISDIR(st.st_mode) ? glob_from(g, rest, false) : 0;
	else if (lstat(g->path, &st) == 0)
		rc = names_add(&g->found, g->path);
	g->path[n] = 0;
	return rc;
}

/* `**`: this directory, and all below it; links are not followed, so there is no circle. */
static int glob_descend_all(struct glob *g, struct str name, struct str pattern)
{
	struct stat st;
	size_t n = path_push(g, name);
	int rc = 0;

	if (n == SIZE_MAX)
		return 0;
	if (lstat(g->path, &st) == 0 && S_ISDIR(st.st_mode))
		rc = glob_from(g, pattern, true);
	g->path[n] = 0;
	return rc;
}

static int glob_entries(struct glob *g, struct str segment, struct str rest, struct str pattern, bool all)
{
	struct names names = {0};
	int rc = read_names(g->path[0] ? g->path : "/", &names);

	/* A directory that may not be read holds no match. */
	if (rc != -E2BIG && rc != -ENOMEM)
		rc = 0;
	for (size_t i = 0; rc == 0 && i < names.n; i++) {
		struct str name = str_from(names.items[i]);
		if (all)
			rc = glob_descend_all(g, name, pattern);
		else if (box_path_match(segment, name) == 1)
			rc = glob_descend(g, name, rest);
	}
	names_fini(&names);
	return rc;
}

/* `again`: this is a directory below the one where the `**` at the start of the pattern began. */
static int glob_from(struct glob *g, struct str pattern, bool again)
{
	struct str rest = pattern;
	struct str segment = str_cut(&rest, '/');
	int rc;

	if (str_eq(segment, STR("**"))) {
		/* Several in a row mean what one means, and would walk the tree once for every way to share it out. */
		for (struct str next = rest; str_eq(str_cut(&next, '/'), STR("**"));) {
			pattern = rest;
			rest = next;
		}
		if (rest.p)
			rc = glob_from(g, rest, false);
		else
			rc = again || g->path[0] ? names_add(&g->found, g->path) : 0;
		if (rc == 0 && !rest.p)
			rc = glob_entries(g, STR("*"), rest, pattern, false);
		return rc ? rc : glob_entries(g, segment, rest, pattern, true);
	}
	if (box_path_is_pattern(segment))
		return glob_entries(g, segment, rest, pattern, false);
	return glob_descend(g, segment, rest);
}

static int check_segments(struct str pattern)
{
	int rc = 0;

	while (rc >= 0 && pattern.p)
		rc = box_path_match(str_cut(&pattern, '/'), STR("x"));
	return rc < 0 ? rc : 0;
}

int walk_glob(struct walk *w)
{
	struct glob *g = calloc(1, sizeof(*g));
	struct stat st = {0};
	int rc = check_segments(str_from(w->a));

	if (!g)
		return -ENOMEM;
	/* The cleaned pattern begins with a slash. */
	if (rc == 0 && strcmp(w->a, "/") == 0)
		rc = names_add(&g->found, "/");
	else if (rc == 0)
		rc = glob_from(g, str_from(w->a + 1), false);
	names_sort(&g->found);
	for (size_t i = 0; rc == 0 && i < g->found.n; i++)
		if (i == 0 || strcmp(g->found.items[i], g->found.items[i - 1]) != 0)
			rc = send_entry(w, str_from(g->found.items[i]), &st);
	names_fini(&g->found);
	free(g);
	return rc;
}

/* --- delete ---------------------------------------------------------------------------------------------------- */

int walk_delete(struct walk *w)
{
	int fd = open(w->a, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == EACCES && chmod(w->a, 0700) == 0)
		fd = open(w->a, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	(void)fchmod(fd, 0700);
	int rc = tree_remove_children(fd);
	close(fd);
	if (rmdir(w->a) == 0)
		return 0;
	return rc ? rc : -errno;
}

/* --- move to another file system ------------------------------------------------------------------------------- */

int walk_make_parents(const char *path)
{
	char dir[BOX_PATH_MAX + 1];
	struct stat st;
	size_t n = strlen(path);

	if (n > BOX_PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(dir, path, n + 1);
	for (size_t i = 1; i < n; i++) {
		if (path[i] != '/')
			continue;
		dir[i] = 0;
		if (stat(dir, &st) == 0) {
			if (!S_ISDIR(st.st_mode))
				return -ENOTDIR;
		} else if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
			return -errno;
		}
		dir[i] = '/';
	}
	return 0;
}

static int copy_content(int from, int to)
{
	char mem[65536];

	for (;;) {
		ssize_t n = read(from, mem, sizeof(mem));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		int rc = fd_write_all(to, mem, (size_t)n);
		if (rc)
			return rc;
	}
}

static int set_attributes(int fd, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};

	if (fchmod(fd, st->st_mode & 0777) < 0 || futimens(fd, times) < 0)
		return -errno;
	return 0;
}

static int copy_file(int from_dir, const char *from, int to_dir, const char *to)
{
	struct stat st;
	int in = openat(from_dir, from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int out = -1;
	int rc = 0;

	if (in < 0 || fstat(in, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = -EXDEV;
	if (rc == 0 && (out = openat(to_dir, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0)
		rc = -errno;
	if (rc == 0)
		rc = copy_content(in, out);
	if (rc == 0)
		rc = set_attributes(out, &st);
	fd_close(&in);
	fd_close(&out);
	return rc;
}

static int copy_link(int from_dir, const char *from, int to_dir, const char *to)
{
	char target[BOX_PATH_MAX + 1];
	ssize_t n = readlinkat(from_dir, from, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = 0;
	return symlinkat(target, to_dir, to) < 0 ? -errno : 0;
}

static int copy_any(int from_dir, const char *from, int to_dir, const char *to, int depth);

static int copy_entries(int from, int to, int depth)
{
	int copy = dup(from);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *d;
	int rc = dir ? 0 : -errno;

	while (rc == 0 && (d = readdir(dir)))
		if (!is_dots(d->d_name))
			rc = copy_any(from, d->d_name, to, d->d_name, depth + 1);
	if (dir)
		closedir(dir);
	else if (copy >= 0)
		close(copy);
	return rc;
}

static int copy_dir(int from_dir, const char *from, int to_dir, const char *to, int depth)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	struct stat st;
	int in = openat(from_dir, from, flags);
	int out = -1;
	int rc = depth > COPY_DEPTH_MAX ? -ENAMETOOLONG : 0;

	if (rc == 0 &&
	    (in < 0 || fstat(in, &st) < 0 || mkdirat(to_dir, to, 0700) < 0 || (out = openat(to_dir, to, flags)) < 0))
		rc = -errno;
	if (rc == 0)
		rc = copy_entries(in, out, depth);
	if (rc == 0)
		rc = set_attributes(out, &st);
	fd_close(&in);
	fd_close(&out);
	return rc;
}

static int copy_any(int from_dir, const char *from, int to_dir, const char *to, int depth)
{
	struct stat st;

	if (fstatat(from_dir, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return copy_dir(from_dir, from, to_dir, to, depth);
	if (S_ISLNK(st.st_mode))
		return copy_link(from_dir, from, to_dir, to);
	return copy_file(from_dir, from, to_dir, to);
}

static int remove_any(const char *path)
{
	struct walk w = {.a = path};

	if (unlink(path) == 0)
		return 0;
	return errno == EISDIR ? walk_delete(&w) : -errno;
}

/* The copy appears under its name only when it is whole; the source goes after that. */
int walk_move(struct walk *w)
{
	char temp[BOX_PATH_MAX + 1];
	const char *slash = strrchr(w->b, '/');
	int rc;

	if (snprintf(temp, sizeof(temp), "%.*s/.sg-move-%ld~", (int)(slash - w->b), w->b, (long)getpid()) >
	    BOX_PATH_MAX)
		return -ENAMETOOLONG;
	rc = copy_any(AT_FDCWD, w->a, AT_FDCWD, temp, 0);
	if (rc == 0 && rename(temp, w->b) < 0)
		rc = -errno;
	if (rc) {
		(void)!remove_any(temp);
		return rc;
	}
	return remove_any(w->a);
}
