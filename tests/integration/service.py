#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""stacygated under a service manager: what it says to it, the sockets that it is given, stop, restart and upgrade."""
import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from service_lib import Manager, free_port
from tls_lib import BUILD, DEADLINE, Skip, UnixConnection, Upstream, main, wait_for

RULE = ["clients:", "  - { name: all, match: {}, upstream: main, credential: team, user_id: all, allow: [all], isolation: none }"]


def upstream_lines(port):
    return ["upstreams:", f"  main: {{ url: http://127.0.0.1:{port} }}", "credentials:", "  team: { api_key: { file: {d}/key } }",
            *RULE]


def listen_lines(*entries):
    return ["listen:", *("  - " + e for e in entries)]


def own(*more):
    """A configuration with one listener, whose upstream need not be there."""
    return [*more, *listen_lines("{ path: {d}/run/s, name: host }"), *upstream_lines(9)]


# --- what is said -----------------------------------------------------------------------------------------------------

def order(abstract):
    with Manager(own(), abstract=abstract) as m:
        m.start(wait=False)
        first = m.expect("")
        assert first == "READY=1", first
        assert m.expect("STATUS=") == "STATUS=serving, 0 connections"
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        m.signal(signal.SIGHUP)
        words = m.expect("RELOADING=1").split("\n")
        usec = int(words[1].removeprefix("MONOTONIC_USEC="))
        assert before * 1e6 <= usec <= time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6 and len(words) == 2, words
        m.expect("READY=1")
        m.signal(signal.SIGTERM)
        words = m.expect("STOPPING=1").split("\n")
        # systemd must not kill within drain_timeout (30 s) and what the stop takes besides.
        assert int(words[1].removeprefix("EXTEND_TIMEOUT_USEC=")) >= 30000000, words
        assert m.wait() == 0
        m.collect()
        assert m.states() == ["READY", "RELOADING", "READY", "STOPPING"], m.said
        assert not any(s.startswith("WATCHDOG") for s in m.said), m.said


def test_ready_reloading_ready_stopping():
    order(abstract=False)


def test_the_same_by_an_abstract_address():
    order(abstract=True)


def test_failed_reload_is_over_as_well_and_says_so():
    with Manager(own()) as m:
        m.start()
        m.configure(own("drain_timuot: 1s"))
        m.signal(signal.SIGHUP)
        m.expect("RELOADING=1")
        m.expect("READY=1")
        assert "the last reload failed" in m.expect("STATUS=serving, 0 connections;")
        m.configure(own())
        m.signal(signal.SIGHUP)
        m.expect("READY=1")
        assert m.expect("STATUS=serving") == "STATUS=serving, 0 connections"


def test_failed_start_says_why():
    with Manager(own()) as m:
        os.mkdir(m.path("run/s"))
        m.start(wait=False)
        assert "exists and is not a socket" in m.expect("STATUS=cannot start: ")
        assert m.wait() == 3 and "READY" not in m.states()
    with Manager(own("nonsense: 1")) as m:
        m.start(wait=False)
        assert "configuration" in m.expect("STATUS=cannot start: ")
        assert m.wait() == 1


def test_status_names_connections_and_trouble():
    with Manager(own()) as m:
        m.start()
        m.expect("STATUS=serving, 0")
        kept = UnixConnection(m.path("run/s"))
        assert kept.ask("GET", "/gateway/v1/health").status == 200
        m.expect("STATUS=serving, 1 connections")
        for _ in range(6):
            kept.ask("GET", "/api/v1/sandboxes")
        assert "; main: " in m.expect("STATUS=serving, 1 connections;")
        kept.close()


def test_l8_a_loop_that_stalls_says_nothing():
    """The manager aborts and restarts who is silent for WatchdogSec; a stopped process is as silent as a stalled loop."""
    with Manager(own(), watchdog_usec=1000000) as m:
        m.start()
        begin = time.monotonic()
        for _ in range(4):
            m.expect("WATCHDOG=1")
        # Twice in each period, and not in a burst.
        assert 0.9 < time.monotonic() - begin < 1.0 * 5, time.monotonic() - begin
        m.signal(signal.SIGSTOP)
        wait_for("it stands", lambda: open(f"/proc/{m.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T")
        m.collect()
        said = len(m.said)
        m.collect(1.5)
        assert len(m.said) == said, m.said[said:]
        m.signal(signal.SIGCONT)
        m.mark = len(m.said)
        m.expect("WATCHDOG=1")


def test_watchdog_of_another_process_is_not_ours():
    with Manager(own(), watchdog_usec=100000, env={"WATCHDOG_PID": "1"}) as m:
        m.start()
        m.collect(0.5)
        assert not any(s.startswith("WATCHDOG") for s in m.said), m.said


def test_nobody_reads_what_is_said():
    """A manager whose queue is full holds nothing up, and a state gets there in the end."""
    with Manager(own(), watchdog_usec=20000) as m:
        m.start()
        with open("/proc/sys/net/unix/max_dgram_qlen", encoding="ascii") as file:
            room = int(file.read())
        filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        filler.setblocking(False)
        try:
            for _ in range(room + 64):
                filler.sendto(b"STATUS=filler", m.address)
        except BlockingIOError:
            pass
        m.signal(signal.SIGHUP)
        m.wait_log("reloaded: configuration 2")
        assert m.ask(m.path("run/s")).status == 200
        m.expect("RELOADING=1")
        m.expect("READY=1")
        filler.close()


# --- the sockets ------------------------------------------------------------------------------------------------------

def test_several_sockets_by_path_and_by_name():
    port, four, six = free_port()
    lines = [*listen_lines("{ path: {d}/a, name: first }", "{ path: {d}/nowhere/b, name: second }",
                           "{ path: {d}/run/own, name: third }", f"{{ tcp: 127.0.0.1:{port}, name: loop }}"), *upstream_lines(9)]
    # uid 0 over TCP only where the rule names the listener.
    lines[-1] = lines[-1].replace("match: {}", "match: { listener: [first, second, third, loop] }")
    with Manager(lines) as m:
        a, b = m.bind("other-name", "a"), m.bind("second", "b")
        stray = m.bind("stray")
        m.sockets += [("web", six), ("web", four)]
        m.start()
        for path, name in ((a, "first"), (b, "second"), (m.path("run/own"), "third")):
            assert m.ask(path, "/gateway/v1/whoami").json()["listener"] == name, path
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            connection = UnixConnection(a)
            connection.sock = socket.socket(family)
            connection.sock.connect((host, port))
            answer = connection.ask("GET", "/gateway/v1/whoami", headers={"Host": f"localhost:{port}"})
            assert answer.status == 200 and answer.json()["uid"] == os.getuid(), answer
            assert answer.json()["listener"] == "loop", answer
            connection.close()
        assert f'passes "stray" ({stray})' in m.log() and not os.path.exists(m.path("nowhere")), m.log()
        assert m.log().count("the socket unit passes") == 1, m.log()


def test_without_listeners_what_is_passed_is_listened_on():
    with Manager(upstream_lines(9)) as m:
        path = m.bind("host", "door")
        m.start()
        assert m.ask(path, "/gateway/v1/whoami").json()["listener"] == "host"
        assert not os.path.exists(m.path("run/stacygate.sock"))
        # A reload finds the same.
        m.signal(signal.SIGHUP)
        m.expect("READY=1")
        assert m.ask(path, "/gateway/v1/whoami").json()["listener"] == "host"
        assert "no longer listening" not in m.log()


def test_variables_for_another_process_pass_nothing():
    with Manager(own(), env={"LISTEN_PID": "1"}) as m:
        path = m.bind("host", "door")
        m.start()
        assert m.ask(m.path("run/s"), "/gateway/v1/whoami").json()["listener"] == "host"
        assert path not in m.log()


def test_promised_descriptors_that_are_not_there():
    with Manager(own(), env={"LISTEN_FDS": "7"}) as m:
        m.bind("host", "door")
        m.start(wait=False)
        assert m.wait() == 3 and "Bad file descriptor" in m.log(), m.log()


def test_one_loopback_address_is_not_enough():
    for keep in (0, 1):
        port, *both = free_port()
        lines = [*listen_lines("{ path: {d}/run/s, name: host }", f"{{ tcp: 127.0.0.1:{port} }}"), *upstream_lines(9)]
        with Manager(lines, sockets=[("web", both[keep])]) as m:
            m.start()
            assert "both loopback addresses must be ours" in m.log(), m.log()
            assert "both loopback" in m.ask(m.path("run/s")).json()["listener_error"]
            both[1 - keep].close()


def test_a_socket_that_is_open_to_the_network_is_refused():
    port, four, six = free_port()
    four.close()
    everywhere = socket.socket(socket.AF_INET)
    everywhere.bind(("0.0.0.0", port))
    everywhere.listen()
    lines = [*listen_lines("{ path: {d}/run/s, name: host }", f"{{ tcp: 127.0.0.1:{port} }}"), *upstream_lines(9)]
    with Manager(lines, sockets=[("web", everywhere), ("web", six)]) as m:
        m.start()
        assert "whoever is not on this machine cannot be told apart" in m.ask(m.path("run/s")).json()["listener_error"]


def test_a_datagram_socket_is_no_listener():
    with Manager([*listen_lines("{ path: {d}/run/s, name: host }", "{ path: {d}/run/t, name: datagrams }"), *upstream_lines(9)]) as m:
        m.sockets.append(("datagrams", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)))
        m.start()
        assert "not a listening Unix stream socket" in m.ask(m.path("run/s")).json()["listener_error"]


def test_another_mode_than_configured_is_said():
    with Manager([*listen_lines('{ path: {d}/door, name: host, mode: "0660" }'), *upstream_lines(9)]) as m:
        m.bind("host", "door", mode=0o666)
        m.start()
        assert "SocketMode=" in m.log() and "0666" in m.log(), m.log()


def test_a_reload_drops_a_passed_socket_and_takes_it_again():
    both = listen_lines("{ path: {d}/a, name: a }", "{ path: {d}/b, name: b }")
    with Manager([*both, *upstream_lines(9)]) as m:
        a, b = m.bind("a"), m.bind("b")
        m.start()
        assert m.ask(b).status == 200
        m.configure([*listen_lines("{ path: {d}/a, name: a }"), *upstream_lines(9)])
        m.signal(signal.SIGHUP)
        m.expect("READY=1")
        waiting = UnixConnection(b)
        waiting.request("GET", "/gateway/v1/health")
        assert m.ask(a).status == 200
        m.configure([*both, *upstream_lines(9)])
        m.signal(signal.SIGHUP)
        m.expect("READY=1")
        answer = waiting.getresponse()
        assert answer.status == 200, answer.status
        waiting.close()


def test_l16_inherited_socket_stays_own_one_goes():
    with Manager([*listen_lines("{ path: {d}/door, name: host }", "{ path: {d}/run/own, name: own }"), *upstream_lines(9)]) as m:
        path = m.bind("host", "door")
        m.start()
        assert os.path.exists(m.path("run/own"))
        m.stop()
        assert os.path.exists(path) and not os.path.exists(m.path("run/own"))
        m.start()
        assert m.ask(path).status == 200 and m.ask(m.path("run/own")).status == 200


def children_of(pid):
    out = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                if file.read().rsplit(")", 1)[1].split()[1] == str(pid):
                    out.append(int(entry))
        except (OSError, IndexError):
            continue
    return out


def test_l12_no_child_has_what_was_passed():
    if os.getuid():
        raise Skip("only root may look at the descriptors of an undumpable process")
    with Manager(upstream_lines(9)) as m:
        m.bind("host", "door")
        m.start()
        inode = {os.fstat(sock.fileno()).st_ino for _, sock in m.sockets}

        def sockets_of(pid):
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            return {int(link[8:-1]) for link in links if link.startswith("socket:[")}
        assert inode <= sockets_of(m.pid)
        launchers = children_of(m.pid)
        assert launchers
        for child in launchers:
            assert not inode & sockets_of(child), child


# --- stop and start ---------------------------------------------------------------------------------------------------

class Traffic:
    """Clients all the time: requests that the gateway answers and such that the server does, on new and on kept connections."""

    KINDS = [(*request, kept) for kept in (False, True)
             for request in (("GET", "/gateway/v1/health", None), ("POST", "/api/v1/sandboxes/sb-1/exec", '{"command":"true"}'))]

    def __init__(self, path):
        self.path, self.over = path, threading.Event()
        self.done = [0] * len(self.KINDS)
        self.refused, self.lost, self.wrong = [], [], []
        self.threads = [threading.Thread(target=self.client, args=(i,)) for i in range(len(self.KINDS))]

    def client(self, i):
        method, target, body, kept = self.KINDS[i]
        connection = None
        while not self.over.is_set():
            connection = connection or UnixConnection(self.path)
            try:
                answer = connection.ask(method, target, body)
                if answer.status == 200 and answer.whole:
                    self.done[i] += 1
                else:
                    self.wrong.append((method, kept, answer))
            except (ConnectionRefusedError, FileNotFoundError) as fault:
                self.refused.append((method, kept, repr(fault)))
            except (OSError, http.client.HTTPException) as fault:
                self.lost.append((method, kept, repr(fault)))
                connection.close()
            if not kept:
                connection.close()
                connection = None

    def wait_for_more(self):
        before = list(self.done)
        wait_for("clients of each kind are served", lambda: all(n > b + 5 for n, b in zip(self.done, before)))

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join(DEADLINE)


def test_restart_loses_nothing():
    """Whoever asks while the service is stopped and started is answered, on a connection that he keeps as well."""
    server = Upstream()
    with Manager(upstream_lines(server.port)) as m:
        path = m.bind("host", "door")
        m.start()
        with Traffic(path) as traffic:
            for _ in range(6):
                traffic.wait_for_more()
                m.stop()
                m.start()
            traffic.wait_for_more()
        assert not traffic.refused and not traffic.lost and not traffic.wrong, (traffic.refused, traffic.lost, traffic.wrong)


def test_kill_refuses_nobody():
    """A kill costs what was under way, one request of a client at most; all others are answered."""
    server = Upstream()
    with Manager(upstream_lines(server.port)) as m:
        path = m.bind("host", "door")
        m.start()
        with Traffic(path) as traffic:
            for _ in range(6):
                traffic.wait_for_more()
                m.signal(signal.SIGKILL)
                m.wait()
                m.collect()
                m.start()
            traffic.wait_for_more()
        assert not traffic.refused and not traffic.wrong, (traffic.refused, traffic.wrong)
        assert len(traffic.lost) <= 6 * len(Traffic.KINDS), traffic.lost


def test_clients_that_wait_for_the_start_are_served():
    with Manager(upstream_lines(9)) as m:
        path = m.bind("host", "door")
        waiting = [UnixConnection(path) for _ in range(200)]
        for c in waiting:
            c.request("GET", "/gateway/v1/health")
        m.start()
        for c in waiting:
            assert c.getresponse().status == 200
            c.close()


def slow(gate, seen):
    """Requests wait for the gate; a stream goes on for ever."""
    def answer(connection, request):
        if request.target.startswith("/api/v1/stream"):
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n: a\n\n\r\n")
            seen.append(request)
            connection.fill()
            return True
        seen.append(request)
        gate.wait(DEADLINE * 2)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        return False
    return answer


def test_l4_drain_finishes_requests_and_cuts_streams():
    gate, seen = threading.Event(), []
    server = Upstream(answer=slow(gate, seen))
    drain = 3
    lines = [f"drain_timeout: {drain}s", *listen_lines("{ path: {d}/run/s, name: host }"),
             *upstream_lines(server.port)]
    with Manager(lines) as m:
        m.start()
        stream = UnixConnection(m.path("run/s"))
        stream.request("GET", "/api/v1/stream")
        events = stream.getresponse()
        assert events.readline() == b": a\n"
        busy = [UnixConnection(m.path("run/s")) for _ in range(40)]
        for c in busy:
            c.request("GET", "/api/v1/sandboxes")
        wait_for("all are under way", lambda: len(seen) == 41)
        begin = time.monotonic()
        m.signal(signal.SIGTERM)
        m.expect("STOPPING=1")
        wait_for("no new connections", lambda: refused(m.path("run/s")))
        gate.set()
        for c in busy:
            answer = c.getresponse()
            assert (answer.status, answer.read()) == (200, b"{}")
            assert answer.headers["Connection"] == "close", answer.headers.items()
        assert events.readline() == b"\n" and events.readline() == b":stopping\n", "the stream is not told"
        try:
            raise AssertionError(f"a cut stream looks whole: {events.read()}")
        except http.client.IncompleteRead as cut:
            assert cut.partial == b"", cut.partial
        assert m.wait() == 0
        took = time.monotonic() - begin
        assert drain - 0.1 < took < drain + 1 + 1.5, took
        for c in (*busy, stream):
            c.close()
    server.close()


def refused(path):
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
        return False
    except OSError:
        return True
    finally:
        probe.close()


def test_l5_second_signal_stops_at_once():
    for second in (signal.SIGTERM, signal.SIGINT):
        gate, seen = threading.Event(), []
        server = Upstream(answer=slow(gate, seen))
        with Manager([*listen_lines("{ path: {d}/run/s, name: host }"), *upstream_lines(server.port)]) as m:
            m.start()
            busy = UnixConnection(m.path("run/s"))
            busy.request("GET", "/api/v1/sandboxes")
            wait_for("it is under way", lambda: seen)
            m.signal(signal.SIGTERM)
            m.expect("STOPPING=1")
            m.collect(0.1)
            assert m.ended() is None
            begin = time.monotonic()
            m.signal(second)
            assert m.wait() == 0
            # 200 ms is the promise; a build with sanitizers looks for leaks at its end.
            assert time.monotonic() - begin < (2 if os.environ.get("SG_SANITIZE") else 0.2)
            busy.close()
        gate.set()
        server.close()


def test_l9_upstream_comes_later():
    """Ready without the upstream, 502 meanwhile, and well as soon as it is there."""
    first = Upstream(answer=slow(threading.Event(), []))
    port = first.port
    first.close()
    wait_for("the port is free", lambda: refused_port(port))
    with Manager([*listen_lines("{ path: {d}/run/s, name: host }"), *upstream_lines(port)]) as m:
        m.start()
        answer = m.ask(m.path("run/s"), "/api/v1/sandboxes")
        assert (answer.status, answer.json()["code"]) == (502, "CONNECTION_ERROR"), answer
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()

        def serve():
            sock, _ = listener.accept()
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n[]")
            sock.close()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert m.ask(m.path("run/s"), "/api/v1/sandboxes").status == 200
        thread.join(DEADLINE)
        listener.close()


def refused_port(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return False
    except OSError:
        return True


# --- upgrade ----------------------------------------------------------------------------------------------------------

HEALTH = b"GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\n\r\n"


def ends(connection):
    """Whether the other side has closed it, within the deadline."""
    connection.sock.settimeout(DEADLINE)
    try:
        return connection.sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_idle_connections_survive_a_restart():
    """The process is another one, perhaps of another version; a client that was idle meanwhile notices nothing."""
    port, four, six = free_port()
    lines = [*listen_lines("{ path: {d}/door, name: host }", f"{{ tcp: 127.0.0.1:{port}, name: web }}"), *upstream_lines(9)]
    lines[-1] = lines[-1].replace("match: {}", "match: { listener: [host, web] }")
    with Manager(lines, sockets=[("web", four), ("web", six)]) as m:
        path = m.bind("host", "door")
        m.start()
        idle = [UnixConnection(path) for _ in range(200)]  # more than one message takes
        web = UnixConnection(path)
        web.sock = socket.create_connection(("127.0.0.1", port))
        for c in idle:
            assert c.ask("GET", "/gateway/v1/health").status == 200
        headers = {"Host": f"localhost:{port}"}
        assert web.ask("GET", "/gateway/v1/whoami", headers=headers).json()["listener"] == "web"
        for _ in range(2):
            m.stop()
            assert len(m.stored) == len(idle) + 1 and all(name == "client" for name, _ in m.stored), len(m.stored)
            # One of them asks while nobody runs.
            idle[0].sock.sendall(HEALTH)
            m.start()
            assert idle[0].sock.recv(65536).startswith(b"HTTP/1.1 200"), "what was asked meanwhile is not answered"
            for c in idle[1:]:
                answer = c.ask("GET", "/gateway/v1/whoami")
                assert answer.status == 200 and answer.json()["listener"] == "host" and answer.json()["uid"] == os.getuid(), answer
            answer = web.ask("GET", "/gateway/v1/whoami", headers=headers)
            assert answer.status == 200 and answer.json()["listener"] == "web", answer
            m.collect(0.1)
            assert not m.stored, "the manager still has them"
        # What the new process closes is closed.
        closing = idle.pop()
        closing.sock.sendall(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        while closing.sock.recv(65536):
            continue
        for c in (*idle, web, closing):
            c.close()


def test_busy_connections_are_not_handed_over():
    gate, seen = threading.Event(), []
    server = Upstream(answer=slow(gate, seen))
    with Manager(upstream_lines(server.port)) as m:
        path = m.bind("host", "door")
        m.start()
        busy, half, left = UnixConnection(path), UnixConnection(path), UnixConnection(path)
        left.connect()
        assert left.ask("GET", "/gateway/v1/health").status == 200
        busy.request("GET", "/api/v1/sandboxes")
        half.connect()
        half.sock.sendall(HEALTH[:20])
        wait_for("it is under way", lambda: seen)
        wait_for("all have arrived", lambda: b'"connections":4' in m.ask(path, "/gateway/v1/status").body)
        left.close()
        wait_for("one has left", lambda: b'"connections":3' in m.ask(path, "/gateway/v1/status").body)
        m.signal(signal.SIGTERM)
        m.expect("STOPPING=1")
        gate.set()
        answer = busy.getresponse()
        assert answer.status == 200 and answer.headers["Connection"] == "close"
        half.sock.sendall(HEALTH[20:])
        assert b"HTTP/1.1 200" in half.sock.recv(65536)
        m.wait()
        m.collect()
        assert not m.stored, m.stored
        busy.close()
        half.close()
    server.close()


def test_a_handed_over_connection_is_judged_anew():
    with Manager([*listen_lines("{ path: {d}/a, name: a }", "{ path: {d}/b, name: b }"), *upstream_lines(9)]) as m:
        a, b = m.bind("a"), m.bind("b")
        m.start()
        kept, orphan = UnixConnection(a), UnixConnection(b)
        for c in (kept, orphan):
            assert c.ask("GET", "/gateway/v1/whoami").json()["rule"] == "all"
        m.stop()
        rule = RULE[1].replace("match: {}", "match: { uid: 4000000000 }")
        m.configure([*listen_lines("{ path: {d}/a, name: a }"), *upstream_lines(9)[:-1], rule])
        m.start()
        assert kept.ask("GET", "/gateway/v1/whoami").status == 403
        assert ends(orphan), "the connection of a listener that is no more is kept"
        kept.close()
        orphan.close()


def test_a_stop_for_good_closes_them():
    with Manager(upstream_lines(9)) as m:
        path = m.bind("host", "door")
        m.start()
        idle = UnixConnection(path)
        assert idle.ask("GET", "/gateway/v1/health").status == 200
        m.stop()
        m.forget("client")
        assert ends(idle)
        idle.close()


def test_who_stores_nothing_is_handed_nothing():
    """No socket was passed, or the manager says that it stores nothing: a copy there would keep a closed connection open."""
    for passed in (False, True):
        with Manager(own(), env={"FDSTORE": "0"}) as m:
            path = m.path("run/s")
            if passed:
                path = m.bind("host", "run/s")
            else:
                m.more.clear()
            m.start()
            idle = UnixConnection(path)
            assert idle.ask("GET", "/gateway/v1/health").status == 200
            m.stop()
            assert not m.stored and ends(idle)
            idle.close()


# --- reload -----------------------------------------------------------------------------------------------------------

def resident_kib(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def test_l1_reload_under_load():
    """Requests all the time and event streams: no reload disturbs one."""
    gate, seen = threading.Event(), []
    gate.set()
    server = Upstream(answer=slow(gate, seen))
    with Manager([*listen_lines("{ path: {d}/run/s, name: host }"), *upstream_lines(server.port)]) as m:
        m.start()
        streams = []
        for _ in range(5):
            stream = UnixConnection(m.path("run/s"))
            stream.request("GET", "/api/v1/stream")
            streams.append((stream, stream.getresponse()))
            assert streams[-1][1].readline() == b": a\n"
        over = threading.Event()
        done, faults = [], []

        def client():
            connection = UnixConnection(m.path("run/s"))
            while not over.is_set():
                try:
                    answer = connection.ask("GET", "/api/v1/sandboxes")
                    (done if answer.status == 200 and answer.body == b"{}" else faults).append(answer.status)
                except Exception as fault:
                    faults.append(repr(fault))
                    return
            connection.close()
        threads = [threading.Thread(target=client) for _ in range(4)]
        for t in threads:
            t.start()
        for i in range(20):
            count = len(done)
            m.signal(signal.SIGHUP)
            m.wait_log(f"reloaded: configuration {i + 2} is in force")
            wait_for("requests go on", lambda: len(done) >= count + 10 or faults)
        over.set()
        for t in threads:
            t.join(DEADLINE)
        assert not faults, faults[:5]
        for stream, events in streams:
            stream.sock.settimeout(0.2)
            try:
                left = events.readline()
                while left.strip() == b"":
                    assert left, "an event stream has ended"
                    left = events.readline()
                raise AssertionError(left)
            except TimeoutError:
                pass
            stream.close()
    server.close()


def test_l3_a_thousand_signals():
    """Many at once are few reloads, and none leaves anything behind."""
    with Manager(own()) as m:
        m.start()
        path = m.path("run/s")
        kept = UnixConnection(path)
        assert kept.ask("GET", "/gateway/v1/health").status == 200

        def fds():
            return len(os.listdir(f"/proc/{m.pid}/fd")) if os.getuid() == 0 else 0

        def burst():
            for _ in range(1000):
                m.signal(signal.SIGHUP)
            count = m.log().count("reloaded: ")
            m.signal(signal.SIGHUP)
            wait_for("the last one is seen", lambda: m.log().count("reloaded: ") > count)
            assert kept.ask("GET", "/gateway/v1/health").status == 200
            m.collect()
        burst()
        memory = resident_kib(m.pid)
        base = [fds() for _ in range(20)]
        for _ in range(2):
            burst()
        # A reload that is still under way has the file open.
        wait_for("no descriptor is left", lambda: fds() <= min(base))
        # A sanitizer keeps what is freed for a while.
        assert resident_kib(m.pid) - memory < (65536 if os.environ.get("SG_SANITIZE") else 1024)
        kept.close()


# --- the embedded server as a service of its own ----------------------------------------------------------------------

class Local:
    """stacygate-local as its unit starts it, below a directory of the manager's."""

    def __init__(self, m):
        self.m = m
        self.socket = m.path("local-run/api.sock")
        for name in ("local-run", "local-keys"):
            os.makedirs(m.path(name), 0o700, exist_ok=True)
        self.process = None

    def start(self):
        with open(self.m.path("local.log"), "ab") as log:
            self.process = subprocess.Popen(
                [os.path.join(BUILD, "stacygate-local"), "--listen", "unix:" + self.socket, "--state",
                 self.m.path("local-state"), "--keys", self.m.path("local-keys")], stderr=log)

    def end(self, number=signal.SIGTERM):
        if self.process:
            self.process.send_signal(number)
            code = self.process.wait(DEADLINE)
            self.process = None
            if number == signal.SIGTERM:
                assert code == 0, code


def with_local(test):
    with Manager(listen_lines("{ path: {d}/run/s, name: host }")) as m:
        local = Local(m)
        m.more["STACYGATE_LOCAL_SOCKET"] = local.socket
        try:
            test(m, local)
        finally:
            local.end()
        if m.pid is not None:
            m.stop()
        with open(m.path("local.log"), encoding="utf-8", errors="replace") as file:
            log = file.read()
        with open(m.path("local-keys/api.key"), encoding="ascii") as file:
            key = file.read().strip()
        for bad in ("Sanitizer", "runtime error", "check failed", key):
            assert bad not in log and bad not in m.log(), bad


def spawned(m):
    """An id when a sandbox can be had; None otherwise."""
    answer = m.ask(m.path("run/s"), "/api/v1/sandboxes", "POST", '{"image":"node:20","ttl":"5m"}')
    return answer.json()["id"] if answer.status == 201 else None


def test_local_that_is_a_service_comes_later_and_comes_again():
    def test(m, local):
        m.start(wait=False)
        m.wait_log("stacygated")
        wait_for("it is looked for", lambda: "STATUS=starting, 0 connections; local: no key" in (m.receive(0.2) or ""))
        assert refused(m.path("run/s"))
        local.start()
        m.expect("READY=1")
        sandbox = spawned(m)
        assert sandbox and not os.path.exists(m.path("run/local.sock"))
        assert children_of(m.pid) and not any(children_of(c) for c in children_of(m.pid)), "it has started a server itself"
        # It ends: that is known at once, without a request.
        with open(m.path("local-keys/api.key"), encoding="ascii") as file:
            key = file.read()
        local.end(signal.SIGKILL)
        m.wait_log("it is looked for")
        health = m.ask(m.path("run/s")).json()
        assert health["status"] == "degraded" and local.socket in health["upstreams"][0]["error"], health
        local.start()
        wait_for("it serves again", lambda: spawned(m))
        with open(m.path("local-keys/api.key"), encoding="ascii") as file:
            assert file.read() == key, "a key that is there is kept"
        wait_for("it is found again", lambda: m.log().count("local server: ready") == 2)
        # The gateway's stop leaves it alone.
        m.stop()
        assert local.process.poll() is None
        m.start()
        assert spawned(m)
    with_local(test)


def test_local_that_is_a_service_gets_new_keys():
    def test(m, local):
        local.start()
        m.start()
        assert spawned(m)
        local.end()
        m.wait_log("it is looked for")
        os.unlink(m.path("local-keys/api.key"))
        local.start()
        wait_for("the new key is used", lambda: spawned(m))
        assert "holds a new key" in m.log(), m.log()
    with_local(test)


def test_local_that_is_not_installed():
    """Which program is missing is said."""
    with tempfile.TemporaryDirectory(prefix="sg-service.") as work:
        # Beside it lies none, so it is the installed one.
        program = shutil.copy(os.path.join(BUILD, "stacygated"), work)
        env = {**os.environ, "RUNTIME_DIRECTORY": work + "/run", "STATE_DIRECTORY": work + "/state", "HOME": work, "XDG_CONFIG_HOME": work}
        config = work + "/stacygate.yaml"
        with open(config, "w", encoding="ascii") as file:
            file.write(f"listen: [{{ path: {work}/s }}]\n")
        with subprocess.Popen([program, "-c", config], stderr=subprocess.PIPE, text=True, env=env) as daemon:
            line = next((text for text in daemon.stderr if "local server: " in text), "")
            daemon.send_signal(signal.SIGTERM)
            daemon.stderr.read()
        if line.endswith("local server: ready\n"):
            raise Skip("stacygate-local is installed on this machine")
        assert re.search(r" local server: /\S+/stacygate-local cannot be started: No such file or directory; next start", line), line


def test_local_that_is_a_service_and_never_comes():
    with Manager(listen_lines("{ path: {d}/run/s, name: host }")) as m:
        m.more["STACYGATE_LOCAL_SOCKET"] = m.path("nowhere/api.sock")
        m.start(wait=False)
        assert m.wait(DEADLINE * 2) == 3
        assert "upstream local does not answer within 10 s: no key is to be read beside" in m.log(), m.log()
        m.more["STACYGATE_LOCAL_SOCKET"] = "relative"
        m.start(wait=False)
        assert m.wait() == 3 and "absolute path" in m.log(), m.log()


# --- time -------------------------------------------------------------------------------------------------------------

def test_l11_the_wall_clock_jumps():
    """A day ahead at once: nothing times out, what is kept open stays open, and the watchdog's signs go on."""
    gate, seen = threading.Event(), []
    server = Upstream(answer=slow(gate, seen))
    flags = os.environ.get("ASAN_OPTIONS", "")
    with Manager([*listen_lines("{ path: {d}/run/s, name: host }"), *upstream_lines(server.port)], watchdog_usec=1000000) as m:
        jumped = m.path("jumped")
        m.more.update(LD_PRELOAD=os.path.join(BUILD, "clock-jump.so"), SG_CLOCK_JUMP=jumped,
                      ASAN_OPTIONS=(flags + ":" if flags else "") + "verify_asan_link_order=0")
        m.start()
        path = m.path("run/s")
        idle, busy, stream, half = (UnixConnection(path) for _ in range(4))
        assert idle.ask("GET", "/gateway/v1/health").status == 200
        stream.request("GET", "/api/v1/stream")
        events = stream.getresponse()
        assert events.readline() == b": a\n"
        busy.request("GET", "/api/v1/sandboxes")
        half.connect()
        half.sock.sendall(HEALTH[:20])
        wait_for("both are under way", lambda: len(seen) == 2)
        before = m.log().count("\n")
        m.write("jumped", "")
        m.signal(signal.SIGHUP)
        m.wait_log("reloaded: configuration 2")
        day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400))
        assert day in m.log().split("\n")[-2], "the clock did not jump"
        m.mark = len(m.said)
        for _ in range(2):
            m.expect("WATCHDOG=1")
        assert idle.ask("GET", "/gateway/v1/health").json()["status"] == "ok"
        half.sock.sendall(HEALTH[20:])
        assert b"HTTP/1.1 200" in half.sock.recv(65536)
        gate.set()
        assert busy.getresponse().status == 200
        stream.sock.settimeout(0.2)
        try:
            assert events.readline() == b"\n" and events.readline(), "the event stream has ended"
        except TimeoutError:
            pass
        assert "timeout" not in "".join(m.log().splitlines(True)[before:]), m.log()
        for c in (idle, busy, stream, half):
            c.close()
    server.close()


# --- root -------------------------------------------------------------------------------------------------------------

def test_l13_root_is_warned():
    if os.getuid():
        raise Skip("not root")
    for lines in (own(), own("user: root")):
        with Manager(lines) as m:
            m.start()
            assert "running as root" in m.log(), m.log()


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


class AsRoot(Manager):
    """Its directory is to be reached by another user."""

    def __init__(self, lines, **more):
        if os.getuid():
            raise Skip("not root")
        super().__init__(lines, **more)
        os.chmod(self.directory, 0o755)
        os.chmod(self.config, 0o644)
        for name in ("run", "state"):
            os.rmdir(self.path(name))

    def configure(self, lines):
        super().configure(lines)
        os.chmod(self.path("stacygate.yaml"), 0o644)

    def give_key(self, uid):
        os.chown(self.path("key"), uid, uid)

    def check(self):
        """What -t says."""
        env = self.environment(0, [])
        del env["NOTIFY_SOCKET"]
        done = subprocess.run([os.path.join(BUILD, "stacygated"), "-t", "-c", self.config], capture_output=True, text=True, env=env,
                              check=False)
        return done.returncode, done.stderr


USER = pwd.getpwnam("daemon")


def test_l13_becomes_the_user():
    lines = ["user: daemon", *listen_lines('{ path: {d}/new/door, name: host, mode: "0666" }'), *upstream_lines(9)]
    with AsRoot(lines) as m:
        m.give_key(USER.pw_uid)
        code, said = m.check()
        assert code == 0 and "may not read" not in said, (code, said)
        os.chmod(m.config, 0o600)
        code, said = m.check()
        assert code == 0 and 'warning: user "daemon" may not read this file' in said, (code, said)
        os.chmod(m.config, 0o644)
        m.start()
        assert "running as root" not in m.log()
        (launcher,) = children_of(m.pid)
        for pid in (m.pid, launcher):
            status = status_of(pid)
            assert status["Uid"].split() == [str(USER.pw_uid)] * 4 and status["Gid"].split() == [str(USER.pw_gid)] * 4, status
            assert set(map(int, status["Groups"].split())) == set(os.getgrouplist("daemon", USER.pw_gid)), status
            assert status["CapEff"] == status["CapPrm"] == "0" * 16, status
        for name in ("new", "new/door", "run", "state", "state/lock"):
            assert os.stat(m.path(name)).st_uid == USER.pw_uid, name
        # Undumpable still: what is in /proc is root's.
        assert os.stat(f"/proc/{m.pid}/environ").st_uid == 0
        assert m.ask(m.path("new/door"), "/gateway/v1/whoami").json()["uid"] == 0
        m.signal(signal.SIGHUP)
        m.wait_log("reloaded: configuration 2")
        # What only root could do fails the whole reload.
        m.configure(["user: bin", *lines[1:]])
        m.signal(signal.SIGHUP)
        m.wait_log('user is "bin" now: only a start can change it')
        os.mkdir(m.path("roots"), 0o755)
        m.configure([*lines[:2], *listen_lines("{ path: {d}/roots/door, name: more }")[1:], *lines[2:]])
        m.signal(signal.SIGHUP)
        m.wait_log("/roots/door: bind: Permission denied")
        assert m.ask(m.path("new/door")).status == 200
        m.stop()
        m.configure(lines)
        m.start()
        assert m.ask(m.path("new/door")).status == 200


def test_l13_faults_of_the_user():
    for lines, words in ((["user: no-such-user"], 'there is no user "no-such-user"'), (["user: nobody"], "has uid 65534"),
                         (["user: daemon"], "key: Permission denied")):
        with AsRoot(own(*lines)) as m:
            code, said = m.check()
            assert code == 1 and words in said, said
    with AsRoot(["user: daemon", *listen_lines("{ path: {d}/run/s, group: shadow }"), *upstream_lines(9)]) as m:
        m.give_key(USER.pw_uid)
        code, said = m.check()
        assert code == 1 and 'group "shadow" is none of user "daemon"' in said, said
    with AsRoot(["user: root", *own()]) as m:
        os.mkdir(m.path("state"))
        os.mkdir(m.path("run"))
        for name in ("run", "state", "key"):
            os.chown(m.path(name), USER.pw_uid, USER.pw_gid)
        m.start(uid=USER.pw_uid, wait=False)
        assert m.wait() == 3 and "only root can become another user" in m.log(), m.log()
        # Naming the present one is fine.
        m.configure(["user: daemon", *own()])
        m.start(uid=USER.pw_uid)
        assert m.ask(m.path("run/s")).status == 200


def test_l13_sandboxes_of_the_user():
    lines = ["user: daemon", *listen_lines('{ path: {d}/new/door, name: host, mode: "0666" }'), "clients:",
             "  - { name: all, match: {}, upstream: local, user_id: all, isolation: none }"]
    with AsRoot(lines) as m:
        m.start()
        (launcher,) = children_of(m.pid)
        (server,) = children_of(launcher)
        assert status_of(server)["Uid"].split() == [str(USER.pw_uid)] * 4
        answer = m.ask(m.path("new/door"), "/api/v1/sandboxes", "POST", '{"image":"node:20","ttl":"5m"}')
        assert answer.status == 201, answer
        answer = m.ask(m.path("new/door"), f"/api/v1/sandboxes/{answer.json()['id']}/exec", "POST", '{"command":"echo in"}')
        assert answer.json()["stdout"] == "in\n", answer


main([f for name, f in list(globals().items()) if name.startswith("test_")])
