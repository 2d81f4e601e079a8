/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "gateway/identity.h"

static int read_groups(int fd, struct identity *out)
{
	socklen_t size = 0;

	/* With no room the kernel says how much there must be; 0 means no supplementary groups. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0)
		return 0;
	if (errno != ERANGE)
		return -errno;
	out->groups = malloc(size);
	if (!out->groups)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out->groups, &size) < 0)
		return -errno;
	out->ngroups = size / sizeof(gid_t);
	return 0;
}

int peer_identify(int fd, struct identity *out)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);
	int rc;

	memset(out, 0, sizeof(*out));
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	out->uid = cred.uid;
	out->gid = cred.gid;
	out->pid = cred.pid;
	rc = read_groups(fd, out);
	if (rc)
		identity_fini(out);
	return rc;
}
