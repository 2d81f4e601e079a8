/* SPDX-License-Identifier: Apache-2.0 */
/* The file operations of the init: what is quick is done at once, content moves in pieces, trees go to a worker. */
#ifndef LOCAL_INIT_FILE_H
#define LOCAL_INIT_FILE_H

struct init;
struct wire_request;

/* Each answers now or later. Spans are borrowed for the call. */
void file_stat(struct init *init, const struct wire_request *m);
void file_chmod(struct init *init, const struct wire_request *m);
void file_delete(struct init *init, const struct wire_request *m);
void file_move(struct init *init, const struct wire_request *m);
void file_list(struct init *init, const struct wire_request *m);
void file_glob(struct init *init, const struct wire_request *m);
void file_read(struct init *init, const struct wire_request *m);
void file_write(struct init *init, const struct wire_request *m);

#endif
