/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's side of the keeper: what it holds of this one, told anew when it changes, and not held when its end is decided. */
#include <errno.h>
#include <string.h>

#include "common/fd.h"
#include "common/log.h"
#include "local/sandbox_private.h"

/* Says what is in `note`, or DROP. */
static int tell_keeper(const struct sandbox *sb, enum keep_type type)
{
	struct keep_message m = {.type = type, .uid = sb->uid, .wire = WIRE_VERSION};
	const int all[KEPT_FDS] = {
		[KEPT_DOOR] = sb->child.door, [KEPT_LEASH] = sb->child.leash, [KEPT_BWRAP] = sb->child.pidfd,
		[KEPT_INIT] = sb->init_pidfd, [KEPT_NOTE] = sb->note,
	};

	memcpy(m.id, sb->id, strlen(sb->id));
	return keep_tell(sb->host->keeper, &m, type == KEEP_NOTE ? &sb->note : all);
}

void sandbox_stop_keeping(struct sandbox *sb)
{
	deadline_clear(&sb->keep_deadline);
	/* One that is not heard sees that the init has ended. */
	if (sb->kept)
		(void)tell_keeper(sb, KEEP_DROP);
	sb->kept = false;
}

static void try_keep(struct sandbox *sb)
{
	int rc;

	/* The init may have greeted before bubblewrap's word about it was read. */
	sandbox_look_for_init(sb);
	rc = sb->init_pidfd < 0 ? -EAGAIN : tell_keeper(sb, sb->kept ? KEEP_NOTE : KEEP_HOLD);
	if (rc == -EAGAIN) {
		deadline_set(&sb->host->retry_queue, &sb->keep_deadline);
		return;
	}
	fd_close(&sb->note);
	if (rc) {
		log_error("sandbox %s: a restart of the server will end it: %s", sb->id, strerror(-rc));
		return;
	}
	sb->kept = true;
	fd_close(&sb->child.door);
}

void sandbox_on_keep_deadline(struct deadline *d)
{
	struct sandbox *sb = CONTAINER_OF(d, struct sandbox, keep_deadline);

	if (sb->host->keeper >= 0)
		try_keep(sb);
}

void sandbox_keep(struct sandbox *sb, struct str note)
{
	int fd;

	if (sb->host->keeper < 0 || sb->state > SANDBOX_RUNNING)
		return;
	fd = note.n <= KEEP_NOTE_MAX ? keep_make_note(note) : -E2BIG;
	if (fd < 0) {
		log_error("sandbox %s: what is known of it cannot be kept: %s", sb->id, strerror(-fd));
		return;
	}
	fd_close(&sb->note);
	sb->note = fd;
	try_keep(sb);
}

bool sandbox_is_kept(const struct sandbox *sb)
{
	return sb->kept;
}
