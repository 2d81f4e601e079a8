/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/process_watch on real processes: a client, its parent, and one that has nothing to do with either. */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/loop.h"
#include "common/process.h"
#include "common/unix_socket.h"
#include "gateway/identity.h"
#include "gateway/peer.h"
#include "gateway/process_watch.h"
#include "lib/scratch.h"

static struct scratch dir;
static int door = -1;
static struct loop *loop;
static struct process_watch watch;
static struct process_wait wait_end;
static unsigned ended;
static pid_t parent; /* of the client */
static pid_t client;
static int conn = -1; /* our end of the client's connection */
static struct identity peer;

static void on_end(struct process_wait *w)
{
	cr_assert_eq(w, &wait_end);
	ended++;
	loop_stop(loop);
}

static void begin(void)
{
	struct unix_socket_spec spec = {.mode = 0666, .uid = (uid_t)-1, .gid = (gid_t)-1, .backlog = 8};
	char why[200];

	scratch_init(&dir);
	spec.path = scratch_path(&dir, "door");
	door = unix_socket_listen(&spec, why, sizeof(why));
	cr_assert_geq(door, 0, "%s", why);
	loop = loop_new();
	cr_assert_not_null(loop);
	process_watch_init(&watch, loop);
	process_wait_init(&wait_end, on_end);
}

static void stop(pid_t *pid)
{
	if (*pid > 0)
		kill(*pid, SIGKILL);
	*pid = 0;
}

static void end(void)
{
	pid_t it = parent;

	process_wait_cancel(&wait_end);
	process_watch_fini(&watch);
	stop(&client);
	stop(&parent);
	if (it > 0)
		waitpid(it, NULL, 0);
	identity_fini(&peer);
	close(conn);
	close(door);
	loop_free(loop);
	scratch_fini(&dir);
}

TestSuite(gateway_process_watch, .init = begin, .fini = end);

static void stay(void)
{
	for (;;)
		pause();
}

/* A child of ours, which does not outlive us. */
static pid_t fork_here(void)
{
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static int accept_client(void)
{
	struct pollfd p = {.fd = door, .events = POLLIN};

	cr_assert_eq(poll(&p, 1, 10000), 1);
	return accept(door, NULL, NULL);
}

/* In the client: says its pid, connects and stays. */
static void be_client(int tell)
{
	pid_t self = getpid();
	int fd = unix_socket_connect(scratch_path(&dir, "door"));

	if (fd < 0 || write(tell, &self, sizeof(self)) != sizeof(self))
		_exit(1);
	stay();
}

/* A client with a parent of its own, as curl has a shell; both of that uid unless it is ours. */
static void start_client(uid_t parent_uid, uid_t client_uid)
{
	int pipes[2];

	cr_assert_eq(pipe(pipes), 0);
	parent = fork_here();
	if (parent == 0) {
		if (fork_here() == 0) {
			if (client_uid && setuid(client_uid))
				_exit(1);
			be_client(pipes[1]);
		}
		if (parent_uid && setuid(parent_uid))
			_exit(1);
		stay();
	}
	conn = accept_client();
	cr_assert_geq(conn, 0);
	cr_assert_eq(read(pipes[0], &client, sizeof(client)), (ssize_t)sizeof(client));
	close(pipes[0]);
	close(pipes[1]);
	cr_assert_eq(peer_identify(conn, &peer), 0);
	cr_assert_eq(peer.pid, client);
}

static int wait_for(pid_t pid, const char **why)
{
	*why = NULL;
	return process_wait_peer(&watch, conn, &peer, pid, &wait_end, why);
}

static void expect_end(void)
{
	cr_expect_eq(ended, 0);
	loop_run(loop);
	cr_expect_eq(ended, 1);
}

/* The end of the process that connected is told, once; the number that stands for itself means the same. */
Test(gateway_process_watch, own)
{
	const char *why;

	start_client(0, 0);
	cr_assert_eq(wait_for(client, &why), 0, "%s", why);
	cr_assert_eq(wait_for(0, &why), 0, "%s", why);
	cr_expect_eq(process_wait_pid(&wait_end), client);
	stop(&client);
	expect_end();
}

/* The end of the client's parent is told, not the client's own. */
Test(gateway_process_watch, ancestor)
{
	const char *why;
	pid_t it;

	start_client(0, 0);
	cr_assert_eq(wait_for(parent, &why), 0, "%s", why);
	cr_expect_eq(process_wait_pid(&wait_end), parent);
	it = client;
	stop(&client);
	/* Its parent does not reap it: it stays as a zombie, and has ended all the same. */
	cr_expect_eq(process_wait_again(&watch, it, 0, watch.place, &wait_end), -ESRCH);
	cr_expect_eq(event_base_loop(loop_base(loop), EVLOOP_NONBLOCK), 0);
	stop(&parent);
	expect_end();
}

/* Further up is an ancestor as well: the one that runs this test. */
Test(gateway_process_watch, further_up)
{
	const char *why;

	start_client(0, 0);
	cr_expect_eq(wait_for(getpid(), &why), 0, "%s", why);
	cr_expect_eq(process_wait_pid(&wait_end), getpid());
}

/* Who is no ancestor is refused, be it a child, a stranger or nobody. */
Test(gateway_process_watch, no_ancestor)
{
	const char *why;
	pid_t other = fork_here();

	if (other == 0)
		stay();
	start_client(0, 0);
	cr_expect_eq(wait_for(other, &why), -ESRCH);
	cr_expect_not_null(why);
	cr_expect_eq(wait_for(4194304, &why), -ESRCH);
	cr_expect_null(wait_end.process);
	kill(other, SIGKILL);
}

/* A peer that has ended has neither a process nor ancestors. */
Test(gateway_process_watch, ended_before)
{
	const char *why;
	struct pollfd p = {.events = POLLIN};

	start_client(0, 0);
	p.fd = process_pidfd(client);
	cr_assert_geq(p.fd, 0);
	stop(&client);
	cr_assert_eq(poll(&p, 1, 10000), 1);
	close(p.fd);
	cr_expect_neq(wait_for(0, &why), 0);
	cr_expect_not_null(why);
	cr_expect_neq(wait_for(parent, &why), 0);
	cr_expect_not_null(why);
}

/* An ancestor of another user is refused, and one that has become another user. */
Test(gateway_process_watch, other_user)
{
	const char *why;

	if (geteuid() != 0) {
		cr_log_warn("not root: cannot be another user");
		cr_skip_test("needs root");
	}
	start_client(5678, 1234);
	cr_expect_eq(peer.uid, 1234);
	cr_expect_eq(wait_for(parent, &why), -EPERM);
	cr_expect_not_null(why);
	cr_expect_eq(wait_for(getpid(), &why), -EPERM);
	cr_expect_eq(wait_for(0, &why), 0, "%s", why);
}

/* Over TCP nobody can tell which process it is. */
Test(gateway_process_watch, over_tcp)
{
	const struct identity tcp = {.uid = 1, .over_tcp = true};
	const char *why = NULL;

	cr_expect_eq(process_wait_peer(&watch, door, &tcp, 0, &wait_end, &why), -EACCES);
	cr_expect_not_null(why);
}

/*
 * What was kept of a process finds it again as long as it lives, by pid, start and place together. Another start: it has
 * ended, and somebody has its pid. Another place: nobody can tell.
 */
Test(gateway_process_watch, again)
{
	const char *why;
	uint64_t start;
	pid_t pid;

	start_client(0, 0);
	cr_assert_eq(wait_for(0, &why), 0, "%s", why);
	start = process_wait_start(&wait_end);
	pid = process_wait_pid(&wait_end);
	cr_expect_gt(start, 0);
	process_wait_cancel(&wait_end);
	cr_expect_eq(process_wait_again(&watch, pid, start, "elsewhere", &wait_end), -EXDEV);
	cr_expect_eq(process_wait_again(&watch, pid, start, "", &wait_end), -EXDEV);
	cr_expect_eq(process_wait_again(&watch, pid, start + 1, watch.place, &wait_end), -ESRCH);
	cr_expect_eq(process_wait_again(&watch, pid, start, watch.place, &wait_end), 0);
	stop(&client);
	expect_end();
	process_wait_cancel(&wait_end);
	cr_expect_eq(process_wait_again(&watch, pid, start, watch.place, &wait_end), -ESRCH);
}

/* Several may wait for one process, by one descriptor; who no longer waits is not told. */
Test(gateway_process_watch, shared)
{
	struct process_wait other;
	const char *why;

	start_client(0, 0);
	process_wait_init(&other, on_end);
	cr_assert_eq(process_wait_peer(&watch, conn, &peer, 0, &other, &why), 0);
	cr_assert_eq(wait_for(0, &why), 0, "%s", why);
	cr_expect_eq(other.process, wait_end.process);
	process_wait_cancel(&other);
	stop(&client);
	expect_end();
}

/* In a pid namespace of its own the client calls its ancestors by other numbers than we do: his are meant. */
Test(gateway_process_watch, namespace)
{
	int pipes[2];
	const char *why;
	pid_t inner;

	cr_assert_eq(pipe(pipes), 0);
	parent = fork_here();
	if (parent == 0) {
		if (unshare(CLONE_NEWPID) < 0) {
			inner = 0;
			_exit(write(pipes[1], &inner, sizeof(inner)) == sizeof(inner) ? 0 : 1);
		}
		if (fork_here() == 0) { /* 1 in there */
			if (fork_here() == 0)
				be_client(pipes[1]);
			stay();
		}
		stay();
	}
	cr_assert_eq(read(pipes[0], &inner, sizeof(inner)), (ssize_t)sizeof(inner));
	close(pipes[0]);
	close(pipes[1]);
	if (inner == 0) {
		cr_log_warn("no pid namespace can be made here");
		cr_skip_test("needs a pid namespace");
	}
	conn = accept_client();
	cr_assert_eq(peer_identify(conn, &peer), 0);
	client = peer.pid;
	cr_expect_neq(client, inner);
	cr_expect_eq(wait_for(inner, &why), 0, "%s", why);
	cr_expect_eq(process_wait_pid(&wait_end), client);
	cr_expect_eq(wait_for(1, &why), 0, "%s", why);
	cr_expect_neq(process_wait_pid(&wait_end), 1);
	cr_expect_eq(wait_for(parent, &why), -ESRCH, "it is outside");
	process_wait_cancel(&wait_end);
}
