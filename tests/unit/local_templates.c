/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/scratch.h"
#include "local/go_json.h"
#include "local/spawn_spec.h"
#include "local/templates.h"

static struct scratch scratch;

static void make_scratch(void)
{
	scratch_init(&scratch);
}

static void drop_scratch(void)
{
	scratch_fini(&scratch);
}

TestSuite(templates, .init = make_scratch, .fini = drop_scratch);

/* Saves what a body says, with POST's defaults. */
static int save(struct templates *ts, const char *name, const char *json, struct template **t)
{
	struct template_fields f;
	json_t *doc;
	int rc;

	cr_assert_eq(go_json_parse(str_from(json), &doc), 0);
	cr_assert_eq(template_fields_read(doc, &f), 0);
	template_fields_default(&f);
	rc = templates_save(ts, str_from(name), doc, &f, t);
	json_decref(doc);
	return rc;
}

static struct buf written(const struct templates *ts)
{
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	templates_write_all(ts, &w, NULL);
	return out;
}

/* Both spellings of a field are read and answered, and everything survives a restart of the store. */
Test(templates, restart)
{
	struct templates *ts = templates_open(scratch.path);
	struct template *t = NULL;

	cr_assert_eq(save(ts, "b",
			  "{\"image\":\"i\",\"vcpus\":4,\"ttl\":\"1h\",\"metadata\":{\"k\":\"<v>\"},"
			  "\"provider\":\"local\",\"env\":{\"A\":\"1\"},\"setup\":[\"x\"],"
			  "\"secrets\":[{\"name\":\"n\",\"inject_at\":\"/x\"}]}",
			  &t),
		     0);
	cr_expect_eq(t->fields.cpu_cores, 4);
	cr_expect_eq(t->fields.ttl_seconds, 3600);
	cr_assert_eq(save(ts, "a", "{\"image\":\"j\",\"cpu_cores\":2,\"ttl_seconds\":60}", &t), 0);
	struct buf before = written(ts);
	cr_expect(buf_contains(&before, "\"vcpus\":4"));
	cr_expect(buf_contains(&before, "\"ttl\":\"1h0m0s\""));
	cr_expect(buf_contains(&before, "\"ttl\":\"1m0s\""));
	cr_expect(str_starts(buf_str(&before), STR("[{\"name\":\"a\"")), "not by name");
	templates_free(ts);

	ts = templates_open(scratch.path);
	struct buf after = written(ts);
	cr_expect(str_eq(buf_str(&before), buf_str(&after)), "%.*s", STR_ARG(buf_str(&after)));
	buf_fini(&before);
	buf_fini(&after);
	templates_free(ts);
}

/* A replacement keeps the time of its creation; a deletion lasts. */
Test(templates, replace_and_delete)
{
	struct templates *ts = templates_open(scratch.path);
	struct template *t = NULL;
	char created[64];

	cr_assert_eq(save(ts, "t", "{\"image\":\"i\"}", &t), 0);
	cr_assert_lt(t->created_at.n, sizeof(created));
	memcpy(created, t->created_at.p, t->created_at.n);
	struct str kept = str_of(created, t->created_at.n);
	cr_assert_eq(save(ts, "t", "{\"image\":\"new\"}", &t), 0);
	cr_expect(str_eq(t->created_at, kept));
	cr_expect(str_eq(t->fields.image, STR("new")));
	cr_assert_eq(templates_delete(ts, t), 0);
	cr_expect_null(templates_find(ts, STR("t")));
	templates_free(ts);
	ts = templates_open(scratch.path);
	cr_expect_null(templates_find(ts, STR("t")));
	templates_free(ts);
}

/* A file that cannot be read is put aside, not overwritten. */
Test(templates, damaged_file)
{
	static const char *const bad[] = {"",
					  "{",
					  "{}",
					  "[1]",
					  "[{\"name\":\"\"}]",
					  "[{\"name\":\"a\"},{\"name\":\"a\"}]",
					  "[{\"name\":\"a\",\"ttl\":\"x\"}]"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		scratch_text(&scratch, "templates.json", 0600, bad[i]);
		struct templates *ts = templates_open(scratch.path);
		struct buf all = written(ts);
		cr_expect(str_eq(buf_str(&all), STR("[]")), "%s", bad[i]);
		buf_fini(&all);
		templates_free(ts);
		struct buf aside = scratch_read(scratch_path(&scratch, "templates.json.bad"));
		cr_expect(str_eq(buf_str(&aside), str_from(bad[i])), "%s", bad[i]);
		buf_fini(&aside);
	}
}

/* When the file cannot be written nothing changes. */
Test(templates, disk_fault)
{
	struct templates *ts = templates_open(scratch.path);
	struct template *t = NULL;

	cr_assert_eq(save(ts, "t", "{\"image\":\"i\"}", &t), 0);
	cr_assert_eq(mkdir(scratch_path(&scratch, "templates.json.new"), 0700), 0);
	cr_expect_lt(save(ts, "t", "{\"image\":\"new\"}", &t), 0);
	cr_expect_lt(save(ts, "other", "{\"image\":\"new\"}", &t), 0);
	cr_expect_null(templates_find(ts, STR("other")));
	t = templates_find(ts, STR("t"));
	cr_assert_not_null(t);
	cr_expect(str_eq(t->fields.image, STR("i")));
	cr_expect_lt(templates_delete(ts, t), 0);
	cr_expect_eq(templates_find(ts, STR("t")), t);
	templates_free(ts);
}

/* There is a greatest number of them, and a ttl that is no duration is refused. */
Test(templates, bounds)
{
	struct templates *ts = templates_open(scratch.path);
	struct template *t = NULL;
	char name[16];

	cr_expect_eq(save(ts, "t", "{\"image\":\"i\",\"ttl\":\"soon\"}", &t), -EINVAL);
	for (int i = 0; i < TEMPLATES_MAX; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		cr_assert_eq(save(ts, name, "{\"image\":\"i\"}", &t), 0);
	}
	cr_expect_eq(save(ts, "one more", "{\"image\":\"i\"}", &t), -ENOSPC);
	cr_expect_eq(save(ts, "t3", "{\"image\":\"j\"}", &t), 0);
	templates_free(ts);
}

/* A spawn takes from its template what it does not say itself. */
Test(templates, spawn_from_one)
{
	struct templates *ts = templates_open(scratch.path);
	struct template *t = NULL;
	struct spawn_fields f = {.image = STR("alpine:latest"), .vcpus = 2};
	int64_t ns = 0;

	cr_assert_eq(save(ts, "t",
			  "{\"image\":\"node:20\",\"memory_mb\":64,\"vcpus\":4,\"ttl\":\"5m\","
			  "\"metadata\":{\"a\":\"1\",\"b\":\"2\"}}",
			  &t),
		     0);
	f.metadata = json_pack("{s:s}", "b", "mine");
	spawn_fields_complete(&f, t);
	cr_expect(str_eq(f.image, STR("node:20")));
	cr_expect_eq(f.memory_mb, 64);
	cr_expect_eq(f.vcpus, 2);
	cr_expect_eq(spawn_ttl(&f, t, &ns), DURATION_OK);
	cr_expect_eq(ns, INT64_C(300000000000));
	json_t *m = spawn_metadata(&f, t);
	cr_expect_str_eq(json_string_value(json_object_get(m, "a")), "1");
	cr_expect_str_eq(json_string_value(json_object_get(m, "b")), "mine");
	cr_expect_str_eq(json_string_value(json_object_get(m, "template")), "t");
	json_decref(m);
	json_decref(f.metadata);
	t->fields.ttl_seconds = 0;
	cr_expect_eq(spawn_ttl(&f, t, &ns), DURATION_OK);
	cr_expect_eq(ns, 0, "a template without a ttl is expired at birth");
	t->fields.ttl_seconds = INT64_MAX;
	cr_expect_eq(spawn_ttl(&f, t, &ns), DURATION_OK);
	cr_expect_gt(ns, SPAWN_MAX_TTL_NS);
	templates_free(ts);
}
