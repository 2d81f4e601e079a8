/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces hide processes, files, the network and IPC, but not all that the kernel has:
 * - keyrings: the host's session keyring would come along, and its keys could be read (keyctl, add_key, request_key);
 * - sockets of families that know no network namespace: AF_VSOCK reaches the hypervisor, AF_ALG and others only the
 *   kernel's less travelled parts;
 * - io_uring, whose requests make sockets without making the system call that is refused here;
 * - the system calls of another architecture, which have other numbers and would pass by all this.
 * Each fails as on a kernel that does not have it, so that programs fall back. Everything else is allowed; it is not the
 * purpose of this list to make the kernel smaller.
 */
#include "local/syscall_filter.h"

#include <endian.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define ARCH AUDIT_ARCH_I386
#elif defined(__aarch64__) && __BYTE_ORDER == __LITTLE_ENDIAN
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__arm__) && __BYTE_ORDER == __LITTLE_ENDIAN
#define ARCH AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER == __LITTLE_ENDIAN
#define ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define ARCH AUDIT_ARCH_S390X
#else
#error "which architecture is this to seccomp? (AUDIT_ARCH_* in linux/audit.h)"
#endif

/* The low half of an argument: a socket's family is an int, and the kernel looks at no more of it. */
#if __BYTE_ORDER == __BIG_ENDIAN
#define ARG_LOW(n) (offsetof(struct seccomp_data, args[n]) + 4)
#else
#define ARG_LOW(n) offsetof(struct seccomp_data, args[n])
#endif

#define LOAD(offset)  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define FAIL(error)   RETURN(SECCOMP_RET_ERRNO | (error))
/* Jumps over `skip` instructions unless what was loaded is the value. */
#define UNLESS(value, skip)  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))
#define REFUSE(call)         UNLESS((call), 1), FAIL(ENOSYS)
#define ALLOW_FAMILY(family) UNLESS((family), 1), RETURN(SECCOMP_RET_ALLOW)

static const struct sock_filter program[] = {
	LOAD(offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
	FAIL(ENOSYS),
	LOAD(offsetof(struct seccomp_data, nr)),
#if defined(__x86_64__)
	/* x32: the same architecture by name, other numbers. */
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
	FAIL(ENOSYS),
#endif
	REFUSE(__NR_keyctl),
	REFUSE(__NR_add_key),
	REFUSE(__NR_request_key),
	REFUSE(__NR_io_uring_setup),
	REFUSE(__NR_io_uring_enter),
	REFUSE(__NR_io_uring_register),
#if defined(__NR_socketcall)
	/* The old way to make sockets, with its arguments out of a filter's reach. */
	REFUSE(__NR_socketcall),
#endif
	UNLESS(__NR_socket, 10),
	LOAD(ARG_LOW(0)),
	ALLOW_FAMILY(AF_UNIX),
	ALLOW_FAMILY(AF_INET),
	ALLOW_FAMILY(AF_INET6),
	ALLOW_FAMILY(AF_NETLINK),
	FAIL(EAFNOSUPPORT),
	RETURN(SECCOMP_RET_ALLOW),
};

struct str syscall_filter(void)
{
	return str_of((const char *)program, sizeof(program));
}
