/* SPDX-License-Identifier: Apache-2.0 */
/* The program that runs as the first process inside each sandbox, carried along as bytes. */
#ifndef LOCAL_INIT_IMAGE_H
#define LOCAL_INIT_IMAGE_H

#include "common/str.h"

/* Static; never freed. */
struct str init_image_bytes(void);

#endif
