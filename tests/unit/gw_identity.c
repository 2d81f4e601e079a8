/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/identity: what the text of /proc files says of a process. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "gateway/identity.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The unit is the first part behind the slices, a user's where the first is a user's manager. */
Test(gw_identity, unit)
{
	static const struct {
		const char *text, *unit; /* unit NULL: none */
	} rows[] = {
		{"0::/system.slice/x.service\n", "x.service"},
		{"0::/system.slice/x.service/payload/y.service\n", "x.service"},
		{"0::/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"},
		{"0::/init.scope\n", "init.scope"},
		{"0::/user.slice/user-1000.slice/session-2.scope\n", "session-2.scope"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.slice/x.service/b\n",
		 "user@1000:x.service"},
		{"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", "user@1000:init.scope"},
		{"0::/user.slice/user-1000.slice/user@1000.service\n", "user@1000.service"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice\n", "user@1000.service"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/plain\n", "user@1000.service"},
		{"0::/user.slice/user@x.service/app.slice/y.service\n", "user@x.service"},
		{"0::/system.slice/_cgroup.service\n", "cgroup.service"},
		{"12:pids:/a.service\n1:name=systemd:/system.slice/x.service\n0::/y.service\n", "x.service"},
		{"12:pids:/a.service\n0::/system.slice/y.service\n", "y.service"},
		{"0::/\n", NULL},
		{"0::/system.slice\n", NULL},
		{"0::/docker/0123\n", NULL},
		{"0::/docker/0123/x.service\n", NULL},
		{"0::/../x.service\n", NULL},
		{"0::/system.slice/../x.service\n", NULL},
		{"12:pids:/x.service\n", NULL},
		{"", NULL},
		{"x\n:\n::\n", NULL},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char *unit;

		cr_assert_eq(identity_unit_of(str_from(rows[i].text), &unit), 0);
		cr_expect_str_eq(unit ? unit : "none", rows[i].unit ? rows[i].unit : "none", "row %zu", i);
		free(unit);
	}
}

/* The real uid is the first of four; capabilities are hexadecimal; a name counts only as a whole, at the start of a line. */
Test(gw_identity, status)
{
	static const char text[] = "Name:\tUid:\nUmask:\t0022\nUid:\t1234\t5\t6\t7\nCapEff:\t000001ffffffffff\nGid:\t\n"
				   "Long:\t12345678901234567\n";
	uint64_t n = 0;

	cr_expect_eq(identity_status_field(str_from(text), STR("Uid"), 10, &n), 0);
	cr_expect_eq(n, 1234);
	cr_expect_eq(identity_status_field(str_from(text), STR("CapEff"), 16, &n), 0);
	cr_expect_eq(n, 0x1ffffffffff);
	cr_expect_eq(identity_status_field(str_from(text), STR("Gid"), 10, &n), -EINVAL);
	cr_expect_eq(identity_status_field(str_from(text), STR("mask"), 10, &n), -EINVAL);
	cr_expect_eq(identity_status_field(str_from(""), STR("Uid"), 10, &n), -EINVAL);
}

/* Over TCP there is no pid and no group: the uid alone says who it is, and no group matches. */
Test(gw_identity, over_tcp)
{
	struct identity id = {.uid = 7, .gid = (gid_t)-1, .over_tcp = true};

	cr_expect(identity_is_known(&id));
	cr_expect_not(identity_in_group(&id, (gid_t)-1));
	cr_expect_not(identity_in_group(&id, 0));
	id.uid = IDENTITY_OVERFLOW_ID;
	cr_expect_not(identity_is_known(&id));
}
