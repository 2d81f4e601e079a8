/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed ranges are those of Debian's policy and of systemd ("Users, Groups, UIDs and GIDs on systemd systems"). What a
 * host adds stands in /etc/subuid and /etc/subgid and in its user databases.
 */
#include "local/uid_range.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/fd.h"
#include "common/str.h"

enum {
	FILE_MAX_BYTES = 1 << 20,
	TRIES = 64
};

const struct uid_sources uid_sources_system = {
	.uid_map = "/proc/self/uid_map",
	.gid_map = "/proc/self/gid_map",
	.subuid = "/etc/subuid",
	.subgid = "/etc/subgid",
	.nss = true,
};

static const struct {
	uint32_t first, last;
	const char *name;
} reserved[] = {
	{0, 999, "the system users"},
	{1000, 60000, "the ordinary users"},
	{60001, 60577, "the users of systemd-homed and nspawn"},
	{61184, 65519, "the DynamicUser range"},
	{65520, 65535, "nobody and the 16 bit -1"},
	{524288, 1879048191, "the containers of systemd"},
	{2147352576, UINT32_MAX, "the foreign and the invalid ids"},
};

/* Where to look for free ones, the roomiest first. */
static const struct uid_range windows[] = {
	{1879048192, 2147352576 - 1879048192},
	{65536, 524288 - 65536},
	{60578, 61184 - 60578},
};

static bool overlaps(struct uid_range r, uint64_t first, uint64_t last)
{
	return first <= (uint64_t)r.first + r.count - 1 && last >= r.first;
}

static int refuse(struct uid_range r, const char *what, uint64_t first, uint64_t last, char *why, size_t why_size)
{
	snprintf(why, why_size, "the sandbox uids %u-%u overlap %s (%llu-%llu)", r.first, r.first + r.count - 1, what,
		 (unsigned long long)first, (unsigned long long)last);
	return -EEXIST;
}

static int check_reserved(struct uid_range r, char *why, size_t why_size)
{
	if (r.count == 0 || (uint64_t)r.first + r.count - 1 > UINT32_MAX)
		return -ERANGE;
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (overlaps(r, reserved[i].first, reserved[i].last))
			return refuse(r, reserved[i].name, reserved[i].first, reserved[i].last, why, why_size);
	return 0;
}

/* 0 and the content; a missing file is empty if `optional`. */
static int load(const char *path, bool optional, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return optional && errno == ENOENT ? 0 : -errno;
	int rc = fd_read_all(fd, FILE_MAX_BYTES, out);
	close(fd);
	return rc;
}

/* The next number of a line in which numbers stand between spaces. */
static bool next_number(struct str *line, uint64_t *out)
{
	*line = str_trim(*line);
	struct str word = str_cut(line, ' ');

	return str_parse_u64(str_trim(word), out) == 0;
}

static int check_map(struct uid_range r, const char *path, char *why, size_t why_size)
{
	struct buf text = BUF_EMPTY;
	uint64_t first, outside, count;
	int rc = load(path, false, &text);
	bool found = false;

	for (struct str rest = buf_str(&text); rc == 0 && rest.p;) {
		struct str line = str_cut(&rest, '\n');
		if (next_number(&line, &first) && next_number(&line, &outside) && next_number(&line, &count))
			found |= first <= r.first && (uint64_t)r.first + r.count <= first + count;
	}
	buf_fini(&text);
	if (rc == 0 && !found) {
		snprintf(why, why_size, "the sandbox uids %u-%u do not all exist in this user namespace (%s)", r.first,
			 r.first + r.count - 1, path);
		rc = -ERANGE;
	}
	return rc;
}

/* name:first:count */
static int check_sub_line(struct uid_range r, const char *path, struct str line, char *why, size_t why_size)
{
	char what[256];
	uint64_t first, count;
	struct str name = str_cut(&line, ':');
	struct str start = str_cut(&line, ':');

	if (str_parse_u64(start, &first) || str_parse_u64(str_trim(line), &count) || count == 0 || first > UINT32_MAX ||
	    count > UINT32_MAX || !overlaps(r, first, first + count - 1))
		return 0;
	snprintf(what, sizeof(what), "those of %.*s in %s", (int)(name.n < 64 ? name.n : 64), name.p, path);
	return refuse(r, what, first, first + count - 1, why, why_size);
}

static int check_sub(struct uid_range r, const char *path, char *why, size_t why_size)
{
	struct buf text = BUF_EMPTY;
	int rc = load(path, true, &text);

	for (struct str rest = buf_str(&text); rc == 0 && rest.p;)
		rc = check_sub_line(r, path, str_cut(&rest, '\n'), why, why_size);
	buf_fini(&text);
	return rc;
}

static int refuse_name(struct uid_range r, const char *kind, const char *name, uint32_t id, char *why, size_t why_size)
{
	char what[128];

	snprintf(what, sizeof(what), "the %s %.64s", kind, name);
	return refuse(r, what, id, id, why, why_size);
}

/* Enumerating shows most; some databases only answer for a single id. */
static int check_nss(struct uid_range r, char *why, size_t why_size)
{
	const struct passwd *pw;
	const struct group *gr;
	int rc = 0;

	setpwent();
	while (rc == 0 && (pw = getpwent()))
		if (overlaps(r, pw->pw_uid, pw->pw_uid))
			rc = refuse_name(r, "user", pw->pw_name, pw->pw_uid, why, why_size);
	endpwent();
	setgrent();
	while (rc == 0 && (gr = getgrent()))
		if (overlaps(r, gr->gr_gid, gr->gr_gid))
			rc = refuse_name(r, "group", gr->gr_name, gr->gr_gid, why, why_size);
	endgrent();
	for (uint32_t i = 0; rc == 0 && i < r.count; i++) {
		if ((pw = getpwuid(r.first + i)))
			rc = refuse_name(r, "user", pw->pw_name, pw->pw_uid, why, why_size);
		else if ((gr = getgrgid(r.first + i)))
			rc = refuse_name(r, "group", gr->gr_name, gr->gr_gid, why, why_size);
	}
	return rc;
}

int uid_range_check(struct uid_range r, const struct uid_sources *from, char *why, size_t why_size)
{
	int rc = check_reserved(r, why, why_size);

	if (rc == 0)
		rc = check_map(r, from->uid_map, why, why_size);
	if (rc == 0)
		rc = check_map(r, from->gid_map, why, why_size);
	if (rc == 0)
		rc = check_sub(r, from->subuid, why, why_size);
	if (rc == 0)
		rc = check_sub(r, from->subgid, why, why_size);
	if (rc == 0 && from->nss)
		rc = check_nss(r, why, why_size);
	return rc;
}

int uid_range_pick(uint32_t count, uint64_t seed, const struct uid_sources *from, struct uid_range *out, char *why,
		   size_t why_size)
{
	int rc = -ERANGE;

	snprintf(why, why_size, "no range of %u free uids", count);
	for (size_t w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
		uint32_t slots = count ? windows[w].count / count : 0;
		for (uint32_t i = 0; i < slots && i < TRIES; i++) {
			out->first = windows[w].first + (uint32_t)((seed + i) % slots) * count;
			out->count = count;
			rc = uid_range_check(*out, from, why, why_size);
			if (rc != -EEXIST)
				break;
		}
		if (rc == 0)
			return 0;
	}
	return rc;
}
