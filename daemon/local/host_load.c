/* SPDX-License-Identifier: Apache-2.0 */
#include "local/host_load.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/str.h"

enum {
	PROC_MAX_BYTES = 1 << 20
};

struct counters {
	uint64_t cpu_busy;
	uint64_t cpu_all;
	uint64_t net_rx;
	uint64_t net_tx;
	uint64_t at_ms;
};

/* The content of a file of /proc, empty when it cannot be read. */
static struct buf read_proc(const char *path)
{
	struct buf text = BUF_EMPTY;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fd_read_all(fd, PROC_MAX_BYTES, &text))
		buf_reset(&text);
	fd_close(&fd);
	return text;
}

/* Cuts the next word off; empty at the end of the line. */
static struct str next_word(struct str *rest)
{
	while (rest->n && (*rest->p == ' ' || *rest->p == '\t'))
		*rest = str_of(rest->p + 1, rest->n - 1);
	return str_cut(rest, ' ');
}

static uint64_t next_number(struct str *rest)
{
	uint64_t n = 0;

	return str_parse_u64(next_word(rest), &n) ? 0 : n;
}

static void read_cpu(struct counters *c)
{
	struct buf text = read_proc("/proc/stat");
	struct str rest = buf_str(&text);
	struct str line = str_cut(&rest, '\n');

	next_word(&line); /* "cpu" */
	for (int i = 0; i < 8; i++) {
		uint64_t ticks = next_number(&line);
		c->cpu_all += ticks;
		if (i != 3 && i != 4) /* idle, iowait */
			c->cpu_busy += ticks;
	}
	buf_fini(&text);
}

static void read_net(struct counters *c)
{
	struct buf text = read_proc("/proc/net/dev");
	struct str rest = buf_str(&text);

	while (rest.p) {
		struct str line = str_cut(&rest, '\n');
		struct str numbers = line;
		struct str name = str_trim(str_cut(&numbers, ':'));

		if (!numbers.p || str_eq(name, STR("lo")))
			continue;
		c->net_rx += next_number(&numbers);
		for (int i = 0; i < 7; i++)
			next_word(&numbers);
		c->net_tx += next_number(&numbers);
	}
	buf_fini(&text);
}

static double memory_pct(void)
{
	struct buf text = read_proc("/proc/meminfo");
	struct str rest = buf_str(&text);
	uint64_t total = 0;
	uint64_t available = 0;

	while (rest.p) {
		struct str line = str_cut(&rest, '\n');
		struct str name = str_cut(&line, ':');
		if (str_eq(name, STR("MemTotal")))
			total = next_number(&line);
		else if (str_eq(name, STR("MemAvailable")))
			available = next_number(&line);
	}
	buf_fini(&text);
	return total > available ? 100.0 * (double)(total - available) / (double)total : 0;
}

static double disk_pct(const char *path)
{
	struct statvfs fs;

	if (statvfs(path, &fs) < 0 || fs.f_blocks == 0)
		return 0;
	return 100.0 * (double)(fs.f_blocks - fs.f_bfree) / (double)fs.f_blocks;
}

static double rate(uint64_t before, uint64_t now, double per)
{
	return now > before && per > 0 ? (double)(now - before) / per : 0;
}

struct host_load host_load_read(const char *path)
{
	static struct counters before;
	struct counters now = {.at_ms = clock_ms()};
	struct host_load load = {.mem_pct = memory_pct(), .disk_pct = disk_pct(path)};
	double seconds = before.at_ms ? (double)(now.at_ms - before.at_ms) / 1000 : 0;

	read_cpu(&now);
	read_net(&now);
	if (before.at_ms && now.cpu_all > before.cpu_all)
		load.cpu_pct = 100 * rate(before.cpu_busy, now.cpu_busy, (double)(now.cpu_all - before.cpu_all));
	load.net_rx_bps = rate(before.net_rx, now.net_rx, seconds);
	load.net_tx_bps = rate(before.net_tx, now.net_tx, seconds);
	if (getloadavg(&load.load1, 1) < 1)
		load.load1 = 0;
	before = now;
	return load;
}
