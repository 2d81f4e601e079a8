/* SPDX-License-Identifier: Apache-2.0 */
/* Removes everything below a directory, however deep, without following a link. */
#ifndef LOCAL_TREE_REMOVE_H
#define LOCAL_TREE_REMOVE_H

#include "common/err.h"

/*
 * Empties the directory that fd is open on; the caller removes the directory itself. Directories without permissions
 * get u+rwx first. Uses no heap and a fixed number of descriptors, so it may run between fork and exec; blocks for as long
 * as it takes. 0, or the first negative errno; it goes on with the rest after a failure.
 */
MUST_CHECK int tree_remove_children(int fd);

#endif
