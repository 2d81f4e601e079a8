/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a file of the directory in which the compiler runs into the program, byte by byte. */
#ifndef COMMON_EMBED_H
#define COMMON_EMBED_H

#include "common/str.h"

/* Once per name, at file scope; both are literals. The build must know that the object depends on the file. */
#define EMBED(name, file)                                                                                              \
	__asm__(".pushsection .rodata." #name ", \"a\"\n"                                                              \
		".balign 16\n"                                                                                         \
		".globl " #name "_start\n"                                                                             \
		".hidden " #name "_start\n" #name "_start:\n"                                                          \
		".incbin \"" file "\"\n"                                                                               \
		".globl " #name "_end\n"                                                                               \
		".hidden " #name "_end\n" #name "_end:\n"                                                              \
		".popsection\n");                                                                                      \
	extern const char name##_start[] __attribute__((visibility("hidden")));                                        \
	extern const char name##_end[] __attribute__((visibility("hidden")))

/* Its bytes, for the life of the process. */
#define EMBEDDED(name) str_of(name##_start, (size_t)(name##_end - name##_start))

#endif
