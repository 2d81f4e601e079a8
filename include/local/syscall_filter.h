/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls that namespaces do not contain, as a filter for seccomp: what every process of a sandbox is refused. */
#ifndef LOCAL_SYSCALL_FILTER_H
#define LOCAL_SYSCALL_FILTER_H

#include "common/str.h"

/* The compiled program, as bubblewrap's --seccomp takes it. Static. */
struct str syscall_filter(void);

#endif
