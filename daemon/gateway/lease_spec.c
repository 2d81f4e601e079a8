/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/lease_spec.h"

#include <errno.h>

#include "common/units.h"

enum {
	PID_MAX = 4194304 /* PID_MAX_LIMIT of Linux */
};

static const struct str names[LEASE_KINDS] = {
	[LEASE_CONNECTION] = {"connection", 10},
	[LEASE_PROCESS] = {"process", 7},
	[LEASE_CLOCK] = {"clock", 5},
	[LEASE_RUN] = {"run", 3},
};

const char *lease_kind_name(enum lease_kind kind)
{
	return names[kind].p;
}

int lease_kind_parse(struct str name, enum lease_kind *out)
{
	for (unsigned i = 0; i < LEASE_KINDS; i++) {
		if (!str_eq(name, names[i]))
			continue;
		*out = (enum lease_kind)i;
		return 0;
	}
	return -EINVAL;
}

static bool parse_pid(struct str digits, struct lease_spec *out, const char **why)
{
	uint64_t pid;

	if (str_parse_u64(digits, &pid) || pid == 0 || pid > PID_MAX) {
		*why = "Stacygate-Lease: process= is followed by the number of a process";
		return false;
	}
	out->kind = LEASE_PROCESS;
	out->pid = (pid_t)pid;
	return true;
}

bool lease_spec_parse(struct str value, struct lease_spec *out, const char **why)
{
	const struct str prefix = STR("process=");
	int64_t ns;

	*out = (struct lease_spec){.kind = LEASE_CLOCK};
	value = str_trim(value);
	if (str_eq(value, names[LEASE_CONNECTION]) || str_eq(value, names[LEASE_PROCESS])) {
		out->kind = value.p[0] == 'c' ? LEASE_CONNECTION : LEASE_PROCESS;
		return true;
	}
	if (str_starts(value, prefix))
		return parse_pid(str_of(value.p + prefix.n, value.n - prefix.n), out, why);
	if (duration_parse(value, &ns) != DURATION_OK) {
		*why = "Stacygate-Lease must be connection, process, process=PID or a duration such as 90s";
		return false;
	}
	if (ns < INT64_C(1000000) * LEASE_SPAN_MIN_MS || (uint64_t)ns / 1000000 > LEASE_SPAN_MAX_MS) {
		*why = "Stacygate-Lease: a duration must be from 1s to 366 days";
		return false;
	}
	out->span_ms = (uint64_t)ns / 1000000;
	return true;
}
