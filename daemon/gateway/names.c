/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One entry per id: WAITING for the thread, but not for ever, then KNOWN or FAILED until it is too old. The thread takes questions
 * from a queue under a lock and writes one byte to a pipe per answer; the loop reads the pipe, moves the answer into its
 * entry and wakes who waits. What both touch is a block of its own with two references, since a look-up that hangs must
 * not keep the daemon from stopping: then the thread drops the last one, or the process ends first.
 */
#include "gateway/names.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/loop.h"

enum {
	KNOWN_MS = 60000,
	ANSWER_MS = 10000, /* who waits longer is told that the service does not answer */
	FAILED_MS = 1000,
	ENTRIES_MAX = 4096,
	RECORD_MAX_BYTES = 1048576, /* of a group with many members */
};

enum entry_state {
	ENTRY_WAITING,
	ENTRY_KNOWN,
	ENTRY_FAILED,
};

struct entry {
	struct list link; /* on names.entries, the last used first */
	enum names_kind kind;
	uint32_t id;
	enum entry_state state;
	bool asked;               /* the thread has it, or will take it: the entry stays */
	struct deadline deadline; /* while WAITING */
	char *name;               /* owned; NULL: none */
	uint64_t until_ms;
	struct list waiting; /* struct names_wait */
};

/* A question on its way to the thread and back. */
struct job {
	struct list link; /* on shared.questions or shared.answers */
	enum names_kind kind;
	uint32_t id;
	int rc;
	char *name; /* owned */
};

/* What loop and thread share. */
struct shared {
	pthread_mutex_t lock;
	pthread_cond_t more;
	unsigned refs;
	bool stopping;
	int wake; /* owned; the writing end of the pipe */
	names_source *source;
	struct list questions;
	struct list answers;
};

struct names {
	struct shared *shared; /* one reference */
	bool started;
	int answered;                    /* owned; the reading end */
	struct event *event;             /* owned */
	struct deadline_queue deadlines; /* of entries that wait */
	struct list entries;
	size_t nentries;
};

/* --- the thread --------------------------------------------------------------------------------------------------- */

/* Calls the reentrant function with a buffer that is large enough. */
static int ask_system(enum names_kind kind, uint32_t id, char *room, size_t size, char **name)
{
	struct passwd pw, *user = NULL;
	struct group gr, *group = NULL;
	int rc = kind == NAMES_USER ? getpwuid_r(id, &pw, room, size, &user) : getgrgid_r(id, &gr, room, size, &group);

	*name = NULL;
	if (rc && rc != ENOENT && rc != ESRCH)
		return -rc;
	if (!user && !group)
		return 0;
	*name = strdup(user ? user->pw_name : group->gr_name);
	return *name ? 0 : -ENOMEM;
}

int names_from_system(enum names_kind kind, uint32_t id, char **name)
{
	int rc = -ERANGE;

	for (size_t size = 4096; rc == -ERANGE && size <= RECORD_MAX_BYTES; size *= 4) {
		char *room = malloc(size);
		if (!room)
			return -ENOMEM;
		rc = ask_system(kind, id, room, size, name);
		free(room);
	}
	return rc;
}

static void free_jobs(struct list *jobs)
{
	while (!list_empty(jobs)) {
		struct job *j = LIST_FIRST(jobs, struct job, link);
		list_remove(&j->link);
		free(j->name);
		free(j);
	}
}

/* Called with the lock held; unlocks. */
static void shared_unref(struct shared *s)
{
	bool last = --s->refs == 0;

	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	free_jobs(&s->questions);
	free_jobs(&s->answers);
	pthread_cond_destroy(&s->more);
	pthread_mutex_destroy(&s->lock);
	close(s->wake);
	free(s);
}

static void *work(void *arg)
{
	struct shared *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (!s->stopping && list_empty(&s->questions))
			pthread_cond_wait(&s->more, &s->lock);
		if (s->stopping)
			break;
		struct job *j = LIST_FIRST(&s->questions, struct job, link);
		list_remove(&j->link);
		pthread_mutex_unlock(&s->lock);
		j->rc = s->source(j->kind, j->id, &j->name);
		pthread_mutex_lock(&s->lock);
		list_add_tail(&s->answers, &j->link);
		/* A full pipe wakes the loop as well as one byte more. */
		if (!s->stopping && write(s->wake, "", 1) < 0)
			CHECK(errno == EAGAIN);
	}
	shared_unref(s);
	return NULL;
}

/* Signals are the loop's. */
static int start(struct names *n)
{
	pthread_t thread;
	sigset_t all, old;
	int rc;

	if (n->started)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	n->shared->refs++;
	rc = pthread_create(&thread, NULL, work, n->shared);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		n->shared->refs--;
		return -rc;
	}
	pthread_detach(thread);
	n->started = true;
	return 0;
}

/* --- the loop's side ------------------------------------------------------------------------------------------------ */

static void drop_entry(struct names *n, struct entry *e)
{
	list_remove(&e->link);
	deadline_clear(&e->deadline);
	n->nentries--;
	free(e->name);
	free(e);
}

static struct entry *find_entry(struct names *n, enum names_kind kind, uint32_t id)
{
	LIST_FOREACH (item, &n->entries) {
		struct entry *e = CONTAINER_OF(item, struct entry, link);
		if (e->kind == kind && e->id == id)
			return e;
	}
	return NULL;
}

/* It is known or failed from now on, and who waits is woken. */
static void settle(struct entry *e, enum entry_state state, uint64_t for_ms)
{
	struct list waiting;

	e->state = state;
	e->until_ms = clock_ms() + for_ms;
	deadline_clear(&e->deadline);
	/* Who is woken may ask for other names, and this entry may make room for one. */
	list_init(&waiting);
	if (!list_empty(&e->waiting)) {
		list_add_head(&e->waiting, &waiting);
		list_remove(&e->waiting);
	}
	while (!list_empty(&waiting)) {
		struct names_wait *w = LIST_FIRST(&waiting, struct names_wait, link);
		list_remove(&w->link);
		w->on_known(w);
	}
}

static void on_late(struct deadline *d)
{
	settle(CONTAINER_OF(d, struct entry, deadline), ENTRY_FAILED, FAILED_MS);
}

static void take_answer(struct names *n, struct job *j)
{
	struct entry *e = find_entry(n, j->kind, j->id);
	int rc = j->rc;

	CHECK(e && e->asked && !e->name);
	e->asked = false;
	e->name = j->name;
	free(j);
	settle(e, rc ? ENTRY_FAILED : ENTRY_KNOWN, rc ? FAILED_MS : KNOWN_MS);
}

static void on_answered(evutil_socket_t fd, short what, void *arg)
{
	struct names *n = arg;
	struct job *j;
	char bytes[64];

	(void)what;
	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
	do {
		pthread_mutex_lock(&n->shared->lock);
		j = LIST_FIRST(&n->shared->answers, struct job, link);
		if (j)
			list_remove(&j->link);
		pthread_mutex_unlock(&n->shared->lock);
		if (j)
			take_answer(n, j);
	} while (j);
}

/* The one unused for longest that the thread does not have makes room. */
static bool make_room(struct names *n)
{
	if (n->nentries < ENTRIES_MAX)
		return true;
	for (struct list *item = n->entries.prev; item != &n->entries; item = item->prev) {
		struct entry *e = CONTAINER_OF(item, struct entry, link);
		if (e->asked)
			continue;
		drop_entry(n, e);
		return true;
	}
	return false;
}

static struct entry *add_entry(struct names *n, enum names_kind kind, uint32_t id)
{
	struct entry *e;
	struct job *j;

	if (!make_room(n) || start(n))
		return NULL;
	e = calloc(1, sizeof(*e));
	j = calloc(1, sizeof(*j));
	if (!e || !j) {
		free(e);
		free(j);
		return NULL;
	}
	e->kind = j->kind = kind;
	e->id = j->id = id;
	e->asked = true;
	deadline_init(&e->deadline, on_late);
	list_init(&e->waiting);
	list_add_head(&n->entries, &e->link);
	n->nentries++;
	pthread_mutex_lock(&n->shared->lock);
	list_add_tail(&n->shared->questions, &j->link);
	pthread_cond_signal(&n->shared->more);
	pthread_mutex_unlock(&n->shared->lock);
	return e;
}

enum names_result names_look_up(struct names *n, enum names_kind kind, uint32_t id, struct names_wait *w,
				const char **name)
{
	struct entry *e = find_entry(n, kind, id);
	bool old = e && e->state != ENTRY_WAITING && clock_ms() >= e->until_ms;

	*name = NULL;
	if (old && !e->asked) {
		drop_entry(n, e);
		e = NULL;
	}
	if (!e || old) {
		/* The thread may still have an earlier question, which is waited for once more. */
		e = e ? e : add_entry(n, kind, id);
		if (!e)
			return NAMES_FAILED;
		e->state = ENTRY_WAITING;
		deadline_set(&n->deadlines, &e->deadline);
	}
	list_remove(&e->link);
	list_add_head(&n->entries, &e->link);
	if (e->state == ENTRY_FAILED)
		return NAMES_FAILED;
	if (e->state == ENTRY_WAITING) {
		list_add_tail(&e->waiting, &w->link);
		return NAMES_WAIT;
	}
	*name = e->name;
	return NAMES_KNOWN;
}

void names_cancel(struct names_wait *w)
{
	list_remove(&w->link);
}

static struct shared *shared_new(names_source *source, int *answered)
{
	struct shared *s = calloc(1, sizeof(*s));
	int ends[2];

	if (!s || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->more, NULL);
	s->refs = 1;
	s->source = source;
	s->wake = ends[1];
	*answered = ends[0];
	list_init(&s->questions);
	list_init(&s->answers);
	return s;
}

struct names *names_new(struct loop *loop, names_source *source)
{
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	list_init(&n->entries);
	deadline_queue_init(&n->deadlines, loop, ANSWER_MS);
	n->answered = -1;
	n->shared = shared_new(source, &n->answered);
	if (n->shared)
		n->event = event_new(loop_base(loop), n->answered, EV_READ | EV_PERSIST, on_answered, n);
	if (!n->event || event_add(n->event, NULL) < 0) {
		names_free(n);
		return NULL;
	}
	return n;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	if (n->event)
		event_free(n->event);
	if (n->shared) {
		pthread_mutex_lock(&n->shared->lock);
		n->shared->stopping = true;
		pthread_cond_signal(&n->shared->more);
		shared_unref(n->shared);
	}
	fd_close(&n->answered);
	LIST_FOREACH_SAFE (item, &n->entries)
		drop_entry(n, CONTAINER_OF(item, struct entry, link));
	deadline_queue_fini(&n->deadlines);
	free(n);
}
