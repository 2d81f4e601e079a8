/* SPDX-License-Identifier: Apache-2.0 */
/* Judges a request body that was read whole, and writes what goes to the server in its place. */
#ifndef GATEWAY_BODY_H
#define GATEWAY_BODY_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/str.h"
#include "gateway/body_fields.h"

struct config_limits;

enum {
	BODY_METADATA_MAX_BYTES = 16 * 1024, /* of the JSON text that a client sends */
	BODY_IMAGE_MAX_BYTES = 512,
};

enum body_kind {
	BODY_SPAWN,
	BODY_ADMISSION,
	BODY_EXTEND,
	BODY_EXEC,
	BODY_TEMPLATE,       /* POST and PUT of templates */
	BODY_TEMPLATE_SPAWN, /* when it goes to the server as such, else body_from_template */
	BODY_ENVIRONMENT,    /* any other with owner_id or tenant_id */
};

/* Everything is borrowed for the call. */
struct body_policy {
	const char *owner;                  /* the caller's user id; not empty */
	const char *token;                  /* for metadata stacygate.token, with stamp; NULL: none */
	bool stamp;                         /* metadata of a spawn gets stacygate.owner and stacygate.token */
	uint64_t lease_ttl_ms;              /* a spawn is given at most this ttl, whatever was asked for; 0: that */
	const struct config_limits *limits; /* NULL: none */
	const char *spawn_defaults;         /* the text of a JSON object of spawn fields; NULL: none */
};

/*
 * Appends to `out` what is to be sent for the body `in`, or sets v->status to what is to be answered and v->why to its
 * message; what was appended is then to be dropped. v is set in any case, `in` may be of any size and content.
 *
 * Every kind: one JSON object (or null, which the server takes for an empty one) and nothing behind it; empty only as
 * BODY_TEMPLATE_SPAWN. 400 for a key that comes twice, ASCII case not counted at the top level and counted within env
 * and metadata; for a key at the top level with a character that is not ASCII; for more than JSON_KEYS_MAX keys in one
 * of them; for metadata over its bound or with a key that begins "stacygate." in any case; for an image over its
 * bound. owner_id becomes policy->owner where the server reads it (spawn, admission, environments) and is left out
 * elsewhere; tenant_id is left out. Known keys are written in the spelling of the API. All else stays as it is
 * written, and when nothing is to be changed the body is sent byte for byte. BODY_ENVIRONMENT: of all these fields
 * only owner_id and tenant_id are looked at.
 *
 * BODY_SPAWN, BODY_ADMISSION: spawn_defaults fill in what is absent, null, "" or 0; members of metadata one by one,
 * the client's win. Then limits: a limited field that is still not set (a ttl of no time counts as that) is sent as
 * the limit, a greater one is lowered (v->clamped), a negative or unreadable one is 400; image or provider not set is
 * 400, not among those allowed 403; under a limit of images `template`, which the server ignores, is left out. Then
 * the stamp; metadata that is neither an object nor null is then 400, without a stamp the server's to refuse, as are
 * members of it that are no strings.
 * BODY_EXTEND, BODY_TEMPLATE_SPAWN: a ttl above max_ttl is lowered, a negative or unreadable one is 400 when there is
 * a max_ttl; one that is not set, or zero, is the server's to refuse.
 */
void body_judge(enum body_kind kind, const struct body_policy *policy, struct str in, struct buf *out,
		struct body_verdict *v);

/*
 * The body of an ordinary spawn that does what spawning the template with `overrides` would. `template_json` is the
 * template as the server answers it (502 when it cannot be read), `overrides` the client's body, which may be empty.
 *
 * provider, ttl, memory_mb and vcpus come from the overrides, else from the template (cpu_cores or vcpus, ttl_seconds
 * or ttl), else are left out; "" and 0 count as not set, but a ttl_seconds of 0 is a ttl of "0s". The image is the
 * template's. metadata is the template's, then the overrides', then "template": NAME. Other overrides are left out, as
 * the server ignores them. The result is judged as BODY_SPAWN.
 */
void body_from_template(const struct body_policy *policy, struct str template_json, struct str overrides,
			struct buf *out, struct body_verdict *v);

/* Appends the header line that says what was lowered, "Stacygate-Clamped: ttl, memory_mb"; nothing when nothing was. */
void body_add_clamped(unsigned clamped, struct buf *head);

#endif
