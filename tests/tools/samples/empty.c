/* SPDX-License-Identifier: Apache-2.0 */
/* A test program without a test: the wrapper must not call it good. */
#include <criterion/criterion.h>

TestSuite(sample);
