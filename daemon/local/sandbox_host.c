/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "common/fd.h"
#include "common/log.h"
#include "local/sandbox_private.h"

/* As root: the configured uids, checked, or a free range. */
static int choose_uids(struct sandbox_host *host, const struct sandbox_host_config *config, char *why, size_t why_size)
{
	uint32_t count = config->uid_count ? config->uid_count : UID_RANGE_DEFAULT;
	int rc;

	if (geteuid() != 0)
		return 0;
	host->uids = (struct uid_range){config->uid_first, count};
	if (config->uid_first)
		rc = uid_range_check(host->uids, &uid_sources_system, why, why_size);
	else
		rc = uid_range_pick(count, state_dir_seed(&host->state), &uid_sources_system, &host->uids, why,
				    why_size);
	if (rc)
		return rc;
	host->uid_used = calloc(count, sizeof(bool));
	return host->uid_used ? 0 : -ENOMEM;
}

int sandbox_host_take_uid(struct sandbox_host *host, uid_t *out)
{
	*out = 0;
	if (host->uids.count == 0)
		return 0;
	for (uint32_t i = 0; i < host->uids.count; i++) {
		uint32_t at = (host->uid_next + i) % host->uids.count;
		if (host->uid_used[at])
			continue;
		host->uid_used[at] = true;
		host->uid_next = at + 1;
		*out = host->uids.first + at;
		return 0;
	}
	return -EAGAIN;
}

void sandbox_host_free_uid(struct sandbox_host *host, uid_t uid)
{
	if (uid >= host->uids.first && uid - host->uids.first < host->uids.count)
		host->uid_used[uid - host->uids.first] = false;
}

/* Those of sandboxes that live; the range may be another than theirs was. */
static void reserve_uids(struct sandbox_host *host)
{
	LIST_FOREACH (n, &host->left) {
		const struct kept *kept = CONTAINER_OF(n, struct kept, link);
		if (kept->uid >= host->uids.first && kept->uid - host->uids.first < host->uids.count)
			host->uid_used[kept->uid - host->uids.first] = true;
	}
}

/* The whole set-up of a sandbox, once, in a directory like that of a sandbox. */
static int try_set_up(struct sandbox_host *host, char *why, size_t why_size)
{
	char box[4096];
	int status = 0;
	uid_t uid;

	/* Where all are in use, sandboxes do work here. */
	if (sandbox_host_take_uid(host, &uid))
		return 0;
	sandbox_host_free_uid(host, uid);
	if (snprintf(box, sizeof(box), "%s/trial", host->state.path) >= (int)sizeof(box))
		return -ENAMETOOLONG;
	int rc = state_dir_make_box(&host->state, "trial", uid);
	if (rc == 0)
		rc = bwrap_try(&host->bwrap, box, uid, why, why_size);
	else
		snprintf(why, why_size, "a directory for sandboxes cannot be made: %s", strerror(-rc));
	pid_t pid = state_dir_start_removal(&host->state, "trial");
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	return rc;
}

static void on_stopped(struct deferred *d)
{
	struct sandbox_host *host = CONTAINER_OF(d, struct sandbox_host, stopped);

	LIST_FOREACH (n, &host->sandboxes)
		if (!sandbox_is_kept(CONTAINER_OF(n, struct sandbox, link)))
			return;
	if (host->on_stopped) {
		void (*told)(void *arg) = host->on_stopped;
		host->on_stopped = NULL;
		told(host->stopped_arg);
	}
}

/* --- what is kept ------------------------------------------------------------------------------------------------ */

static void close_keeper(struct sandbox_host *host)
{
	if (host->on_keeper)
		event_free(host->on_keeper);
	host->on_keeper = NULL;
	deferred_cancel(&host->serving);
	fd_close(&host->keeper);
}

/* It says nothing while the host lives, so this is its end. */
static void on_keeper(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox_host *host = arg;

	(void)fd;
	(void)what;
	log_error("the keeper of the sandboxes is gone: they will not survive a restart of the server");
	close_keeper(host);
	LIST_FOREACH_SAFE (n, &host->sandboxes) {
		struct sandbox *sb = CONTAINER_OF(n, struct sandbox, link);
		sb->kept = false;
		/* The stop waits for those that are not kept. */
		if (host->stopping)
			sandbox_destroy(sb);
	}
	if (host->stopping)
		loop_defer(host->loop, &host->stopped);
}

static bool is_left(void *arg, const char *id)
{
	const struct sandbox_host *host = arg;

	LIST_FOREACH (n, &host->left)
		if (strcmp(CONTAINER_OF(n, struct kept, link)->id, id) == 0)
			return true;
	return false;
}

/* Finds the keeper and what it has, and removes the rest. */
static int find_left(struct sandbox_host *host, int fresh, char *why, size_t why_size)
{
	int rc = keep_open(host->state.fd, fresh, &host->left, &host->keeper, why, why_size);

	return rc ? rc : state_dir_clean(&host->state, is_left, host, why, why_size);
}

/* The loop turns, so the program has started. */
static void on_serving(struct deferred *d)
{
	struct sandbox_host *host = CONTAINER_OF(d, struct sandbox_host, serving);
	const struct keep_message m = {.type = KEEP_WAIT, .wait_ms = host->keep_ms};
	int rc = keep_tell(host->keeper, &m, NULL);

	if (rc)
		log_error("the keeper of the sandboxes: %s", strerror(-rc));
}

static int watch_keeper(struct sandbox_host *host)
{
	if (host->keeper < 0 || host->keep_ms == 0)
		return 0;
	loop_defer(host->loop, &host->serving);
	host->on_keeper = event_new(loop_base(host->loop), host->keeper, EV_READ, on_keeper, host);
	return host->on_keeper && event_add(host->on_keeper, NULL) == 0 ? 0 : -ENOMEM;
}

/* Nobody is to outlive a host again: what did ends now. */
static void destroy_left(struct sandbox_host *host)
{
	static const struct sandbox_events none = {0};
	struct kept *kept;

	while ((kept = sandbox_host_next_kept(host))) {
		struct sandbox *sb = sandbox_resume(host, &kept, &none, NULL);
		if (sb)
			sandbox_destroy(sb);
	}
	close_keeper(host);
}

bool sandbox_host_keeps(const struct sandbox_host *host)
{
	return host->keeper >= 0;
}

struct kept *sandbox_host_next_kept(struct sandbox_host *host)
{
	struct kept *kept = LIST_FIRST(&host->left, struct kept, link);

	if (kept)
		list_remove(&kept->link);
	return kept;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

int sandbox_host_new(struct loop *loop, const struct sandbox_host_config *config, struct sandbox_host **out, char *why,
		     size_t why_size)
{
	struct sandbox_host *host = calloc(1, sizeof(*host));
	int fresh = config->keep_ms ? config->keeper : -1;
	int rc;

	snprintf(why, why_size, "no memory");
	if (!host) {
		fd_close(&fresh);
		return -ENOMEM;
	}
	host->loop = loop;
	host->init_image = config->init_image;
	host->bwrap.fd = host->state.fd = host->state.boxes = host->keeper = -1;
	list_init(&host->sandboxes);
	list_init(&host->left);
	deferred_init(&host->stopped, on_stopped);
	deferred_init(&host->serving, on_serving);
	host->keep_ms = config->keep_ms;
	deadline_queue_init(&host->start_queue, loop, SANDBOX_START_MS);
	deadline_queue_init(&host->stop_queue, loop, SANDBOX_STOP_MS);
	deadline_queue_init(&host->log_queue, loop, SANDBOX_LOG_GRANT_MS);
	deadline_queue_init(&host->retry_queue, loop, SANDBOX_REMOVE_RETRY_MS);
	rc = state_dir_open(&host->state, config->state_dir, why, why_size);
	if (rc)
		fd_close(&fresh);
	else
		rc = find_left(host, fresh, why, why_size);
	if (rc == 0)
		rc = bwrap_find(&host->bwrap, config->bwrap_path, why, why_size);
	if (rc == 0)
		rc = choose_uids(host, config, why, why_size);
	if (rc == 0)
		reserve_uids(host);
	if (rc == 0)
		rc = try_set_up(host, why, why_size);
	if (rc == 0)
		rc = watch_keeper(host);
	if (rc) {
		sandbox_host_free(host);
		return rc;
	}
	if (host->uids.count)
		log_info("sandboxes run as uids %u-%u", host->uids.first, host->uids.first + host->uids.count - 1);
	if (config->keep_ms == 0)
		destroy_left(host);
	*out = host;
	return 0;
}

void sandbox_host_stop(struct sandbox_host *host, void (*told)(void *arg), void *arg)
{
	host->stopping = true;
	host->on_stopped = told;
	host->stopped_arg = arg;
	LIST_FOREACH (n, &host->sandboxes) {
		struct sandbox *sb = CONTAINER_OF(n, struct sandbox, link);
		if (!sandbox_is_kept(sb))
			sandbox_destroy(sb);
	}
	loop_defer(host->loop, &host->stopped);
}

void sandbox_host_free(struct sandbox_host *host)
{
	if (!host)
		return;
	/* Those that nobody took up, of a start that came to nothing. */
	while (!list_empty(&host->sandboxes))
		sandbox_leave(LIST_FIRST(&host->sandboxes, struct sandbox, link));
	while (!list_empty(&host->left))
		kept_free(LIST_FIRST(&host->left, struct kept, link));
	close_keeper(host);
	deferred_cancel(&host->stopped);
	deadline_queue_fini(&host->start_queue);
	deadline_queue_fini(&host->stop_queue);
	deadline_queue_fini(&host->log_queue);
	deadline_queue_fini(&host->retry_queue);
	state_dir_close(&host->state);
	bwrap_close(&host->bwrap);
	free(host->uid_used);
	free(host);
}
