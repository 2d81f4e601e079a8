/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/peer on real sockets: executable and unit of a process that lives, that has ended, and that another replaced. */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/unix_socket.h"
#include "gateway/config.h"
#include "gateway/identity.h"
#include "gateway/peer.h"
#include "common/sock_diag.h"
#include "lib/daemon.h"
#include "lib/raw.h"
#include "lib/scratch.h"

#define PEERPIDFD 77

static struct scratch dir;
static int door = -1;

static void begin(void)
{
	struct unix_socket_spec spec = {.mode = 0666, .uid = (uid_t)-1, .gid = (gid_t)-1, .backlog = 8};
	char why[200];

	scratch_init(&dir);
	spec.path = scratch_path(&dir, "door");
	door = unix_socket_listen(&spec, why, sizeof(why));
	cr_assert_geq(door, 0, "%s", why);
}

static void end(void)
{
	close(door);
	scratch_fini(&dir);
}

TestSuite(gateway_peer, .init = begin, .fini = end);

/* From now on this process has a kernel without SO_PEERPIDFD. */
static void hide_peerpidfd(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PEERPIDFD, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

struct visitor {
	pid_t pid;
	int accepted; /* our end */
};

/* A child that connects and then waits, or ends at once. */
static struct visitor visit(uid_t uid, bool ends)
{
	struct visitor v = {.accepted = -1};

	v.pid = fork();
	cr_assert_geq(v.pid, 0);
	if (v.pid == 0) {
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (uid && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
			_exit(2);
		fd = unix_socket_connect(scratch_path(&dir, "door"));
		if (fd < 0 || ends)
			_exit(0);
		pause();
		_exit(0);
	}
	do
		v.accepted = accept4(door, NULL, NULL, SOCK_CLOEXEC);
	while (v.accepted < 0 && errno == EAGAIN);
	cr_assert_geq(v.accepted, 0);
	return v;
}

static void leave(struct visitor *v)
{
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
	close(v->accepted);
}

static struct identity identify(const struct visitor *v)
{
	struct identity id;

	cr_assert_eq(peer_identify(v->accepted, &id), 0);
	cr_expect_eq(id.pid, v->pid);
	cr_expect_null(id.exe);
	cr_assert_eq(peer_read_traits(v->accepted, &id), 0);
	return id;
}

static void expect_own_exe(const struct identity *id)
{
	char own[512];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	cr_assert_gt(n, 0);
	own[n] = '\0';
	cr_assert_not_null(id->exe);
	cr_expect_str_eq(id->exe, own);
}

static void expect_traits(void)
{
	struct visitor v = visit(0, false);
	struct identity id = identify(&v);

	expect_own_exe(&id);
	identity_fini(&id);
	leave(&v);
	/* One that has ended, and one whose pid is free again. */
	v = visit(0, true);
	while (waitid(P_PID, (id_t)v.pid, &(siginfo_t){0}, WEXITED | WNOWAIT) < 0)
		;
	id = identify(&v);
	cr_expect_null(id.exe);
	cr_expect_null(id.unit);
	identity_fini(&id);
	waitpid(v.pid, NULL, 0);
	id = identify(&v);
	cr_expect_null(id.exe);
	identity_fini(&id);
	leave(&v);
}

/* With SO_PEERPIDFD: the process that lives is told, one that has ended is not. */
Test(gateway_peer, traits)
{
	expect_traits();
}

/* ID19: the same on a kernel without it. */
Test(gateway_peer, ID19_traits_without_peerpidfd)
{
	hide_peerpidfd();
	expect_traits();
}

/* ID19: without it, a process of another real uid than the one that connected is nobody's. */
Test(gateway_peer, ID19_other_uid_without_peerpidfd)
{
	struct visitor v;
	struct identity id;

	if (!have_root("a connection of another user"))
		return;
	v = visit(1234, false);
	cr_assert_eq(peer_identify(v.accepted, &id), 0);
	cr_expect_eq(id.uid, 1234);
	hide_peerpidfd();
	id.uid = 5678; /* as if it had connected and its pid were 1234's by now */
	cr_assert_eq(peer_read_traits(v.accepted, &id), 0);
	cr_expect_null(id.exe);
	cr_expect_null(id.unit);
	identity_fini(&id);
	cr_assert_eq(peer_identify(v.accepted, &id), 0);
	cr_assert_eq(peer_read_traits(v.accepted, &id), 0);
	expect_own_exe(&id);
	identity_fini(&id);
	leave(&v);
}

/* A process with that very pid; only root may choose one. */
static pid_t fork_as(pid_t pid)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
			set_tid_size;
	} args = {.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&pid, .set_tid_size = 1};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/*
 * ID7: the process that connected has ended and its pid is another's: its executable is not told for the connection's,
 * although the descriptor lives on in a third process.
 */
Test(gateway_peer, ID7_pid_in_use_again)
{
	struct visitor v;
	struct identity id;
	pid_t other;

	if (!have_root("a process with a chosen pid"))
		return;
	v = visit(0, true);
	waitpid(v.pid, NULL, 0);
	other = fork_as(v.pid);
	if (other < 0) {
		cr_log_info("SKIPPED, needs clone3 with set_tid: a pid in use again");
		close(v.accepted);
		return;
	}
	if (other == 0) {
		syscall(SYS_pause);
		syscall(SYS_exit_group, 0);
	}
	cr_expect_eq(other, v.pid);
	id = identify(&v);
	cr_expect_null(id.exe, "it is told for %s", id.exe);
	cr_expect_null(id.unit);
	identity_fini(&id);
	leave(&v);
}

/* A name means the file of that name here: what runs from elsewhere under that name, or was deleted, has none. */
Test(gateway_peer, exe_is_the_file_of_that_name)
{
	struct buf program = scratch_read("/usr/bin/sleep");
	const char *copy = scratch_file(&dir, "tool", 0755, buf_data(&program), program.len);
	char *const argv[] = {(char *)(uintptr_t) "tool", (char *)(uintptr_t) "100", NULL};
	struct identity id;
	int ends[2], ready[2];
	char byte;
	pid_t pid;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(copy, argv);
		_exit(3);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 0, "it was not started");
	/* The connection is this process's; only what is read of the pid is looked at. */
	cr_assert_eq(peer_identify(ends[0], &id), 0);
	hide_peerpidfd();
	id.pid = pid;
	cr_assert_eq(peer_read_traits(ends[0], &id), 0);
	cr_assert_not_null(id.exe);
	cr_expect_str_eq(id.exe, copy);
	identity_fini(&id);
	cr_assert_eq(unlink(copy), 0);
	cr_assert_eq(peer_identify(ends[0], &id), 0);
	id.pid = pid;
	cr_assert_eq(peer_read_traits(ends[0], &id), 0);
	cr_expect_null(id.exe);
	identity_fini(&id);
	scratch_file(&dir, "tool", 0755, "another", 7);
	cr_assert_eq(peer_identify(ends[0], &id), 0);
	id.pid = pid;
	cr_assert_eq(peer_read_traits(ends[0], &id), 0);
	cr_expect_null(id.exe);
	identity_fini(&id);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	buf_fini(&program);
}

/* --- loopback TCP ------------------------------------------------------------------------------------------------ */

/* Asking for a socket that is not there, or that listens, is an answer as well. */
Test(gateway_peer, sock_diag)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_storage own = {0}, nobody = {.ss_family = AF_INET};
	socklen_t size = sizeof(own);
	struct sock_diag_owner owner;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int diag = sock_diag_open();

	cr_assert(fd >= 0 && diag >= 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&own, &size), 0);
	cr_assert_eq(sock_diag_find(diag, &own, &nobody, &owner), 0);
	cr_expect_eq(owner.uid, geteuid());
	cr_expect_neq(owner.inode, 0);
	cr_expect_eq(owner.state, 10); /* TCP_LISTEN */
	cr_expect_eq(sock_diag_find(diag, &nobody, &own, &owner), -ENOENT);
	nobody.ss_family = AF_UNIX;
	cr_expect_eq(sock_diag_find(diag, &own, &nobody, &owner), -EAFNOSUPPORT);
	close(fd);
	close(diag);
}

/* --- rights -------------------------------------------------------------------------------------------------------- */

static char *exes[] = {(char *)(uintptr_t) "/bin/sh"};

/* ID3, ID4: in a user namespace no id is what it seems: nothing is to start there, and the message names the setting. */
Test(gateway_peer, ID4_user_namespace)
{
	struct config c = {0};
	char why[512] = "";
	int status = 0;
	pid_t pid;

	cr_assert_eq(peer_check_rights(&c, why, sizeof(why)), 0, "%s", why);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWUSER) < 0)
			_exit(77);
		_exit(peer_check_rights(&c, why, sizeof(why)) != -EPERM || !strstr(why, "PrivateUsers"));
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		cr_log_info("SKIPPED, needs user namespaces: the start in one");
	else
		cr_expect_eq(status, 0, "status %x", (unsigned)status);
}

/* ID19: exe of other users needs CAP_SYS_PTRACE; one's own does not, and a unit is for everybody to read. */
Test(gateway_peer, ID19_rights)
{
	uint32_t own[] = {4321};
	struct config_rule rules[] = {
		{.name = "tools", .match_exes = true, .exes = {1, exes}, .user_id = (char *)(uintptr_t) "x"}};
	struct config c = {.nrules = 1, .rules = rules};
	char why[512] = "";

	if (!have_root("a change of user"))
		return;
	cr_expect_eq(peer_check_rights(&c, why, sizeof(why)), 0, "%s", why);
	cr_assert_eq(setresuid(4321, 4321, 4321), 0);
	cr_expect_eq(peer_check_rights(&c, why, sizeof(why)), -EPERM);
	cr_expect(strstr(why, "CAP_SYS_PTRACE") && strstr(why, "/identity.conf") && strstr(why, "tools"), "%s", why);
	rules[0].match_uids = true;
	rules[0].uids = (struct config_ids){1, own};
	cr_expect_eq(peer_check_rights(&c, why, sizeof(why)), 0, "%s", why);
	rules[0] = (struct config_rule){.name = "units", .user_id = (char *)(uintptr_t) "{unit}"};
	cr_expect_eq(peer_check_rights(&c, why, sizeof(why)), 0, "%s", why);
}
