/* SPDX-License-Identifier: Apache-2.0 */
#include "local/api_templates.h"

#include <errno.h>

#include "common/json_write.h"
#include "local/call.h"
#include "local/templates.h"

#define NEVER STR("0001-01-01T00:00:00Z") /* what the server writes for a time that is not set */

static void answer_template(struct call *call, unsigned status, const struct template *t, struct str created_at)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	template_write(t, &w, NULL, created_at);
	call_json(call, status, &body);
}

/* The template that the path names; NULL: answered. */
static struct template *named(struct call *call)
{
	struct str name = buf_str(&call->param);
	struct template *t = templates_find(call->api->templates, name);

	if (!t)
		call_error(call, CALL_NOT_FOUND, "not found: template \"%.*s\"", STR_ARG(name));
	return t;
}

/* The body as fields; false: answered. */
static bool read_fields(struct call *call, struct template_fields *f)
{
	int rc = go_json_parse(conn_body(call->conn), &call->body);

	if (rc == 0)
		rc = template_fields_read(call->body, f);
	if (rc == 0)
		return true;
	if (rc == -ENOMEM)
		call_no_memory(call);
	else
		call_error(call, CALL_BAD_REQUEST, "invalid request body");
	return false;
}

/* NULL: answered. */
static struct template *save(struct call *call, struct str name, const struct template_fields *f)
{
	struct template *t = NULL;
	int rc = templates_save(call->api->templates, name, call->body, f, &t);

	if (rc == -EINVAL)
		call_error(call, CALL_BAD_REQUEST, "invalid input: parsing ttl: time: invalid duration \"%.*s\"",
			   STR_ARG(f->ttl));
	else if (rc == -ENOSPC)
		call_error(call, CALL_RESOURCE_LIMIT, "resource limit exceeded: max templates reached (%d)",
			   TEMPLATES_MAX);
	else if (rc == -ENOMEM)
		call_no_memory(call);
	else if (rc)
		call_error(call, CALL_INTERNAL_ERROR, "saving template: %s", strerror(-rc));
	return rc ? NULL : t;
}

void api_templates_list(struct call *call)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	templates_write_all(call->api->templates, &w, NULL);
	call_json(call, 200, &body);
}

void api_templates_create(struct call *call)
{
	struct template_fields f;
	struct template *t;

	if (!read_fields(call, &f))
		return;
	if (f.name.n == 0) {
		call_error(call, CALL_INTERNAL_ERROR, "template name is required");
		return;
	}
	if (f.image.n == 0) {
		call_error(call, CALL_INTERNAL_ERROR, "template image is required");
		return;
	}
	if (templates_find(call->api->templates, f.name)) {
		call_error(call, CALL_CONFLICT, "conflict: template already exists");
		return;
	}
	template_fields_default(&f);
	t = save(call, f.name, &f);
	if (t)
		answer_template(call, 201, t, STR(""));
}

void api_templates_get(struct call *call)
{
	struct template *t = named(call);

	if (t)
		answer_template(call, 200, t, STR(""));
}

/* Replaces all of it: what the body leaves out is empty afterwards. The answer repeats the body's created_at. */
void api_templates_replace(struct call *call)
{
	struct template_fields f;
	struct template *t;

	if (!read_fields(call, &f))
		return;
	t = named(call);
	if (!t)
		return;
	t = save(call, buf_str(&call->param), &f);
	if (t)
		answer_template(call, 200, t, f.created_at.n ? f.created_at : NEVER);
}

void api_templates_delete(struct call *call)
{
	struct template *t = named(call);
	int rc;

	if (!t)
		return;
	rc = templates_delete(call->api->templates, t);
	if (rc)
		call_error(call, CALL_INTERNAL_ERROR, "deleting template: %s", strerror(-rc));
	else
		call_status(call, "deleted");
}
