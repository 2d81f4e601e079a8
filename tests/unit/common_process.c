/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to the process is done in a child, which answers by its exit status. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "common/fd.h"
#include "common/process.h"

/* Runs the function in a child; its result, or -1 if it ended by a signal. */
static int in_child(int (*run)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(run());
	cr_assert_gt(pid, 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int hardened(void)
{
	struct rlimit core;
	struct sigaction pipe_action;
	int kept = open("/dev/null", O_RDONLY);
	int other = open("/dev/null", O_RDONLY);

	if (process_harden(&kept, 1))
		return 1;
	if (fcntl(kept, F_GETFD) != 0)
		return 2;
	if (fcntl(other, F_GETFD) != FD_CLOEXEC)
		return 3;
	if (getrlimit(RLIMIT_CORE, &core) || core.rlim_cur || core.rlim_max)
		return 4;
	if (prctl(PR_GET_DUMPABLE) != 0)
		return 5;
	if (sigaction(SIGPIPE, NULL, &pipe_action) || pipe_action.sa_handler != SIG_IGN)
		return 6;
	if (umask(0) != 077)
		return 7;
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) != 0)
			return 8;
	return 0;
}

/* X4, X5, L12: no core, not dumpable, nothing inherited but what was kept, no death by SIGPIPE. */
Test(common_process, harden)
{
	cr_expect_eq(in_child(hardened), 0);
}

static int lowest_free_descriptor(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static int hardened_without_standard_fds(void)
{
	int free_before = lowest_free_descriptor();
	struct stat st;
	struct stat null_st;

	for (int fd = 0; fd <= 2; fd++)
		close(fd);
	if (process_harden(NULL, 0))
		return 1;
	if (stat("/dev/null", &null_st))
		return 2;
	for (int fd = 0; fd <= 2; fd++)
		if (fstat(fd, &st) || st.st_rdev != null_st.st_rdev || fcntl(fd, F_GETFD) != 0)
			return 3;
	return lowest_free_descriptor() == free_before ? 0 : 4;
}

/* L10: descriptors 0 to 2 always exist, so that none of ours ever takes their place. */
Test(common_process, standard_descriptors)
{
	cr_expect_eq(in_child(hardened_without_standard_fds), 0);
}

static int keeps_a_bad_descriptor(void)
{
	const int bad = 987;

	return process_harden(&bad, 1) == -EBADF ? 0 : 1;
}

/* A descriptor that was to be kept and does not exist is an error. */
Test(common_process, bad_descriptor)
{
	cr_expect_eq(in_child(keeps_a_bad_descriptor), 0);
}

/* X6: variables that steer curl, TLS, proxies and the loader go; all others stay. */
Test(common_process, environment)
{
	static const char *const go[] = {"LD_PRELOAD",  "LD_LIBRARY_PATH", "SSLKEYLOGFILE", "CURL_HOME",
					 "NETRC",       "http_proxy",      "HTTP_PROXY",    "https_proxy",
					 "HTTPS_PROXY", "ALL_PROXY",       "all_proxy",     "NO_PROXY",
					 "no_proxy",    "SSL_CERT_FILE",   "OPENSSL_CONF"};
	static const char *const stay[] = {"PATH", "RUNTIME_DIRECTORY", "XLD_PRELOAD", "MY_http_proxy"};

	for (size_t i = 0; i < sizeof(go) / sizeof(go[0]); i++)
		setenv(go[i], "planted", 1);
	for (size_t i = 0; i < sizeof(stay) / sizeof(stay[0]); i++)
		setenv(stay[i], "kept", 1);
	process_clean_environment();
	for (size_t i = 0; i < sizeof(go) / sizeof(go[0]); i++)
		cr_expect_null(getenv(go[i]), "%s", go[i]);
	for (size_t i = 0; i < sizeof(stay) / sizeof(stay[0]); i++)
		cr_expect_str_eq(getenv(stay[i]) ? getenv(stay[i]) : "gone", "kept", "%s", stay[i]);
	clearenv();
	process_clean_environment();
}

/* A pidfd tells when its process ends, and takes signals for it and for nobody else afterwards. */
Test(common_process, pidfd)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	cr_assert_gt(pid, 0);
	int fd = process_pidfd(pid);
	cr_assert_geq(fd, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	cr_expect_eq(poll(&p, 1, 0), 0, "it lives");
	cr_expect_eq(process_pidfd_kill(fd, 0), 0);
	cr_expect_eq(process_pidfd_kill(fd, SIGKILL), 0);
	cr_expect_eq(poll(&p, 1, 20000), 1);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_expect_eq(process_pidfd_kill(fd, SIGKILL), -ESRCH);
	fd_close(&fd);
	cr_expect_lt(process_pidfd(pid), 0);
}

/* A program of ours is taken from beside the one that looks, and from where it is installed when there is none. */
Test(common_process, find)
{
	char path[PATH_MAX];
	char self[PATH_MAX];

	cr_assert_not_null(realpath("/proc/self/exe", self));
	process_find(strrchr(self, '/') + 1, "/elsewhere", path);
	cr_expect_str_eq(path, self);
	process_find("no-such-program", "/elsewhere", path);
	cr_expect_str_eq(path, "/elsewhere/no-such-program");
}

/* A failed check names the expression and the place, and aborts. */
Test(common_process, check_aborts)
{
	struct buf out = BUF_EMPTY;
	int ends[2];
	int status;

	CHECK(1 + 1 == 2);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		const struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		CHECK(1 + 1 == 3);
		_exit(0);
	}
	fd_close(&ends[1]);
	cr_assert_eq(fd_read_all(ends[0], 4096, &out), 0);
	fd_close(&ends[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	cr_expect(str_starts(buf_str(&out), STR("check failed: 1 + 1 == 3 at ")), "%.*s", STR_ARG(buf_str(&out)));
	buf_fini(&out);
}
