/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verb.h"

#include <stdint.h>
#include <string.h>

#include "common/str.h"

static const struct verb_shape shapes[VERB_COUNT] = {
	[VERB_RUN] = {"run", 0, 0, {0}, true, "a command"},
	[VERB_SPAWN] = {"spawn", 0, 0, {0}, false, ""},
	[VERB_LS] = {"ls", 0, 0, {0}, false, ""},
	[VERB_GET] = {"get", 1, 1, {OPERAND_ID}, false, "a sandbox's id"},
	[VERB_EXEC] = {"exec", 1, 1, {OPERAND_ID}, true, "a sandbox's id and a command"},
	[VERB_CP] =
		{"cp", 2, 2, {OPERAND_FILE, OPERAND_FILE}, false, "a source and a destination, one of them ID:PATH"},
	[VERB_LOGS] = {"logs", 1, 1, {OPERAND_ID}, false, "a sandbox's id"},
	[VERB_EXTEND] = {"extend", 1, 2, {OPERAND_ID, OPERAND_DURATION}, false, "a sandbox's id"},
	[VERB_KILL] = {"kill", 1, SIZE_MAX, {OPERAND_ID, OPERAND_ID}, false, "a sandbox's id"},
	[VERB_PRUNE] = {"prune", 0, 0, {0}, false, ""},
	[VERB_TEMPLATE] = {"template", 1, 0, {0}, false, "ls, get, save, rm or spawn"},
	[VERB_TEMPLATE_LS] = {"template ls", 0, 0, {0}, false, ""},
	[VERB_TEMPLATE_GET] = {"template get", 1, 1, {OPERAND_NAME}, false, "a template's name"},
	[VERB_TEMPLATE_SAVE] = {"template save", 1, 1, {OPERAND_NAME}, false, "a template's name"},
	[VERB_TEMPLATE_RM] = {"template rm", 1, 1, {OPERAND_NAME}, false, "a template's name"},
	[VERB_TEMPLATE_SPAWN] = {"template spawn", 1, 1, {OPERAND_NAME}, false, "a template's name"},
	[VERB_PREVIEW] = {"preview", 2, 2, {OPERAND_ID, OPERAND_PORT}, false, "a sandbox's id and a port"},
	[VERB_LEASES] = {"leases", 0, 0, {0}, false, ""},
	[VERB_LEASES_RENEW] = {"leases renew", 1, 2, {OPERAND_ID, OPERAND_LEASE}, false, "a sandbox's id"},
	[VERB_LEASES_RELEASE] = {"leases release", 1, 1, {OPERAND_ID}, false, "a sandbox's id"},
	[VERB_WHOAMI] = {"whoami", 0, 0, {0}, false, ""},
	[VERB_HEALTH] = {"health", 0, 0, {0}, false, ""},
	[VERB_STATUS] = {"status", 0, 0, {0}, false, ""},
	[VERB_TOP] = {"top", 0, 0, {0}, false, ""},
	[VERB_METRICS] = {"metrics", 0, 0, {0}, false, ""},
	[VERB_RELOAD] = {"reload", 0, 0, {0}, false, ""},
	[VERB_INIT] = {"init", 0, 0, {0}, false, ""},
	[VERB_CHECK] = {"check", 1, 1, {OPERAND_FILE}, false, "a configuration file"},
};

/* How many of the words are the name, all of it; 0 if they are not. */
static int match(const char *name, char *const words[], int n)
{
	struct str rest = str_from(name);
	int taken = 0;

	while (rest.p) {
		if (taken == n || !str_eq(str_cut(&rest, ' '), str_from(words[taken])))
			return 0;
		taken++;
	}
	return taken;
}

int verb_find(char *const words[], int n, enum verb *verb)
{
	int longest = 0;

	for (int i = 0; i < VERB_COUNT; i++) {
		int taken = match(shapes[i].name, words, n);

		if (taken > longest) {
			longest = taken;
			*verb = (enum verb)i;
		}
	}
	return longest;
}

const struct verb_shape *verb_shape(enum verb verb)
{
	return &shapes[verb];
}

const char *verb_name(enum verb verb)
{
	return shapes[verb].name;
}
