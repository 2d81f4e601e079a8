/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between fork and exec only system calls are made. Started by root the child takes, in this order: a mount namespace of its
 * own, private; the sandbox's directory bound onto a tmpfs in it (state and build trees may lie below a directory that
 * only root may enter); no groups; the sandbox's gid and uid; then bubblewrap. So bubblewrap and everything in the
 * sandbox run as a kernel uid that owns nothing else, and not even a flaw in them reaches what is root's.
 *
 * No PDEATHSIG is set here and --die-with-parent is not used: a bubblewrap that is killed after its clone() and before it
 * releases its child leaves that child waiting for ever. Without us bubblewrap simply finishes its set-up and runs the
 * init, which finds its socket closed and ends; from then on the leash (see the init's main) kills bubblewrap.
 * For the same reason both ends of the info pipe are handed over: writing the pid must not fail when we are gone.
 */
#include "local/bwrap.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/process.h"
#include "local/syscall_filter.h"

enum {
	ARGV_MAX = 160,
	SHM_BYTES = 64 << 20, /* room in /dev/shm */
	TRY_MS = 10000,
	ERRORS_MAX = 4096,
};

#define INIT_PATH "/.stacygate-init"
#define BOX_UID   "1000"

/* --- finding it ------------------------------------------------------------------------------------------------ */

static char *find_in_path(void)
{
	struct str rest = str_from(getenv("PATH") ? getenv("PATH") : "/usr/local/bin:/usr/bin:/bin");
	char mem[PATH_MAX];
	struct stat st;

	while (rest.p) {
		struct str dir = str_cut(&rest, ':');
		int n = snprintf(mem, sizeof(mem), "%.*s/bwrap", STR_ARG(dir));
		if (dir.n && n < (int)sizeof(mem) && stat(mem, &st) == 0 && S_ISREG(st.st_mode) &&
		    access(mem, X_OK) == 0)
			return strdup(mem);
	}
	return NULL;
}

int bwrap_find(struct bwrap *bwrap, const char *path, char *why, size_t why_size)
{
	*bwrap = (struct bwrap){.path = path ? strdup(path) : find_in_path(), .fd = -1};
	if (bwrap->path)
		bwrap->fd = open(bwrap->path, O_PATH | O_CLOEXEC);
	if (bwrap->fd >= 0)
		return 0;
	snprintf(why, why_size, "bubblewrap (bwrap) is not installed%s%s", path ? " at " : "", path ? path : "");
	bwrap_close(bwrap);
	return -ENOENT;
}

void bwrap_close(struct bwrap *bwrap)
{
	free(bwrap->path);
	bwrap->path = NULL;
	fd_close(&bwrap->fd);
}

/* --- arguments ------------------------------------------------------------------------------------------------- */

struct argv {
	const char *v[ARGV_MAX]; /* borrowed */
	size_t n;
	char mem[8192]; /* what had to be formatted */
	size_t used;
	bool failed; /* it did not fit */
};

static void add(struct argv *a, const char *arg)
{
	if (a->n + 1 >= ARGV_MAX) {
		a->failed = true;
		return;
	}
	a->v[a->n++] = arg;
	a->v[a->n] = NULL;
}

static void add2(struct argv *a, const char *x, const char *y)
{
	add(a, x);
	add(a, y);
}

static void add3(struct argv *a, const char *x, const char *y, const char *z)
{
	add2(a, x, y);
	add(a, z);
}

static const char *format(struct argv *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
static const char *format(struct argv *a, const char *fmt, ...)
{
	char *at = a->mem + a->used;
	size_t room = sizeof(a->mem) - a->used;
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(at, room, fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= room) {
		a->failed = true;
		return "";
	}
	a->used += (size_t)n + 1;
	return at;
}

static void add_namespaces(struct argv *a, const struct bwrap_spec *spec)
{
	add2(a, "--unshare-user", "--unshare-pid");
	add3(a, "--unshare-ipc", "--unshare-uts", "--unshare-net");
	add3(a, "--unshare-cgroup-try", "--as-pid-1", "--new-session");
	add2(a, "--disable-userns", "--assert-userns-disabled");
	add2(a, "--cap-drop", "ALL");
	add3(a, "--clearenv", "--uid", BOX_UID);
	add2(a, "--gid", BOX_UID);
	add2(a, "--hostname", spec->host_name);
}

/* /bin and its like: the link that a merged /usr has, or the directory. */
static void add_system(struct argv *a)
{
	static const char *const names[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
	char target[256];
	struct stat st;

	add3(a, "--ro-bind", "/usr", "/usr");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ssize_t n = readlink(names[i], target, sizeof(target) - 1);
		if (n > 0) {
			target[n] = 0;
			add3(a, "--symlink", format(a, "%s", target), names[i]);
		} else if (lstat(names[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			add3(a, "--ro-bind", names[i], names[i]);
		}
	}
}

static void add_data(struct argv *a, const char *perms, int fd, const char *path)
{
	add2(a, "--perms", perms);
	add3(a, "--ro-bind-data", format(a, "%d", fd), path);
}

/* The keys of whoever has our uid on the host are listed there, in every user namespace that maps it. */
static void add_proc(struct argv *a)
{
	static const char *const hidden[] = {"/proc/keys", "/proc/key-users"};

	add2(a, "--proc", "/proc");
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		if (access(hidden[i], F_OK) == 0)
			add3(a, "--ro-bind", "/dev/null", hidden[i]);
}

static void add_devices(struct argv *a)
{
	add2(a, "--dev", "/dev");
	add2(a, "--perms", "1777");
	add3(a, "--size", format(a, "%d", SHM_BYTES), "--tmpfs");
	add(a, "/dev/shm");
	add2(a, "--dir", "/run");
	add2(a, "--dir", "/var");
	add3(a, "--symlink", "../tmp", "/var/tmp");
}

static void add_private(struct argv *a, const char *box)
{
	static const char *const parts[][2] = {
		{"tmp", "/tmp"}, {"app", "/app"}, {"workspace", "/workspace"}, {"home", "/home/sandbox"}};

	add2(a, "--perms", "0755");
	add2(a, "--dir", "/home");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		add3(a, "--bind", format(a, "%s/%s", box, parts[i][0]), parts[i][1]);
}

/* --- descriptors ------------------------------------------------------------------------------------------------ */

/* What the child takes along; all are closed in the parent after the fork. */
enum child_fd {
	FD_SOCK,
	FD_LEASH,
	FD_DOOR,
	FD_INFO,
	FD_INFO_READ,
	FD_ERRORS,
	FD_INIT,
	FD_PASSWD,
	FD_GROUP,
	FD_HOSTS,
	FD_NSS,
	FD_FILTER,
	FD_BOX,
	FDS
};

struct plan {
	struct argv argv;
	int fds[FDS]; /* owned; -1 when not open */
	/* Only when the child becomes another uid; FD_BOX then is a number kept free for the sandbox's directory. */
	const char *mount_at;  /* borrowed: a directory that the child covers with a tmpfs; NULL: it stays who it is */
	const char *bind_at;   /* borrowed: the directory in it at which the sandbox's is bound */
	const char *bind_from; /* borrowed: the path that leads through FD_BOX */
};

static int make_data(struct str bytes)
{
	int fd = memfd_create("stacygate", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = fd_write_all(fd, bytes.p, bytes.n);
	if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
		rc = -errno;
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

static int open_data(struct plan *p, const struct bwrap_spec *spec)
{
	const struct str hosts = STR("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
	const struct str data[] = {
		[FD_INIT] = spec->init_image,
		[FD_PASSWD] = STR("root:x:0:0:root:/:/usr/sbin/nologin\n"
				  "sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/sh\n"
				  "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"),
		[FD_GROUP] = STR("root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n"),
		[FD_HOSTS] = hosts,
		[FD_NSS] = STR("passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
		[FD_FILTER] = syscall_filter(),
	};

	for (int i = FD_INIT; i <= FD_FILTER; i++) {
		p->fds[i] = make_data(data[i]);
		if (p->fds[i] < 0)
			return p->fds[i];
	}
	return 0;
}

static int open_pipe(int *ours, int *theirs, int our_end)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ours = fds[our_end];
	*theirs = fds[1 - our_end];
	return fd_set_nonblock(*ours);
}

static int open_pair(int *ours, int *theirs, int type)
{
	int pair[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	*ours = pair[0];
	*theirs = pair[1];
	return 0;
}

static int open_channels(struct plan *p, bool door, struct bwrap_child *out)
{
	int rc = open_pair(&out->sock, &p->fds[FD_SOCK], SOCK_STREAM);

	if (rc == 0 && door)
		rc = open_pair(&out->door, &p->fds[FD_DOOR], SOCK_SEQPACKET);
	if (rc == 0)
		rc = open_pipe(&out->leash, &p->fds[FD_LEASH], 1);
	if (rc == 0)
		rc = open_pipe(&out->info, &p->fds[FD_INFO], 0);
	if (rc == 0)
		rc = open_pipe(&out->errors, &p->fds[FD_ERRORS], 0);
	if (rc == 0 && (p->fds[FD_INFO_READ] = fcntl(out->info, F_DUPFD_CLOEXEC, 3)) < 0)
		rc = -errno;
	return rc;
}

/* The first of the usual directories that is there: in the child's mount namespace it becomes a tmpfs. */
static const char *mount_point(void)
{
	static const char *const names[] = {"/mnt", "/srv", "/media", "/opt", "/tmp"};
	struct stat st;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (lstat(names[i], &st) == 0 && S_ISDIR(st.st_mode))
			return names[i];
	return "/tmp";
}

static int fill_argv(struct plan *p, const struct bwrap *bwrap, const struct bwrap_spec *spec)
{
	struct argv *a = &p->argv;

	add(a, bwrap->path);
	add_namespaces(a, spec);
	add_system(a);
	add_data(a, "0644", p->fds[FD_PASSWD], "/etc/passwd");
	add_data(a, "0644", p->fds[FD_GROUP], "/etc/group");
	add_data(a, "0644", p->fds[FD_HOSTS], "/etc/hosts");
	add_data(a, "0644", p->fds[FD_NSS], "/etc/nsswitch.conf");
	add3(a, "--ro-bind-try", "/etc/alternatives", "/etc/alternatives");
	add3(a, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache");
	add_proc(a);
	add_devices(a);
	add_private(a, p->bind_at ? p->bind_at : spec->box);
	add_data(a, "0755", p->fds[FD_INIT], INIT_PATH);
	add2(a, "--remount-ro", "/dev");
	add2(a, "--remount-ro", "/");
	add2(a, "--chdir", "/workspace");
	add2(a, "--info-fd", format(a, "%d", p->fds[FD_INFO]));
	add2(a, "--seccomp", format(a, "%d", p->fds[FD_FILTER]));
	add(a, "--");
	if (spec->init_image.n) {
		add(a, INIT_PATH);
		add3(a, format(a, "%d", p->fds[FD_SOCK]), format(a, "%d", p->fds[FD_LEASH]), spec->host_name);
		if (spec->door)
			add(a, format(a, "%d", p->fds[FD_DOOR]));
	} else {
		add3(a, "/bin/sh", "-c", ":");
	}
	return a->failed ? -ENAMETOOLONG : 0;
}

/* --- the child --------------------------------------------------------------------------------------------------- */

static _Noreturn void child_fail(const char *what)
{
	/* Best effort: the exit alone says that it failed. */
	(void)!write(2, what, strlen(what));
	(void)!write(2, "\n", 1);
	_exit(127);
}

static void child_bind(const struct plan *p, const char *box)
{
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		child_fail("cannot make a mount namespace");
	/* Opened in this namespace, and before the tmpfs, which may cover it. */
	fd = open(box, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || dup3(fd, p->fds[FD_BOX], O_CLOEXEC) < 0)
		child_fail("cannot open the sandbox's directory");
	if (mount("tmpfs", p->mount_at, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=64k") < 0 ||
	    mkdir(p->bind_at, 0755) < 0 || mount(p->bind_from, p->bind_at, NULL, MS_BIND, NULL) < 0)
		child_fail("cannot bind the sandbox's directory");
}

static void child_become(uid_t uid)
{
	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		child_fail("cannot become the sandbox's uid");
}

static void child_prepare_fds(const struct plan *p)
{
	struct f_owner_ex owner = {.type = F_OWNER_PID, .pid = getpid()};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(p->fds[FD_ERRORS], 2) < 0)
		child_fail("cannot open /dev/null");
	for (int i = 0; i < FDS; i++)
		if (p->fds[i] >= 0 && i != FD_ERRORS && i != FD_BOX && fcntl(p->fds[i], F_SETFD, 0) < 0)
			child_fail("cannot pass a descriptor on");
	/* The init switches it on (O_ASYNC); the signal goes to this process, which is bubblewrap by then. */
	if (fcntl(p->fds[FD_LEASH], F_SETOWN_EX, &owner) < 0 || fcntl(p->fds[FD_LEASH], F_SETSIG, SIGKILL) < 0)
		child_fail("cannot prepare the leash");
}

static void child_reset_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	struct sigaction ign = {.sa_handler = SIG_IGN};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, &dfl, NULL);
	/* bubblewrap must not die of a closed pipe half way. */
	(void)sigaction(SIGPIPE, &ign, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Descriptors that a uid has in flight over Unix sockets are counted together, against the limit of whoever sends next. Where the
 * sandbox has our uid its own limit is half of ours, so that it cannot use up what server and keeper need.
 */
static void child_limit_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		child_fail("cannot ask for the limit of descriptors");
	limit.rlim_cur /= 2;
	limit.rlim_max = limit.rlim_cur;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		child_fail("cannot set the limit of descriptors");
}

static _Noreturn void child_run(const struct plan *p, const struct bwrap *bwrap, const struct bwrap_spec *spec)
{
	char *const env[] = {NULL};
	char *const *argv = (char *const *)(uintptr_t)p->argv.v;

	child_reset_signals();
	child_prepare_fds(p);
	if (p->mount_at) {
		child_bind(p, spec->box);
		child_become(spec->uid);
	} else {
		child_limit_descriptors();
	}
	/* A session keyring of its own: the host's has its keys. No key calls at all is just as well (see syscall_filter.c). */
	(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
	if (chdir("/") < 0)
		child_fail("cannot enter /");
	syscall(SYS_execveat, bwrap->fd, "", argv, env, AT_EMPTY_PATH);
	/* A script in its place cannot be run by a descriptor that closes. */
	execve(bwrap->path, argv, env);
	child_fail("cannot run bwrap");
}

/* --- the parent --------------------------------------------------------------------------------------------------- */

static void plan_close(struct plan *p)
{
	for (int i = 0; i < FDS; i++)
		fd_close(&p->fds[i]);
}

const struct bwrap_child bwrap_child_none = {-1, -1, -1, -1, -1, -1, -1};

void bwrap_child_close(struct bwrap_child *child)
{
	fd_close(&child->pidfd);
	fd_close(&child->sock);
	fd_close(&child->leash);
	fd_close(&child->door);
	fd_close(&child->info);
	fd_close(&child->errors);
}

static int plan_bind(struct plan *p)
{
	p->fds[FD_BOX] = open("/", O_PATH | O_CLOEXEC);
	if (p->fds[FD_BOX] < 0)
		return -errno;
	p->mount_at = mount_point();
	p->bind_at = format(&p->argv, "%s/box", p->mount_at);
	p->bind_from = format(&p->argv, "/proc/self/fd/%d", p->fds[FD_BOX]);
	return 0;
}

static int start_child(const struct plan *p, const struct bwrap *bwrap, const struct bwrap_spec *spec,
		       struct bwrap_child *out)
{
	out->pid = fork();
	if (out->pid == 0)
		child_run(p, bwrap, spec);
	if (out->pid < 0)
		return -errno;
	out->pidfd = process_pidfd(out->pid);
	if (out->pidfd >= 0)
		return 0;
	int rc = out->pidfd;
	out->pidfd = -1;
	kill(out->pid, SIGKILL);
	(void)waitpid(out->pid, NULL, 0);
	out->pid = -1;
	return rc;
}

int bwrap_spawn(const struct bwrap *bwrap, const struct bwrap_spec *spec, struct bwrap_child *out)
{
	struct plan *p = calloc(1, sizeof(*p));
	int rc;

	*out = bwrap_child_none;
	if (!p)
		return -ENOMEM;
	for (int i = 0; i < FDS; i++)
		p->fds[i] = -1;
	rc = open_data(p, spec);
	if (rc == 0)
		rc = open_channels(p, spec->door, out);
	if (rc == 0 && spec->uid)
		rc = plan_bind(p);
	if (rc == 0)
		rc = fill_argv(p, bwrap, spec);
	if (rc == 0)
		rc = start_child(p, bwrap, spec, out);
	plan_close(p);
	free(p);
	if (rc)
		bwrap_child_close(out);
	return rc;
}

/* --- explaining --------------------------------------------------------------------------------------------------- */

static bool contains(struct str s, const char *what)
{
	return s.n && memmem(s.p, s.n, what, strlen(what));
}

/* -1: there is no such setting. */
static long long setting(const char *path)
{
	char mem[32];
	uint64_t v;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, mem, sizeof(mem)) : -1;

	fd_close(&fd);
	if (n <= 0)
		return -1;
	struct str s = str_of(mem, (size_t)n);
	return str_parse_u64(str_cut(&s, '\n'), &v) == 0 ? (long long)v : -1;
}

static void explain_userns(char *why, size_t why_size)
{
	if (setting("/proc/sys/kernel/unprivileged_userns_clone") == 0)
		snprintf(why, why_size, "user namespaces are refused: set kernel.unprivileged_userns_clone=1");
	else if (setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
		snprintf(why, why_size,
			 "user namespaces are refused: set kernel.apparmor_restrict_unprivileged_userns=0, or "
			 "give bwrap an AppArmor profile that allows userns");
	else if (setting("/proc/sys/user/max_user_namespaces") == 0)
		snprintf(why, why_size, "user namespaces are refused: set user.max_user_namespaces above 0");
	else
		snprintf(why, why_size,
			 "user namespaces are refused: look at kernel.unprivileged_userns_clone (1), "
			 "kernel.apparmor_restrict_unprivileged_userns (0), user.max_user_namespaces (above 0), and in "
			 "a "
			 "container at its seccomp profile");
}

int bwrap_explain(struct str errors, char *why, size_t why_size)
{
	if (contains(errors, "namespace") || contains(errors, "uid map") || contains(errors, "RTM_NEWADDR")) {
		explain_userns(why, why_size);
		return -EPERM;
	}
	if (contains(errors, "Unknown option"))
		snprintf(why, why_size, "bubblewrap is too old: 0.8.0 is needed");
	else
		snprintf(why, why_size, "the sandbox could not be set up");
	return -EIO;
}

/* --- trying -------------------------------------------------------------------------------------------------------- */

/* Reads what bubblewrap says until it ends. 0, -ETIMEDOUT or another negative errno. */
static int collect_errors(int fd, struct buf *out)
{
	uint64_t until = clock_ms() + TRY_MS;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = clock_ms();
		if (now >= until || poll(&p, 1, (int)(until - now)) == 0)
			return -ETIMEDOUT;
		char *to = buf_reserve(out, ERRORS_MAX);
		ssize_t n = to ? read(fd, to, ERRORS_MAX) : -1;
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			return n < 0 ? -EIO : 0;
		buf_commit(out, (size_t)n);
		if (out->len > ERRORS_MAX)
			return 0;
	}
}

int bwrap_try(const struct bwrap *bwrap, const char *box, uid_t uid, char *why, size_t why_size)
{
	const struct bwrap_spec spec = {.box = box, .host_name = "trial", .uid = uid};
	struct buf errors = BUF_EMPTY;
	struct bwrap_child child;
	int status = 0;
	int rc = bwrap_spawn(bwrap, &spec, &child);

	if (rc) {
		snprintf(why, why_size, "bubblewrap cannot be started: %s", strerror(-rc));
		return rc;
	}
	rc = collect_errors(child.errors, &errors);
	if (rc)
		kill(child.pid, SIGKILL);
	if (waitpid(child.pid, &status, 0) != child.pid || status != 0) {
		int reason = bwrap_explain(buf_str(&errors), why, why_size);
		if (reason != -EPERM && errors.len)
			snprintf(why, why_size, "the sandbox could not be set up: %.*s",
				 (int)(errors.len < 300 ? errors.len : 300), buf_data(&errors));
		rc = rc ? rc : reason;
	}
	buf_fini(&errors);
	bwrap_child_close(&child);
	return rc;
}
