/* SPDX-License-Identifier: Apache-2.0 */
#include "common/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"

extern char **environ;

static int open_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= 2 && fd_set_cloexec(fd, 0) == 0);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int process_harden(const int *keep, size_t nkeep)
{
	const struct rlimit none = {0, 0};
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	int rc = open_standard_fds();

	if (rc)
		return rc;
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	for (size_t i = 0; i < nkeep; i++) {
		rc = fd_set_cloexec(keep[i], 0);
		if (rc)
			return rc;
	}
	if (sigaction(SIGPIPE, &ignore, NULL) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	umask(077);
	return 0;
}

void process_own_stderr(void)
{
	struct stat st;
	int fd;

	if (fstat(STDERR_FILENO, &st) < 0 || !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		return;
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_APPEND | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return;
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static int steers_us(const char *entry)
{
	static const char *const prefixes[] = {
		"LD_",           "CURL_",      "SSLKEYLOGFILE=", "NETRC=",       "http_proxy=",
		"https_proxy=",  "all_proxy=", "no_proxy=",      "ftp_proxy=",   "HTTP_PROXY=",
		"HTTPS_PROXY=",  "ALL_PROXY=", "NO_PROXY=",      "FTP_PROXY=",   "SSL_CERT_FILE=",
		"SSL_CERT_DIR=", "OPENSSL_",   "RES_OPTIONS=",   "LOCALDOMAIN=", "HOSTALIASES="};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
			return 1;
	return 0;
}

void process_clean_environment(void)
{
	char **to = environ;

	if (!environ)
		return;
	for (char **from = environ; *from; from++)
		if (!steers_us(*from))
			*to++ = *from;
	*to = NULL;
}

void process_before_exit(void)
{
#if defined(__SANITIZE_ADDRESS__)
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
#endif
}

void process_find(const char *program, const char *directory, char out[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash && snprintf(out, PATH_MAX, "%.*s/%s", (int)(slash - self), self, program) < PATH_MAX &&
		    access(out, X_OK) == 0)
			return;
	}
	snprintf(out, PATH_MAX, "%s/%s", directory, program);
}

int process_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int process_pidfd_kill(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

void process_give_memory_back(void)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}
