/* SPDX-License-Identifier: Apache-2.0 */
#include "local/init_image.h"

/* The build makes stacygate-init in the directory in which the compiler runs. */
__asm__(".pushsection .rodata.init_image, \"a\"\n"
	".balign 16\n"
	".globl init_image_start\n"
	".hidden init_image_start\n"
	"init_image_start:\n"
	".incbin \"stacygate-init\"\n"
	".globl init_image_end\n"
	".hidden init_image_end\n"
	"init_image_end:\n"
	".popsection\n");

extern const char init_image_start[] __attribute__((visibility("hidden")));
extern const char init_image_end[] __attribute__((visibility("hidden")));

struct str init_image_bytes(void)
{
	return str_of(init_image_start, (size_t)(init_image_end - init_image_start));
}
