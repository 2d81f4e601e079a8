/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/front_text.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/front_shared.h"

struct front_text {
	struct list link; /* on front_shared.texts */
	size_t refs;
	char text[]; /* terminated */
};

/* A reference to a shared copy; NULL without memory. */
const char *front_text_ref(struct front_shared *s, const char *text)
{
	size_t n = strlen(text) + 1;
	struct front_text *t;

	LIST_FOREACH (node, &s->texts) {
		t = CONTAINER_OF(node, struct front_text, link);
		if (strcmp(t->text, text) == 0) {
			t->refs++;
			return t->text;
		}
	}
	t = malloc(sizeof(*t) + n);
	if (!t)
		return NULL;
	t->refs = 1;
	memcpy(t->text, text, n);
	list_add_head(&s->texts, &t->link);
	return t->text;
}

void front_text_unref(const char *text)
{
	struct front_text *t = text ? CONTAINER_OF(text, struct front_text, text) : NULL;

	if (!t || --t->refs)
		return;
	list_remove(&t->link);
	free(t);
}
