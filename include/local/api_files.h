/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of the files in a sandbox. */
#ifndef LOCAL_API_FILES_H
#define LOCAL_API_FILES_H

struct call;

void api_files_write(struct call *call);
void api_files_read(struct call *call);
void api_files_delete(struct call *call);
void api_files_list(struct call *call);
void api_files_stat(struct call *call);
void api_files_glob(struct call *call);
void api_files_move(struct call *call);
void api_files_chmod(struct call *call);

#endif
