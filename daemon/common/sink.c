/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is one write(2) to a file opened for appending, one datagram to the journal, or as many bytes as stderr takes.
 *
 * Failure modes: stderr's reader is slow, then lines are held back in order up to SINK_QUEUE_MAX_BYTES and sent when the loop
 * says that there is room; it has gone, then they are lost, those held back as well. The disk is full, then the line is lost, and
 * if half of it was written the next one begins on a line of its own. The journal is away or full: lost. A file's write waits for
 * the disk, as everywhere, but never for a reader.
 */
#include "common/sink.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/fd.h"
#include "common/list.h"
#include "common/loop.h"

enum {
	FILE_MODE = 0640
};

struct queued {
	struct list link;         /* on sink.queue */
	struct sink_count *count; /* borrowed */
	size_t len;
	size_t sent;
	char text[];
};

struct sink {
	unsigned refs;
	enum sink_kind kind;
	char *path; /* owned; NULL: stderr */
	int fd;     /* owned unless it is stderr */
	bool torn;  /* the file ends within a line */
	struct list queue;
	size_t queued_bytes;
	struct event *writable; /* owned; stderr has room again; NULL for others */
};

/* --- files ------------------------------------------------------------------------------------------------------------ */

static int check_regular(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

/* O_NONBLOCK: a FIFO is refused, not waited for. */
static int open_file(const char *path, bool make)
{
	const int flags = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC;
	int fd = open(path, flags);
	int rc;

	if (fd < 0 && errno == ENOENT && make) {
		fd = open(path, flags | O_CREAT | O_EXCL, FILE_MODE);
		/* The mask of this process is stricter than a log's readers need. */
		if (fd >= 0 && fchmod(fd, FILE_MODE) < 0) {
			rc = -errno;
			close(fd);
			return rc;
		}
	}
	if (fd < 0)
		return errno == ENXIO ? -EINVAL : -errno;
	rc = check_regular(fd);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

int sink_check_file(const char *path)
{
	const char *slash = strrchr(path, '/');
	int fd = open_file(path, false);
	char *dir;
	int rc;

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (fd != -ENOENT || !slash)
		return fd;
	dir = str_dup(str_of(path, slash == path ? 1 : (size_t)(slash - path)));
	if (!dir)
		return -ENOMEM;
	rc = faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
	free(dir);
	return rc;
}

static bool write_file(struct sink *s, struct str text)
{
	struct stat st;
	ssize_t n;

	/* Unless the file was cut since, as logrotate's copytruncate does. */
	if (s->torn && fstat(s->fd, &st) == 0 && st.st_size > 0 && write(s->fd, "\n", 1) != 1)
		return false;
	s->torn = false;
	do
		n = write(s->fd, text.p, text.n);
	while (n < 0 && errno == EINTR);
	s->torn = n > 0 && (size_t)n < text.n;
	return n == (ssize_t)text.n;
}

int sink_reopen(struct sink *s)
{
	int fd;

	if (s->kind != SINK_FILE)
		return 0;
	fd = open_file(s->path, true);
	if (fd < 0)
		return fd;
	close(s->fd);
	s->fd = fd;
	s->torn = false;
	return 0;
}

/* --- the journal: systemd.journal-fields(7), its native protocol ---------------------------------------------------------- */

static int open_journal(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static void add_piece(struct iovec *pieces, int *n, struct str s)
{
	if (s.n == 0)
		return;
	pieces[*n].iov_base = (void *)(uintptr_t)s.p;
	pieces[*n].iov_len = s.n;
	++*n;
}

static bool write_journal(struct sink *s, const struct sink_line *line)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	char priority[] = "\nPRIORITY=0\nSYSLOG_IDENTIFIER=";
	struct iovec pieces[8];
	struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = pieces};
	int n = 0;

	memcpy(to.sun_path, s->path, strlen(s->path) + 1);
	CHECK(line->priority < 8);
	priority[sizeof("\nPRIORITY=") - 1] = (char)('0' + line->priority);
	add_piece(pieces, &n, STR("MESSAGE="));
	add_piece(pieces, &n, line->text);
	add_piece(pieces, &n, str_from(priority));
	add_piece(pieces, &n, str_from(line->program));
	add_piece(pieces, &n, STR("\n"));
	add_piece(pieces, &n, line->fields);
	message.msg_iovlen = (size_t)n;
	return sendmsg(s->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* --- stderr and its queue -------------------------------------------------------------------------------------------------- */

static void unqueue(struct sink *s, struct queued *q, bool written)
{
	if (written)
		q->count->written++;
	else
		q->count->dropped++;
	s->queued_bytes -= q->len;
	list_remove(&q->link);
	free(q);
}

static void drop_queue(struct sink *s)
{
	struct queued *q;

	while ((q = LIST_FIRST(&s->queue, struct queued, link)))
		unqueue(s, q, false);
}

static void flush(struct sink *s)
{
	struct queued *q;

	while ((q = LIST_FIRST(&s->queue, struct queued, link))) {
		ssize_t n = fd_write_now(s->fd, q->text + q->sent, q->len - q->sent);
		if (n == -EAGAIN)
			break;
		if (n < 0) {
			drop_queue(s);
			break;
		}
		q->sent += (size_t)n;
		if (q->sent == q->len)
			unqueue(s, q, true);
	}
	if (s->writable && list_empty(&s->queue))
		event_del(s->writable);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	flush(arg);
}

static bool enqueue(struct sink *s, struct str text, size_t sent, struct sink_count *count)
{
	struct queued *q;

	/* A line that is begun is finished, whatever it takes. */
	if (sent == 0 && s->queued_bytes + text.n > SINK_QUEUE_MAX_BYTES)
		return false;
	q = malloc(sizeof(*q) + text.n);
	if (!q)
		return false;
	q->count = count;
	q->len = text.n;
	q->sent = sent;
	memcpy(q->text, text.p, text.n);
	list_add_tail(&s->queue, &q->link);
	s->queued_bytes += text.n;
	/* Where the loop cannot wait for it, the next line finds out. */
	if (s->writable)
		event_add(s->writable, NULL);
	return true;
}

static void write_stderr(struct sink *s, struct str text, struct sink_count *count)
{
	ssize_t n = -EAGAIN;

	flush(s);
	if (list_empty(&s->queue))
		n = fd_write_now(s->fd, text.p, text.n);
	if (n == (ssize_t)text.n)
		count->written++;
	else if ((n < 0 && n != -EAGAIN) || !enqueue(s, text, n < 0 ? 0 : (size_t)n, count))
		count->dropped++;
}

/* --- all ------------------------------------------------------------------------------------------------------------------- */

void sink_write(struct sink *s, const struct sink_line *line, struct sink_count *count)
{
	bool written;

	if (s->kind == SINK_STDERR) {
		write_stderr(s, line->text, count);
		return;
	}
	written = s->kind == SINK_FILE ? write_file(s, line->text) : write_journal(s, line);
	if (written)
		count->written++;
	else
		count->dropped++;
}

bool sink_flows(const struct sink *s)
{
	return list_empty(&s->queue);
}

enum sink_kind sink_kind(const struct sink *s)
{
	return s->kind;
}

const char *sink_path(const struct sink *s)
{
	return s->path;
}

struct sink *sink_ref(struct sink *s)
{
	s->refs++;
	return s;
}

void sink_unref(struct sink *s)
{
	if (!s)
		return;
	CHECK(s->refs > 0);
	if (--s->refs)
		return;
	if (!list_empty(&s->queue))
		flush(s);
	drop_queue(s);
	if (s->writable)
		event_free(s->writable);
	if (s->kind != SINK_STDERR)
		fd_close(&s->fd);
	free(s->path);
	free(s);
}

static int open_kind(struct sink *s, struct loop *loop)
{
	int fd;

	if (s->kind == SINK_STDERR) {
		s->fd = STDERR_FILENO;
		s->writable = event_new(loop_base(loop), s->fd, EV_WRITE | EV_PERSIST, on_writable, s);
		return s->writable ? 0 : -ENOMEM;
	}
	if (s->kind == SINK_JOURNAL && strlen(s->path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return -ENAMETOOLONG;
	fd = s->kind == SINK_FILE ? open_file(s->path, true) : open_journal();
	if (fd < 0)
		return fd;
	s->fd = fd;
	return 0;
}

int sink_open(struct loop *loop, enum sink_kind kind, const char *path, struct sink **out)
{
	struct sink *s = calloc(1, sizeof(*s));
	int rc;

	CHECK((path != NULL) == (kind != SINK_STDERR));
	if (!s)
		return -ENOMEM;
	s->refs = 1;
	s->kind = kind;
	s->fd = -1;
	list_init(&s->queue);
	s->path = path ? strdup(path) : NULL;
	rc = path && !s->path ? -ENOMEM : open_kind(s, loop);
	if (rc) {
		sink_unref(s);
		return rc;
	}
	*out = s;
	return 0;
}
