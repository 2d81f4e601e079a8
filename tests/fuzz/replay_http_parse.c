/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays bytes that are kept: the seeds of the fuzz target, and the corpora of public test suites where they are
 * present (STACYGATE_CORPUS, else ../shared/corpus beside the source tree).
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/fd.h"
#include "http_property.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct buf read_file(const char *dir, const char *name)
{
	struct buf content = BUF_EMPTY;
	char path[4096];

	cr_assert_lt(snprintf(path, sizeof(path), "%s/%s", dir, name), (int)sizeof(path));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0, "%s cannot be opened", path);
	cr_assert_eq(fd_read_all(fd, 1 << 20, &content), 0, "%s", path);
	close(fd);
	return content;
}

static void seeds_dir(char *dir, size_t size)
{
	const char *top = getenv("SG_SRCDIR");

	cr_assert_not_null(top, "SG_SRCDIR is not set");
	snprintf(dir, size, "%s/tests/fuzz/seeds/http_parse", top);
}

/* P29: every seed holds the property; there are seeds. */
Test(replay_http_parse, P29_seeds)
{
	char dir[4096];
	unsigned seen = 0;

	seeds_dir(dir, sizeof(dir));
	DIR *d = opendir(dir);
	cr_assert_not_null(d, "%s", dir);
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		struct buf seed = read_file(dir, e->d_name);
		cr_expect_eq(LLVMFuzzerTestOneInput((const uint8_t *)seed.mem, seed.len), 0);
		buf_fini(&seed);
		seen++;
	}
	closedir(d);
	cr_assert_geq(seen, 20, "only %u seeds", seen);
}

static uint32_t next_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	return *x ^= *x << 5;
}

/* Changes a few bytes, and leaves out, repeats or inserts a few: mostly of those that mean something in HTTP. */
static void mutate(struct buf *b, uint32_t *x)
{
	static const char telling[] = "\r\n :,;0123456789abcdef+-/\t\"#%";
	struct buf out = BUF_EMPTY;

	for (size_t i = 0; i < b->len; i++) {
		uint32_t r = next_random(x);
		char c = r & 0x400 ? telling[r % (sizeof(telling) - 1)] : (char)(r >> 24);

		switch (r % 97) {
		case 0:
			break;
		case 1:
			buf_add_char(&out, buf_data(b)[i]);
			buf_add_char(&out, c);
			break;
		case 2:
			buf_add_char(&out, c);
			break;
		case 3:
			buf_add(&out, buf_data(b) + i, b->len - i < 7 ? b->len - i : 7);
			buf_add_char(&out, buf_data(b)[i]);
			break;
		default:
			buf_add_char(&out, buf_data(b)[i]);
		}
	}
	buf_fini(b);
	*b = out;
}

/* P29: what is written anew of a message is read again as the same, also when the seeds are changed at random. */
Test(replay_http_parse, P29_changed_seeds)
{
	char dir[4096];
	uint32_t x = 2463534242;

	seeds_dir(dir, sizeof(dir));
	for (unsigned round = 0; round < 40; round++) {
		DIR *d = opendir(dir);

		cr_assert_not_null(d, "%s", dir);
		for (struct dirent *e; (e = readdir(d));) {
			if (e->d_name[0] == '.')
				continue;
			struct buf seed = read_file(dir, e->d_name);
			if (seed.len < 4096) {
				mutate(&seed, &x);
				cr_expect_eq(LLVMFuzzerTestOneInput((const uint8_t *)buf_data(&seed), seed.len), 0);
			}
			buf_fini(&seed);
		}
		closedir(d);
	}
}

static const char *corpus_dir(char *path, size_t size)
{
	const char *set = getenv("STACYGATE_CORPUS");
	const char *top = getenv("SG_SRCDIR");

	if (set)
		snprintf(path, size, "%s", set);
	else
		snprintf(path, size, "%s/../shared/corpus", top ? top : ".");
	return path;
}

static const char *text(json_t *entry, const char *key)
{
	const char *value = json_string_value(json_object_get(entry, key));

	return value ? value : "";
}

static void replay_entry(const char *dir, json_t *entry)
{
	llhttp_type_t kind = strcmp(text(entry, "dir"), "request") == 0 ? HTTP_REQUEST : HTTP_RESPONSE;
	struct buf bytes = read_file(dir, text(entry, "file"));
	enum property_verdict verdict = http_property_check(kind, bytes.mem, bytes.len);

	/* The one class of a suite whose members all must be refused (threats.md P28). */
	if (strcmp(text(entry, "tier"), "Severe") == 0)
		cr_expect_eq(verdict, PROPERTY_REFUSED, "%s: %s", text(entry, "id"), text(entry, "title"));
	buf_fini(&bytes);
}

/* Each request of the corpora is refused, waits for more, or is exactly as many well-formed ones as it is read as. */
Test(replay_http_parse, corpora)
{
	char dir[4096];
	char manifest[4200];
	json_error_t error;

	corpus_dir(dir, sizeof(dir));
	snprintf(manifest, sizeof(manifest), "%s/manifest.json", dir);
	if (access(manifest, R_OK) != 0)
		cr_skip_test("no corpora at %s", dir);
	json_t *list = json_load_file(manifest, 0, &error);
	cr_assert_not_null(list, "%s: %s", manifest, error.text);
	for (size_t i = 0; i < json_array_size(list); i++)
		replay_entry(dir, json_array_get(list, i));
	cr_assert_geq(json_array_size(list), 100);
	json_decref(list);
}
