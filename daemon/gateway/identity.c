/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/identity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void identity_fini(struct identity *id)
{
	free(id->groups);
	free(id->exe);
	free(id->unit);
	memset(id, 0, sizeof(*id));
}

bool identity_in_group(const struct identity *id, gid_t gid)
{
	if (gid == IDENTITY_OVERFLOW_ID || gid == (gid_t)-1)
		return false;
	if (id->gid == gid)
		return true;
	for (size_t i = 0; i < id->ngroups; i++)
		if (id->groups[i] == gid)
			return true;
	return false;
}

bool identity_is_known(const struct identity *id)
{
	return (id->pid != 0 || id->over_tcp) && id->uid != IDENTITY_OVERFLOW_ID && id->uid != (uid_t)-1;
}

/* --- what /proc says ---------------------------------------------------------------------------------------------- */

/* The path of the hierarchy in which systemd keeps its units: its own one where there is one, else the only one. */
static struct str unit_path(struct str cgroups)
{
	struct str found = str_of(NULL, 0);

	while (cgroups.n) {
		struct str rest = str_cut(&cgroups, '\n');
		struct str number = str_cut(&rest, ':');
		struct str controllers = str_cut(&rest, ':');

		if (str_eq(controllers, STR("name=systemd")))
			return rest;
		if (str_eq(number, STR("0")) && controllers.n == 0)
			found = rest;
	}
	return found;
}

/* The next part of a path; n 0 at its end. A name that the kernel could take for its own is written with a '_' before. */
static struct str take_part(struct str *path)
{
	struct str part = str_of(NULL, 0);

	while (path->n && part.n == 0)
		part = str_cut(path, '/');
	if (part.n > 1 && part.p[0] == '_')
		part = str_of(part.p + 1, part.n - 1);
	return part;
}

static struct str part_behind_slices(struct str *path)
{
	struct str part;

	do
		part = take_part(path);
	while (part.n && str_ends(part, STR(".slice")));
	return part;
}

static bool is_unit(struct str part)
{
	return str_ends(part, STR(".service")) || str_ends(part, STR(".scope"));
}

/* The uid in "user@UID.service", the manager of a user's units; false when it is another unit. */
static bool is_user_manager(struct str part, struct str *uid)
{
	uint64_t number;

	if (!str_starts(part, STR("user@")) || !str_ends(part, STR(".service")))
		return false;
	*uid = str_of(part.p + 5, part.n - 5 - 8);
	return str_parse_u64(*uid, &number) == 0;
}

int identity_unit_of(struct str cgroups, char **out)
{
	struct str path = unit_path(cgroups);
	struct str part, user, own;

	*out = NULL;
	/* Outside of what this process sees of the tree names mean nothing. */
	if (memmem(path.p ? path.p : "", path.n, "/..", 3))
		return 0;
	part = part_behind_slices(&path);
	if (!is_unit(part))
		return 0;
	if (is_user_manager(part, &user)) {
		own = part_behind_slices(&path);
		if (is_unit(own))
			return asprintf(out, "user@%.*s:%.*s", STR_ARG(user), STR_ARG(own)) < 0 ? -ENOMEM : 0;
	}
	*out = str_dup(part);
	return *out ? 0 : -ENOMEM;
}

int identity_status_field(struct str status, struct str name, unsigned base, uint64_t *out)
{
	while (status.n) {
		struct str value = str_cut(&status, '\n');
		struct str key = str_cut(&value, ':');
		uint64_t number = 0;
		size_t digits = 0;

		if (!str_eq(key, name))
			continue;
		for (value = str_trim(value); digits < value.n; digits++) {
			int digit = str_hex_value(value.p[digits]);
			if (digit < 0 || (unsigned)digit >= base || digits == 16)
				break;
			number = number * base + (unsigned)digit;
		}
		*out = number;
		return digits && digits <= 16 ? 0 : -EINVAL;
	}
	return -EINVAL;
}
