/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/openapi: the description has the routes of the table, neither more nor fewer, each with its class. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>

#include "config.h"

#include "gateway/openapi.h"
#include "gateway/route.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum {
	/* An answer of the gateway's own is kept whole for a client that reads slowly. */
	DOCUMENT_MAX_BYTES = 192 * 1024
};

/* HEAD goes with GET and is not described by itself. */
static const struct {
	enum http_method method;
	const char *key;
} methods[] = {
	{METHOD_GET, "get"},       {METHOD_POST, "post"},   {METHOD_PUT, "put"},
	{METHOD_DELETE, "delete"}, {METHOD_PATCH, "patch"},
};

static const enum route_place places[] = {ROUTE_API, ROUTE_GATEWAY};

static json_t *load(void)
{
	const struct str text = openapi_document();
	json_error_t error;
	json_t *doc = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &error);

	cr_assert(doc, "line %d, column %d: %s", error.line, error.column, error.text);
	return doc;
}

static const struct route_row *row_of(enum http_method method, const char *path)
{
	for (size_t p = 0; p < COUNT(places); p++) {
		size_t n;
		const struct route_row *rows = route_rows(places[p], &n);
		for (size_t i = 0; i < n; i++)
			if (rows[i].methods & 1u << method && strcmp(rows[i].path, path) == 0)
				return &rows[i];
	}
	return NULL;
}

/* The description is JSON without a key given twice, of that version of OpenAPI and of this version of the package. */
Test(gateway_openapi, whole)
{
	const struct str text = openapi_document();
	json_t *doc = load();

	cr_expect(text.n > 0 && text.p[0] == '{' && text.p[text.n - 1] == '}');
	cr_expect_leq(text.n, DOCUMENT_MAX_BYTES);
	cr_expect_str_eq(json_string_value(json_object_get(doc, "openapi")), "3.1.0");
	cr_expect_str_eq(json_string_value(json_object_get(json_object_get(doc, "info"), "version")), PACKAGE_VERSION);
	json_decref(doc);
}

/* Every row of both tables is described with its class. */
Test(gateway_openapi, every_row)
{
	json_t *doc = load();
	json_t *paths = json_object_get(doc, "paths");

	for (size_t p = 0; p < COUNT(places); p++) {
		size_t n;
		const struct route_row *rows = route_rows(places[p], &n);
		for (size_t i = 0; i < n * COUNT(methods); i++) {
			const struct route_row *row = &rows[i / COUNT(methods)];
			const size_t m = i % COUNT(methods);
			json_t *op = json_object_get(json_object_get(paths, row->path), methods[m].key);
			const char *class = json_string_value(json_object_get(op, "x-stacygate-class"));
			if (!(row->methods & 1u << methods[m].method))
				continue;
			cr_expect(op && class && strcmp(class, route_class_text(row->class)) == 0, "%s %s: %s, not %s",
				  methods[m].key, row->path, class ? class : "not described",
				  route_class_text(row->class));
		}
	}
	json_decref(doc);
}

/* What is described is in the table: no path, no method more. */
Test(gateway_openapi, nothing_more)
{
	json_t *doc = load();
	const char *path;
	const char *key;
	json_t *item;
	json_t *op;
	size_t described = 0;

	json_object_foreach (json_object_get(doc, "paths"), path, item) {
		json_object_foreach (item, key, op) {
			size_t m = 0;
			if (strcmp(key, "parameters") == 0)
				continue;
			while (m < COUNT(methods) && strcmp(methods[m].key, key) != 0)
				m++;
			cr_expect(m < COUNT(methods) && row_of(methods[m].method, path), "%s %s is no route", key, path);
			described++;
		}
	}
	cr_expect_gt(described, 100);
	json_decref(doc);
}

/* Whether the parameters of an item declare that one, by themselves or by a reference to the components. */
static bool declares(const json_t *doc, const json_t *parameters, struct str name)
{
	static const char prefix[] = "#/components/parameters/";
	json_t *shared = json_object_get(json_object_get(doc, "components"), "parameters");
	json_t *each;
	size_t i;

	json_array_foreach (parameters, i, each) {
		const char *ref = json_string_value(json_object_get(each, "$ref"));
		json_t *p = ref && strlen(ref) > sizeof(prefix) - 1 ? json_object_get(shared, ref + sizeof(prefix) - 1)
								    : each;
		const char *in = json_string_value(json_object_get(p, "in"));
		if (in && strcmp(in, "path") == 0 &&
		    str_eq(name, str_from(json_string_value(json_object_get(p, "name")))))
			return true;
	}
	return false;
}

/* Every parameter of a path is declared for all methods of it. */
Test(gateway_openapi, path_parameters)
{
	json_t *doc = load();
	const char *path;
	json_t *item;

	json_object_foreach (json_object_get(doc, "paths"), path, item) {
		for (const char *p = strchr(path, '{'); p; p = strchr(p + 1, '{')) {
			const struct str name = str_of(p + 1, strcspn(p + 1, "}"));
			cr_expect(declares(doc, json_object_get(item, "parameters"), name), "%s: %.*s", path,
				  STR_ARG(name));
		}
	}
	json_decref(doc);
}
