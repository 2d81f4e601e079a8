/* SPDX-License-Identifier: Apache-2.0 */
/* The messages between the server and the init inside a sandbox: pure encoding and decoding, everything bounded. */
#ifndef LOCAL_INIT_WIRE_H
#define LOCAL_INIT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

enum {
	WIRE_VERSION = 1,                  /* of these messages: an init may outlive the server that started it */
	WIRE_HEAD_BYTES = 12,              /* payload length, job (both little endian, 4 bytes), type, three zeros */
	WIRE_PAYLOAD_MAX = 65536,          /* bytes behind a head */
	WIRE_DATA_MAX = 32768,             /* bytes of content or output that a sender puts in one message */
	WIRE_WINDOW = 262144,              /* bytes that an init may send for a job before it is given more */
	WIRE_LOG_WINDOW = 131072,          /* the same for the log of the sandbox */
	WIRE_PATH_MAX = 4095,              /* bytes of a path */
	WIRE_TEXT_MAX = 256,               /* bytes of an error text */
	WIRE_EXEC_MAX = 4 << 20,           /* bytes of a command with its environment */
	WIRE_ENTRIES_MAX = 100000,         /* entries of one list or glob */
	WIRE_ENTRIES_BYTES_MAX = 16 << 20, /* their payload together */
};

/* What the server sends. */
enum wire_request_type {
	WIRE_EXEC_MORE = 1, /* a piece of a command; WIRE_EXEC brings the last */
	WIRE_EXEC,
	WIRE_READ,
	WIRE_WRITE, /* path, mode, size; the content follows */
	WIRE_CONTENT,
	WIRE_DELETE,
	WIRE_LIST,
	WIRE_STAT,
	WIRE_GLOB,
	WIRE_MOVE,
	WIRE_CHMOD,
	WIRE_KILL,
	WIRE_CANCEL,
	WIRE_CREDIT, /* job 0: the log's window */
	WIRE_CONNECT,
};

struct wire_request {
	enum wire_request_type type;
	uint32_t job;
	struct str bytes; /* EXEC_MORE, EXEC, CONTENT; borrowed from the input as all spans here */
	struct str path;  /* READ, WRITE, DELETE, LIST, STAT, GLOB (the pattern), MOVE (from), CHMOD */
	struct str to;    /* MOVE */
	uint32_t mode;    /* WRITE, CHMOD */
	uint64_t size;    /* WRITE */
	uint32_t credit;  /* CREDIT */
	bool recursive;   /* DELETE */
	uint16_t port;    /* CONNECT: not 0 */
};

/* What the init sends. */
enum wire_event_type {
	WIRE_READY = 64, /* once, first; job 0 */
	WIRE_SIZE,
	WIRE_DATA,
	WIRE_ENTRY,
	WIRE_DONE,      /* the last of a job */
	WIRE_LOG,       /* job 0 */
	WIRE_CONNECTED, /* the last of a CONNECT; the message, and no other, carries one descriptor */
};

struct wire_event {
	enum wire_event_type type;
	uint32_t job;
	uint64_t size;     /* SIZE, ENTRY */
	unsigned stream;   /* DATA: 0-2 */
	struct str bytes;  /* DATA, LOG: at least one */
	struct str path;   /* ENTRY: absolute, no NUL */
	unsigned mode;     /* ENTRY: permission bits */
	bool is_dir;       /* ENTRY */
	int64_t mtime_sec; /* ENTRY */
	int error;         /* DONE: 0, or a positive errno */
	int exit_code;     /* DONE: -1 to 255 */
	struct str text;   /* DONE: printable */
	size_t cost;       /* DATA, ENTRY, LOG: bytes taken from the window */
};

/*
 * Decodes the message at the start of `in`. 1: *out is filled and *used says how many bytes it was; 0: more bytes are
 * needed; -EPROTO: this is no such message, and the peer is not to be heard again.
 */
MUST_CHECK int wire_parse_request(struct str in, struct wire_request *out, size_t *used);
MUST_CHECK int wire_parse_event(struct str in, struct wire_event *out, size_t *used);

/* Adds the message; what does not fit the bounds is a bug of the caller. Without memory out->failed is set. */
void wire_put_request(struct buf *out, const struct wire_request *msg);
void wire_put_event(struct buf *out, const struct wire_event *msg);

/*
 * A command as one run of bytes: counts, then each string with its NUL: argv, environment, workdir. -EINVAL: a NUL
 * within a string, or no argv; -E2BIG: beyond WIRE_EXEC_MAX; -ENOMEM.
 */
MUST_CHECK int wire_put_exec(struct buf *out, const struct str *argv, size_t nargv, const struct str *env, size_t nenv,
			     struct str workdir);

struct wire_exec {
	size_t nargv; /* at least 1 */
	size_t nenv;
	const char *strings; /* borrowed: nargv + nenv + 1 terminated strings, the last is workdir */
};

/* 0 or -EPROTO. */
MUST_CHECK int wire_parse_exec(struct str body, struct wire_exec *out);

/* Bytes that an event takes from its window. */
size_t wire_entry_cost(struct str path);

#endif
