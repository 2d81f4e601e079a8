/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox needs and what can be tested without one: paths, patterns, uid ranges, trees, states. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/scratch.h"
#include "local/box_path.h"
#include "local/bwrap.h"
#include "local/sandbox_private.h"
#include "local/tree_remove.h"
#include "local/uid_range.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

Test(local_box, clean_path)
{
	static const char *const rows[][2] = {
		{"/", "/"},
		{"//", "/"},
		{"/a/b", "/a/b"},
		{"a", "/workspace/a"},
		{".", "/workspace"},
		{"..", "/"},
		{"../../x", "/x"},
		{"/../x", "/x"},
		{"/a/./b//c/", "/a/b/c"},
		{"/a/../b", "/b"},
		{"/a/b/../../..", "/"},
		{"./a/..", "/workspace"},
		{"/...", "/..."},
		{"/a/.b", "/a/.b"},
	};
	char out[BOX_PATH_MAX + 1], big[BOX_PATH_MAX + 10];

	for (size_t i = 0; i < COUNT(rows); i++) {
		int n = box_path_clean(str_from(rows[i][0]), out);
		cr_expect(n == (int)strlen(rows[i][1]) && strcmp(out, rows[i][1]) == 0, "%s -> %s", rows[i][0], out);
	}
	cr_expect_eq(box_path_clean(STR(""), out), -EINVAL);
	cr_expect_eq(box_path_clean(STR("/a\0b"), out), -EINVAL);
	memset(big, 'x', sizeof(big));
	big[0] = '/';
	cr_expect_eq(box_path_clean(str_of(big, BOX_PATH_MAX), out), BOX_PATH_MAX);
	cr_expect_eq(box_path_clean(str_of(big, BOX_PATH_MAX + 1), out), -ENAMETOOLONG);
}

Test(local_box, match)
{
	static const struct {
		const char *pattern, *name;
		int result;
	} rows[] = {
		{"*", "", 1},          {"*", "abc", 1},      {"a*c", "abbc", 1},      {"a*c", "abb", 0},
		{"?", "a", 1},         {"?", "", 0},         {"?", "\303\244", 1},    {"??", "\303\244", 0},
		{"[a-c]", "b", 1},     {"[a-c]", "d", 0},    {"[^a-c]", "d", 1},      {"[!a-c]", "b", 0},
		{"[]a]", "]", 1},      {"[a-]", "-", 1},     {"\\*", "*", 1},         {"\\*", "a", 0},
		{"[\\]]", "]", 1},     {"*.js", ".js", 1},   {"*a*b*c", "xaxbxc", 1}, {"", "", 1},
		{"", "a", 0},          {"a", "", 0},         {"[", "x", -EINVAL},     {"[a", "x", -EINVAL},
		{"a\\", "b", -EINVAL}, {"x[", "y", -EINVAL}, {"[]", "x", -EINVAL},    {"*[a-", "", -EINVAL},
		{"a", "A", 0},         {"[[]", "[", 1},
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		cr_expect_eq(box_path_match(str_from(rows[i].pattern), str_from(rows[i].name)), rows[i].result, "%s %s",
			     rows[i].pattern, rows[i].name);
}

/* Many stars against a long name are done at once, not in exponential time. */
Test(local_box, match_is_quick, .timeout = 5)
{
	char name[2001];

	memset(name, 'a', 2000);
	name[2000] = 0;
	cr_expect_eq(box_path_match(STR("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"), str_from(name)), 0);
}

/* --- uids ------------------------------------------------------------------------------------------------------- */

struct sources {
	struct scratch scratch;
	struct uid_sources from;
};

static void sources_init(struct sources *s, const char *map, const char *sub)
{
	scratch_init(&s->scratch);
	s->from.uid_map = s->from.gid_map = scratch_text(&s->scratch, "map", 0600, map);
	s->from.subuid = scratch_text(&s->scratch, "subuid", 0600, sub);
	s->from.subgid = scratch_path(&s->scratch, "none");
	s->from.nss = false;
}

#define WHOLE "         0          0 4294967295\n"

Test(local_box, uid_range_check)
{
	static const struct {
		struct uid_range range;
		int result;
		const char *named;
	} rows[] = {
		{{70000, 100}, 0, ""},
		{{0, 10}, -EEXIST, "system users"},
		{{999, 2}, -EEXIST, "system users"},
		{{60000, 1}, -EEXIST, "ordinary users"},
		{{61000, 200}, -EEXIST, "DynamicUser"},
		{{65534, 1}, -EEXIST, "nobody"},
		{{99999, 2}, -EEXIST, "alice"},
		{{165536, 1}, 0, ""},
		{{165535, 1}, -EEXIST, "alice"},
		{{600000, 10}, -EEXIST, "containers"},
		{{1879048192, 512}, 0, ""},
		{{4294967000u, 200}, -EEXIST, "invalid"},
		{{4294967000u, 2000}, -ERANGE, ""},
		{{70000, 0}, -ERANGE, ""},
		{{90000, 1}, -EEXIST, "last"},
	};
	struct sources s;
	char why[300];

	sources_init(&s, WHOLE, "# comment\nalice:100000:65536\n\nbad:x:1\nempty:70000:0\nlast:90000:1");
	for (size_t i = 0; i < COUNT(rows); i++) {
		why[0] = 0;
		cr_expect_eq(uid_range_check(rows[i].range, &s.from, why, sizeof(why)), rows[i].result, "%u: %s",
			     rows[i].range.first, why);
		cr_expect_not_null(strstr(why, rows[i].named), "%s", why);
	}
	scratch_fini(&s.scratch);
}

/* B7: both are named. */
Test(local_box, B7_overlap_names_both)
{
	struct sources s;
	char why[300];

	sources_init(&s, WHOLE, "alice:100000:65536\n");
	cr_assert_eq(uid_range_check((struct uid_range){100100, 64}, &s.from, why, sizeof(why)), -EEXIST);
	cr_assert(strstr(why, "100100-100163") && strstr(why, "alice") && strstr(why, "subuid"), "%s", why);
	scratch_fini(&s.scratch);
}

/* In a container with few ids the range lies in the gap that is left, and different seeds come out differently. */
Test(local_box, uid_range_pick)
{
	struct uid_range one, two;
	struct sources s;
	char why[300];

	sources_init(&s, WHOLE, "");
	cr_assert_eq(uid_range_pick(512, 1, &s.from, &one, why, sizeof(why)), 0, "%s", why);
	cr_assert_eq(uid_range_pick(512, 2, &s.from, &two, why, sizeof(why)), 0, "%s", why);
	cr_expect(one.first >= two.first + two.count || two.first >= one.first + one.count);
	scratch_fini(&s.scratch);
	sources_init(&s, "0 100000 65536\n", "x:100000:65536\n");
	cr_assert_eq(uid_range_pick(512, 1, &s.from, &one, why, sizeof(why)), 0, "%s", why);
	cr_expect(one.first >= 60578 && one.first + one.count <= 61184, "%u", one.first);
	scratch_fini(&s.scratch);
	sources_init(&s, "0 1000 1\n", "");
	cr_expect_eq(uid_range_pick(512, 1, &s.from, &one, why, sizeof(why)), -ERANGE);
	scratch_fini(&s.scratch);
}

/* A uid that the user database knows is refused by its name. */
Test(local_box, uid_range_nss)
{
	char why[300];

	cr_assert_eq(uid_range_check((struct uid_range){1879048192, 4}, &uid_sources_system, why, sizeof(why)),
		     geteuid() == 0 ? 0
				    : uid_range_check((struct uid_range){1879048192, 4}, &uid_sources_system, why,
						      sizeof(why)),
		     "%s", why);
}

/* --- trees ----------------------------------------------------------------------------------------------------------- */

/* Everything goes, whatever its depth and permissions; a link goes, its target stays. */
Test(local_box, tree_remove)
{
	struct scratch s;
	char path[200];

	scratch_init(&s);
	cr_assert_eq(mkdir(scratch_path(&s, "t"), 0700), 0);
	(void)scratch_text(&s, "keep", 0600, "x");
	cr_assert_eq(symlink("../keep", scratch_path(&s, "t/link")), 0);
	cr_assert_eq(symlink("..", scratch_path(&s, "t/up")), 0);
	int fd = open(scratch_path(&s, "t"), O_RDONLY | O_DIRECTORY);
	int at = dup(fd);
	for (int i = 0; i < 1500; i++) {
		cr_assert_eq(mkdirat(at, "n", 0700), 0);
		int next = openat(at, "n", O_RDONLY | O_DIRECTORY);
		cr_assert_geq(next, 0);
		snprintf(path, sizeof(path), ".sg-remove-aaaaaaaaaaa%c", 'a' + i % 4);
		cr_assert_eq(mkdirat(at, path, 0), 0);
		close(at);
		at = next;
	}
	close(at);
	cr_assert_eq(tree_remove_children(fd), 0);
	close(fd);
	cr_assert_eq(rmdir(scratch_path(&s, "t")), 0);
	cr_assert_eq(access(scratch_path(&s, "keep"), F_OK), 0);
	scratch_fini(&s);
}

/* --- states ----------------------------------------------------------------------------------------------------------- */

/* The life of a sandbox only goes forward, and never skips the removal. */
Test(local_box, states)
{
	for (int from = 0; from < SANDBOX_STATES; from++)
		for (int to = 0; to < SANDBOX_STATES; to++) {
			bool expected = (from < SANDBOX_RUNNING && to == SANDBOX_RUNNING) ||
					(from <= SANDBOX_RUNNING && to == SANDBOX_STOPPING) ||
					(from == SANDBOX_STOPPING && to == SANDBOX_REMOVING) ||
					(from == SANDBOX_REMOVING && to == SANDBOX_GONE);
			cr_expect_eq(sandbox_state_allows(from, to), expected, "%d -> %d", from, to);
		}
}

/* What bubblewrap says about namespaces becomes advice; host paths never show. */
Test(local_box, explain)
{
	char why[500];

	cr_expect_eq(bwrap_explain(STR("bwrap: setting up uid map: Permission denied\n"), why, sizeof(why)), -EPERM);
	cr_expect_not_null(strstr(why, "user namespaces are refused"));
	cr_expect_eq(bwrap_explain(STR("bwrap: Can't find source path /srv/x: No such file\n"), why, sizeof(why)),
		     -EIO);
	cr_expect_null(strstr(why, "/srv"));
}
