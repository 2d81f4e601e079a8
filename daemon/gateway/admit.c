/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/admit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "gateway/upstream.h"

int admit_shared_init(struct admit_shared *s, struct loop *loop)
{
	s->shared_vm_said = false;
	vm_watch_init(&s->vm_watch, loop);
	feed_init(&s->feed, loop, &s->ownership);
	return ownership_init(&s->ownership, loop);
}

void admit_shared_fini(struct admit_shared *s)
{
	vm_watch_fini(&s->vm_watch);
	feed_fini(&s->feed);
	ownership_fini(&s->ownership);
}

static enum admit_verdict refuse(struct admit *a, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);

static enum admit_verdict refuse(struct admit *a, unsigned status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->why, sizeof(a->why), fmt, ap);
	va_end(ap);
	a->status = status;
	return ADMIT_NO;
}

static enum admit_verdict refuse_unknown(struct admit *a)
{
	return refuse(a, 404, ADMIT_NOT_FOUND_TEXT, STR_ARG(str_from(a->sandbox)));
}

static void tell(struct admit *a, enum admit_verdict verdict)
{
	if (verdict == ADMIT_YES)
		a->on_admitted(a);
	else if (verdict == ADMIT_NO)
		a->on_refused(a);
}

static void on_owner(struct ownership_wait *w, enum owner_answer answer, unsigned status, const char *why)
{
	struct admit *a = CONTAINER_OF(w, struct admit, owner_wait);

	if (answer != OWNER_UNKNOWN)
		feed_want(&a->shared->feed, &a->asker);
	if (answer == OWNER_SAME)
		tell(a, ADMIT_YES);
	else if (answer == OWNER_UNKNOWN)
		tell(a, refuse(a, status, "upstream %s: %s", upstream_name(a->asker.upstream), why));
	else
		tell(a, refuse_unknown(a));
}

static enum admit_verdict ask_owner(struct admit *a)
{
	struct str id = str_from(a->sandbox);

	if (id.n == 0)
		return ADMIT_YES;
	switch (ownership_known(&a->shared->ownership, &a->asker, id)) {
	case OWNER_SAME:
		feed_want(&a->shared->feed, &a->asker);
		return ADMIT_YES;
	case OWNER_OTHER:
		feed_want(&a->shared->feed, &a->asker);
		return refuse_unknown(a);
	case OWNER_UNKNOWN:
	case OWNER_GONE:
		break;
	}
	if (ownership_ask(&a->shared->ownership, &a->asker, id, &a->owner_wait))
		return refuse(a, 503, "out of memory");
	return ADMIT_PENDING;
}

/* Isolation ends where strangers share a machine: that must have been accepted. */
static enum admit_verdict judge_vm(struct admit *a, enum vm_state state)
{
	if (state == VM_SHARED && !a->shared_vm_accepted)
		return refuse(a, 503, VM_SHARED_TEXT, upstream_name(a->asker.upstream));
	if (state == VM_SHARED && !a->shared->shared_vm_said) {
		a->shared->shared_vm_said = true;
		log_warn("upstream %s puts several users into one virtual machine (pool mode): isolation holds for the "
			 "API, not inside that machine (shared_vm: accept)",
			 upstream_name(a->asker.upstream));
	}
	return ask_owner(a);
}

static void on_vm_state(struct vm_wait *w, enum vm_state state)
{
	struct admit *a = CONTAINER_OF(w, struct admit, vm_wait);

	tell(a, judge_vm(a, state));
}

void admit_init(struct admit *a, struct admit_shared *shared)
{
	a->shared = shared;
	a->sandbox[0] = '\0';
	list_init(&a->vm_wait.link);
	a->vm_wait.on_state = on_vm_state;
	list_init(&a->owner_wait.link);
	a->owner_wait.look_up = NULL;
	a->owner_wait.on_known = on_owner;
}

enum admit_verdict admit_ask(struct admit *a)
{
	enum vm_state state;

	if (!vm_watch_ask(&a->shared->vm_watch, &a->asker, &a->vm_wait, &state))
		return ADMIT_PENDING;
	return judge_vm(a, state);
}

void admit_cancel(struct admit *a)
{
	vm_wait_cancel(&a->vm_wait);
	ownership_cancel(&a->owner_wait);
}
