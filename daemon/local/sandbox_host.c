/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
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

/* The whole set-up of a sandbox, once, in a directory like that of a sandbox. */
static int try_set_up(struct sandbox_host *host, char *why, size_t why_size)
{
	uid_t uid = host->uids.count ? host->uids.first : 0;
	char box[4096];
	int status = 0;

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

	if (list_empty(&host->sandboxes) && host->on_stopped) {
		void (*told)(void *arg) = host->on_stopped;
		host->on_stopped = NULL;
		told(host->stopped_arg);
	}
}

int sandbox_host_new(struct loop *loop, const struct sandbox_host_config *config, struct sandbox_host **out, char *why,
		     size_t why_size)
{
	struct sandbox_host *host = calloc(1, sizeof(*host));
	int rc;

	snprintf(why, why_size, "no memory");
	if (!host)
		return -ENOMEM;
	host->loop = loop;
	host->init_image = config->init_image;
	host->bwrap.fd = host->state.fd = host->state.boxes = -1;
	list_init(&host->sandboxes);
	deferred_init(&host->stopped, on_stopped);
	deadline_queue_init(&host->start_queue, loop, SANDBOX_START_MS);
	deadline_queue_init(&host->stop_queue, loop, SANDBOX_STOP_MS);
	deadline_queue_init(&host->log_queue, loop, SANDBOX_LOG_GRANT_MS);
	deadline_queue_init(&host->retry_queue, loop, SANDBOX_REMOVE_RETRY_MS);
	rc = state_dir_open(&host->state, config->state_dir, why, why_size);
	if (rc == 0)
		rc = bwrap_find(&host->bwrap, config->bwrap_path, why, why_size);
	if (rc == 0)
		rc = choose_uids(host, config, why, why_size);
	if (rc == 0)
		rc = try_set_up(host, why, why_size);
	if (rc) {
		sandbox_host_free(host);
		return rc;
	}
	if (host->uids.count)
		log_info("sandboxes run as uids %u-%u", host->uids.first, host->uids.first + host->uids.count - 1);
	*out = host;
	return 0;
}

void sandbox_host_stop(struct sandbox_host *host, void (*told)(void *arg), void *arg)
{
	host->stopping = true;
	host->on_stopped = told;
	host->stopped_arg = arg;
	LIST_FOREACH (n, &host->sandboxes)
		sandbox_destroy(CONTAINER_OF(n, struct sandbox, link));
	loop_defer(host->loop, &host->stopped);
}

void sandbox_host_free(struct sandbox_host *host)
{
	if (!host)
		return;
	CHECK(list_empty(&host->sandboxes));
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
