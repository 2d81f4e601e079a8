/* SPDX-License-Identifier: Apache-2.0 */
#include "local/init_image.h"

#include "common/embed.h"

/* The build makes stacygate-init in the directory in which the compiler runs. */
EMBED(init_image, "stacygate-init");

struct str init_image_bytes(void)
{
	return EMBEDDED(init_image);
}
