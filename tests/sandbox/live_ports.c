/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of programs in real sandboxes, and inits that pass what is no connection to one (threats.md B2). */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "local/port_fd.h"
#include "sandbox/box.h"

static struct bench bench;

static void begin(void)
{
	bench_init(&bench);
}

static void end(void)
{
	bench_fini(&bench);
}

TestSuite(local_ports, .init = begin, .fini = end, .timeout = 100);

/* Serves one line to each client, in the background, once it has made the file /tmp/up. */
static void serve(struct box *box, const char *address, unsigned port)
{
	struct buf script = BUF_EMPTY;

	buf_addf(&script,
		 "setsid python3 -c '\n"
		 "import socket\n"
		 "f = socket.AF_INET6 if \":\" in \"%s\" else socket.AF_INET\n"
		 "l = socket.create_server((\"%s\", %u), family=f)\n"
		 "open(\"/tmp/up\", \"w\").close()\n"
		 "while True:\n"
		 "  c = l.accept()[0]; c.sendall(c.recv(100).upper()); c.close()\n"
		 "' >/dev/null 2>&1 & until [ -e /tmp/up ]; do sleep 0.02; done; rm /tmp/up",
		 address, address, port);
	buf_add_char(&script, '\0');
	cr_assert_not(script.failed);
	must_run(box, buf_data(&script), "");
	buf_fini(&script);
}

/* Says something on the connection and hears it again. */
static void converse(int fd)
{
	char bytes[16] = "";

	cr_assert(port_fd_is_connection(fd));
	cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
	cr_assert_eq(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
	cr_expect_eq(recv(fd, bytes, sizeof(bytes), MSG_WAITALL), 5);
	cr_expect_str_eq(bytes, "HELLO");
}

/* Programs on either loopback address are reached, those of other sandboxes and of the host are not. */
Test(local_ports, reached)
{
	struct box one, two;

	box_start(&bench, &one, "sb-one");
	box_start(&bench, &two, "sb-two");
	must_fail(ask_connect(&one, 4000), ECONNREFUSED);
	serve(&one, "127.0.0.1", 4000);
	serve(&one, "::1", 4001);
	for (uint16_t port = 4000; port <= 4001; port++) {
		struct answer a = ask_connect(&one, port);
		cr_assert_eq(a.outcome, JOB_OK, "%s", a.text);
		converse(a.fd);
		answer_fini(&a);
		must_fail(ask_connect(&two, port), ECONNREFUSED);
	}
	box_end(&one);
	box_end(&two);
}

/* Many at a time, with output of a command between them, each bring their own descriptor. */
Test(local_ports, many_at_once)
{
	struct answer answers[40], noise;
	struct box box;

	box_start(&bench, &box, "sb-many");
	serve(&box, "127.0.0.1", 4000);
	exec_begin(&noise, &box, "head -c 3000000 /dev/zero");
	for (size_t i = 0; i < 40; i++) {
		answer_begin(&answers[i], &box);
		answers[i].job = sandbox_connect(box.sb, 4000, &answer_events, &answers[i]);
		cr_assert_not_null(answers[i].job);
	}
	for (size_t i = 0; i < 40; i++) {
		answer_wait(&answers[i]);
		cr_assert_eq(answers[i].outcome, JOB_OK, "%zu: %s", i, answers[i].text);
	}
	answer_wait(&noise);
	cr_expect_eq(noise.out.len, 3000000);
	answer_fini(&noise);
	for (size_t i = 0; i < 40; i++) {
		converse(answers[i].fd);
		answer_fini(&answers[i]);
	}
	box_end(&box);
}

/* A connect that is cancelled brings nothing, whether it was made already or a program lets it wait. */
Test(local_ports, cancelled)
{
	struct answer a;
	struct box box;

	box_start(&bench, &box, "sb-cancel");
	serve(&box, "127.0.0.1", 4000);
	for (int i = 0; i < 20; i++) {
		answer_begin(&a, &box);
		a.job = sandbox_connect(box.sb, 4000, &answer_events, &a);
		cr_assert_not_null(a.job);
		if (i % 2)
			must_run(&box, "true", "");
		if (!a.ended)
			sandbox_job_cancel(a.job);
		answer_fini(&a);
	}
	/* A backlog that is full: the kernel lets further ones wait. */
	must_run(&box,
		 "setsid python3 -c '\n"
		 "import socket, time\n"
		 "l = socket.socket(); l.bind((\"127.0.0.1\", 4001)); l.listen(0)\n"
		 "c = [socket.socket() for _ in range(4)]\n"
		 "[(s.setblocking(False), s.connect_ex((\"127.0.0.1\", 4001))) for s in c]\n"
		 "open(\"/tmp/up\", \"w\").close(); time.sleep(1000)\n"
		 "' >/dev/null 2>&1 & until [ -e /tmp/up ]; do sleep 0.02; done",
		 "");
	answer_begin(&a, &box);
	a.job = sandbox_connect(box.sb, 4001, &answer_events, &a);
	must_run(&box, "true", "");
	cr_assert_not(a.ended);
	sandbox_job_cancel(a.job);
	must_run(&box, "echo on", "on\n");
	answer_fini(&a);
	box_end(&box);
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* What is passed for a port and is none ends that sandbox, leaves no descriptor, and harms nobody else. */
Test(local_ports, B2_wrong_descriptors)
{
	/* The init does what its name says: see hostile_init.c. */
	static const char *const modes[] = {
		"sb-portfile", "sb-portunix", "sb-portlisten", "sb-portfresh", "sb-portudp",  "sb-portnone",
		"sb-porttwo",  "sb-portlate", "sb-portjob",    "sb-portdone",  "sb-portmany",
	};
	struct buf image = box_hostile_image();
	struct box honest, hostile;
	struct answer a;

	bench_add_other(&bench, buf_str(&image));
	box_start(&bench, &honest, "sb-honest");
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		unsigned before = open_descriptors();
		box_begin(&bench, &hostile, modes[i], true);
		answer_begin(&a, &hostile);
		a.job = sandbox_connect(hostile.sb, 4000, &answer_events, &a);
		bench_wait(&bench, &hostile.gone);
		cr_expect_eq(hostile.error, 0, "%s: %s", modes[i], hostile.why);
		/* One that is as it should be is delivered before the fault that follows it is seen. */
		cr_expect(a.ended && (a.outcome == JOB_GONE || strcmp(modes[i], "sb-portmany") == 0), "%s: outcome %d",
			  modes[i], a.outcome);
		cr_expect(a.outcome == JOB_OK || a.fd < 0, "%s: a descriptor was delivered", modes[i]);
		answer_fini(&a);
		cr_expect_eq(open_descriptors(), before, "%s: a descriptor is left", modes[i]);
		must_run(&honest, "echo fine", "fine\n");
	}
	box_end(&honest);
	buf_fini(&image);
}

/* The same init with a right descriptor, whole or behind the first bytes of its message, is believed. */
Test(local_ports, B2_right_descriptors)
{
	static const char *const modes[] = {"sb-portfine", "sb-portsplit"};
	struct buf image = box_hostile_image();
	struct box hostile;
	struct answer a;

	bench_add_other(&bench, buf_str(&image));
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		box_begin(&bench, &hostile, modes[i], true);
		answer_begin(&a, &hostile);
		a.job = sandbox_connect(hostile.sb, 4000, &answer_events, &a);
		answer_wait(&a);
		cr_expect_eq(a.outcome, JOB_OK, "%s: %s", modes[i], a.text);
		cr_expect(a.fd >= 0 && port_fd_is_connection(a.fd), "%s", modes[i]);
		answer_fini(&a);
		box_end(&hostile);
	}
	buf_fini(&image);
}
