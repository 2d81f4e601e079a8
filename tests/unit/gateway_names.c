/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/names: asked once for all who wait, off the loop; remembered; a service that fails or hangs stops nobody. */
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/loop.h"
#include "gateway/names.h"
#include "lib/wait.h"

static struct loop *loop;
static struct names *names;
static atomic_uint asked;
static pthread_t asker;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held by the test: the service does not answer */
static unsigned told;

/* 7 is called seven, 8 has no name, 9 is not to be had. */
static int scripted(enum names_kind kind, uint32_t id, char **name)
{
	asker = pthread_self();
	atomic_fetch_add(&asked, 1);
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	*name = id == 7 ? strdup(kind == NAMES_USER ? "seven" : "sevens") : NULL;
	return id == 9 ? -EIO : 0;
}

static void on_known(struct names_wait *w)
{
	(void)w;
	told++;
}

static void begin(void)
{
	loop = loop_new();
	names = names_new(loop, scripted);
	cr_assert(loop && names);
}

static void end(void)
{
	names_free(names);
	loop_free(loop);
}

TestSuite(gateway_names, .init = begin, .fini = end);

static bool turn_until_told(void *arg)
{
	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	return told == *(unsigned *)arg;
}

static void wait_told(unsigned n)
{
	cr_assert(wait_until(turn_until_told, &n, WAIT_MS));
}

static enum names_result ask(enum names_kind kind, uint32_t id, const char **name)
{
	struct names_wait w = {.on_known = on_known};
	enum names_result rc;
	unsigned before = told + 1;

	list_init(&w.link);
	rc = names_look_up(names, kind, id, &w, name);
	if (rc != NAMES_WAIT)
		return rc;
	wait_told(before);
	return names_look_up(names, kind, id, &w, name);
}

/* Names come from another thread, users and groups apart, and are asked for once. */
Test(gateway_names, known)
{
	const char *name;

	cr_expect_eq(ask(NAMES_USER, 7, &name), NAMES_KNOWN);
	cr_expect_str_eq(name, "seven");
	cr_expect_eq(ask(NAMES_GROUP, 7, &name), NAMES_KNOWN);
	cr_expect_str_eq(name, "sevens");
	cr_expect_eq(ask(NAMES_USER, 8, &name), NAMES_KNOWN);
	cr_expect_null(name);
	cr_expect_eq(ask(NAMES_USER, 7, &name), NAMES_KNOWN);
	cr_expect_eq(atomic_load(&asked), 3);
	cr_expect_not(pthread_equal(asker, pthread_self()));
}

/* A service that fails is not an id without a name, and is not asked again at once. */
Test(gateway_names, failed)
{
	const char *name;

	cr_expect_eq(ask(NAMES_USER, 9, &name), NAMES_FAILED);
	cr_expect_eq(ask(NAMES_USER, 9, &name), NAMES_FAILED);
	cr_expect_eq(atomic_load(&asked), 1);
}

/* All who ask meanwhile wait for one look-up; who has left is not told. */
Test(gateway_names, one_for_all)
{
	struct names_wait w[3];
	const char *name;

	pthread_mutex_lock(&gate);
	for (size_t i = 0; i < 3; i++) {
		list_init(&w[i].link);
		w[i].on_known = on_known;
		cr_expect_eq(names_look_up(names, NAMES_USER, 7, &w[i], &name), NAMES_WAIT);
	}
	names_cancel(&w[1]);
	pthread_mutex_unlock(&gate);
	wait_told(2);
	cr_expect_eq(atomic_load(&asked), 1);
}

static bool is_asked(void *arg)
{
	(void)arg;
	return atomic_load(&asked) == 1;
}

static uint64_t skipped_ms; /* time that a test lets pass at once */

static uint64_t skipping_ns(void)
{
	return (wait_now_ms() + skipped_ms) * 1000000;
}

/* Nobody waits longer than 10 s: then it is a failure, as it is for who asks soon after; the late answer counts all the same. */
Test(gateway_names, late)
{
	struct names_wait w = {.on_known = on_known};
	const char *name;

	clock_set_source(skipping_ns);
	list_init(&w.link);
	pthread_mutex_lock(&gate);
	cr_expect_eq(names_look_up(names, NAMES_USER, 7, &w, &name), NAMES_WAIT);
	skipped_ms += 10100;
	wait_told(1);
	cr_expect_eq(names_look_up(names, NAMES_USER, 7, &w, &name), NAMES_FAILED);
	/* Once more, for the same question. */
	skipped_ms += 1100;
	cr_expect_eq(names_look_up(names, NAMES_USER, 7, &w, &name), NAMES_WAIT);
	pthread_mutex_unlock(&gate);
	wait_told(2);
	cr_expect_eq(names_look_up(names, NAMES_USER, 7, &w, &name), NAMES_KNOWN);
	cr_expect_str_eq(name, "seven");
	cr_expect_eq(atomic_load(&asked), 1);
	/* A minute later it is asked anew. */
	skipped_ms += 60100;
	cr_expect_eq(ask(NAMES_USER, 7, &name), NAMES_KNOWN);
	cr_expect_eq(atomic_load(&asked), 2);
	clock_set_source(NULL);
}

/* A look-up that hangs does not keep its owner from ending. */
Test(gateway_names, hanging)
{
	struct names_wait w = {.on_known = on_known};
	const char *name;

	list_init(&w.link);
	pthread_mutex_lock(&gate);
	cr_expect_eq(names_look_up(names, NAMES_USER, 7, &w, &name), NAMES_WAIT);
	cr_assert(wait_until(is_asked, NULL, WAIT_MS));
	names_cancel(&w);
	names_free(names);
	names = NULL;
	pthread_mutex_unlock(&gate);
}

/* Far more ids than are remembered: old answers make room for new ones. */
Test(gateway_names, many)
{
	const char *name;

	for (uint32_t id = 1000; id < 6000; id++)
		cr_assert_eq(ask(NAMES_USER, id, &name), NAMES_KNOWN);
	cr_expect_eq(atomic_load(&asked), 5000);
	cr_expect_eq(ask(NAMES_USER, 1000, &name), NAMES_KNOWN);
	cr_expect_eq(atomic_load(&asked), 5001, "it was not forgotten");
}

/* The real service: root has a name, an id that nobody has is without one. */
Test(gateway_names, system)
{
	char *name = NULL;

	cr_expect_eq(names_from_system(NAMES_USER, 0, &name), 0);
	cr_expect_str_eq(name, "root");
	free(name);
	cr_expect_eq(names_from_system(NAMES_GROUP, 0, &name), 0);
	cr_expect_str_eq(name, "root");
	free(name);
	cr_expect_eq(names_from_system(NAMES_USER, 3999999999u, &name), 0);
	cr_expect_null(name);
}
