/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/identity.h"

#include <stdlib.h>
#include <string.h>

void identity_fini(struct identity *id)
{
	free(id->groups);
	memset(id, 0, sizeof(*id));
}

bool identity_in_group(const struct identity *id, gid_t gid)
{
	if (gid == IDENTITY_OVERFLOW_ID)
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
	return id->pid != 0 && id->uid != IDENTITY_OVERFLOW_ID && id->uid != (uid_t)-1;
}
