/* SPDX-License-Identifier: Apache-2.0 */
/* How busy the host is, from /proc. */
#ifndef LOCAL_HOST_LOAD_H
#define LOCAL_HOST_LOAD_H

struct host_load {
	double cpu_pct;    /* since the call before */
	double mem_pct;    /* in use */
	double disk_pct;   /* of the file system that holds `path` */
	double net_rx_bps; /* bytes per second since the call before, without loopback */
	double net_tx_bps;
	double load1; /* load average over a minute */
};

/* Rates are 0 in the first call; what cannot be read is 0. */
struct host_load host_load_read(const char *path);

#endif
