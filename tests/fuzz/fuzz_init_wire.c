/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target: the messages of an init, which is hostile (threats.md B2). What is taken stays within the input, and
 * put again it is the same bytes.
 */
#include <stddef.h>
#include <stdint.h>

#include "common/check.h"
#include "local/init_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_events(struct str in)
{
	struct wire_event event;
	size_t used;

	while (wire_parse_event(in, &event, &used) == 1) {
		struct buf again = BUF_EMPTY;
		wire_put_event(&again, &event);
		CHECK(used <= in.n && (again.failed || str_eq(buf_str(&again), str_of(in.p, used))));
		buf_fini(&again);
		in = str_of(in.p + used, in.n - used);
	}
}

static void check_requests(struct str in)
{
	struct wire_request request;
	size_t used;

	while (wire_parse_request(in, &request, &used) == 1) {
		struct buf again = BUF_EMPTY;
		wire_put_request(&again, &request);
		CHECK(used <= in.n && (again.failed || str_eq(buf_str(&again), str_of(in.p, used))));
		buf_fini(&again);
		in = str_of(in.p + used, in.n - used);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of((const char *)data, size);
	struct wire_exec command;

	check_events(in);
	check_requests(in);
	(void)!wire_parse_exec(in, &command);
	return 0;
}
