/* SPDX-License-Identifier: Apache-2.0 */
#include "local/api_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>

#include "common/buf.h"
#include "common/fd.h"
#include "common/secret.h"

/*
 * A descriptor is taken as it is: opening /dev/fd/N would check the permissions of what it refers to, and a pipe that
 * another user made does not pass them.
 */
static int open_key(const char *path)
{
	struct str rest = str_from(path);
	uint64_t number;
	int fd;

	if (!str_starts(rest, STR("/dev/fd/"))) {
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		return fd < 0 ? -errno : fd;
	}
	rest.p += STR("/dev/fd/").n;
	rest.n -= STR("/dev/fd/").n;
	if (str_parse_u64(rest, &number) || number > INT32_MAX)
		return -EBADF;
	return (int)number;
}

static const char *fault_of(struct str key)
{
	if (key.n == 0)
		return "is empty";
	for (size_t i = 0; i < key.n; i++)
		if ((unsigned char)key.p[i] <= 0x20 || key.p[i] == 0x7f)
			return "holds a space or a control byte (only one newline at the end is allowed)";
	return NULL;
}

int api_keys_read(const char *path, struct secret **out, char *why, size_t why_size)
{
	struct buf text = BUF_EMPTY;
	const char *fault = NULL;
	int fd = open_key(path);
	int rc = fd < 0 ? fd : fd_read_all(fd, SECRET_MAX_BYTES, &text);

	if (rc < 0) {
		snprintf(why, why_size, "%s: %s", path, strerror(-rc));
	} else {
		struct str key = buf_str(&text);
		if (key.n && key.p[key.n - 1] == '\n')
			key.n--;
		fault = fault_of(key);
		rc = fault ? -EINVAL : secret_take(buf_data(&text), key.n, out);
		if (rc)
			snprintf(why, why_size, "%s: the key %s", path, fault ? fault : strerror(-rc));
	}
	buf_wipe(&text);
	if (fd >= 0)
		fd_close(&fd);
	return rc;
}

/* Both are always compared, so that the time does not tell which one it was. */
static bool is_key(const struct api_keys *keys, struct str candidate)
{
	bool ordinary = candidate.p && keys->ordinary && secret_equal(keys->ordinary, candidate);
	bool admin = candidate.p && keys->admin && secret_equal(keys->admin, candidate);

	return ordinary || admin;
}

bool api_keys_admit(const struct api_keys *keys, struct str admin_header, struct str key_header)
{
	if (!keys->ordinary && !keys->admin)
		return true;
	return is_key(keys, admin_header) || is_key(keys, key_header);
}

void api_keys_fini(struct api_keys *keys)
{
	secret_unref(keys->ordinary);
	secret_unref(keys->admin);
	*keys = (struct api_keys){0};
}
