/* SPDX-License-Identifier: Apache-2.0 */
/* Knows of each server whether its pool mode puts several users into one virtual machine (shared_vm). */
#ifndef GATEWAY_VM_WATCH_H
#define GATEWAY_VM_WATCH_H

#include <stdbool.h>

#include "common/err.h"
#include "common/list.h"
#include "gateway/ownership.h"

struct loop;

enum vm_state {
	VM_UNKNOWN, /* the server did not say */
	VM_OWN,     /* a sandbox shares its machine with nobody */
	VM_SHARED,
};

/* What a rule under isolation is told of a server in pool mode; takes the upstream's name. */
#define VM_SHARED_TEXT                                                                                                 \
	"upstream %s puts several users into one virtual machine (pool mode), where sandboxes cannot be kept apart: "  \
	"shared_vm: accept in its configuration allows that"

struct vm_watch {
	struct loop *loop;   /* borrowed */
	struct list servers; /* struct vm_server */
};

/* Embedded in who waits for the first answer of a server. */
struct vm_wait {
	struct list link;
	void (*on_state)(struct vm_wait *w, enum vm_state state);
};

void vm_watch_init(struct vm_watch *v, struct loop *loop);
/* Nobody waits any more. */
void vm_watch_fini(struct vm_watch *v);

/*
 * True and *state when something is known, or the server did not say when it was asked; it is asked again now and then.
 * False: the first answer is under way, and on_state follows (not from within this call).
 */
bool vm_watch_ask(struct vm_watch *v, const struct fetch_caller *asker, struct vm_wait *w, enum vm_state *state);
/* Harmless when it does not wait. */
void vm_wait_cancel(struct vm_wait *w);

/* What is known now, without asking. */
enum vm_state vm_watch_known(const struct vm_watch *v, const struct upstream *u);

#endif
