# SPDX-License-Identifier: Apache-2.0
"""What an operator looks at: status as a document and as a stream, the page, readiness, the lines of streams and of a full pool; and that
nobody who looks on holds anything up."""
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

from owners_lib import Events, Later, expect_error, headers_of, raw, read_all, read_until, run, started
from tls_lib import KEY, Skip, Upstream, wait_for
from vm_lib import Gateway, Server

STATUS, PAGE = "/gateway/v1/status", "/gateway/v1/"
ADMIN = ["admin: true", "isolation: none", "allow: [all]"]
RULES = {"alice": [], "root": ADMIN}
STREAM = {"Accept": "text/event-stream"}


def document(g, name="root"):
    answer = g.ask(name, target=STATUS)
    assert answer.status == 200, answer
    return answer.json()


class Watch:
    """The stream of one client."""

    def __init__(self, g, name="root", accept="text/event-stream"):
        self.sock = raw(g, name, f"GET {STATUS} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())
        self.head, _, self.rest = read_until(self.sock, b"\r\n\r\n").partition(b"\r\n\r\n")

    def more(self):
        """False at the end of the connection."""
        piece = self.sock.recv(1 << 16)
        self.rest += piece
        return bool(piece)

    def next(self):
        """The next document; None at a clean end."""
        while True:
            size, found, rest = self.rest.partition(b"\r\n")
            n = int(size, 16) if found else 0
            if not found or len(rest) < n + 2:
                assert self.more(), ("the stream was cut", self.rest[-200:])
                continue
            chunk, self.rest = rest[:n], rest[n + 2:]
            assert rest[n:n + 2] == b"\r\n", rest[n:n + 20]
            if n == 0:
                return None
            if chunk.startswith(b"data: "):
                assert chunk.endswith(b"}\n\n"), chunk[-20:]
                return json.loads(chunk[6:])
            assert chunk in (b"retry: 1000\n\n", b":stopping\n"), chunk

    def close(self):
        self.sock.close()


def test_the_document():
    """Operators see everybody: connections by owner, requests under way, requests by rule."""
    with started(RULES) as (server, g):
        g.spawn("alice")
        connection = g.connect("alice")
        connection.ask("GET", "/api/v1/health")
        events = Events(server, g, "alice")
        now = document(g)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", now["time"]) and now["uptime_ms"] > 0, now
        rows = {row["user_id"]: row for row in now["clients"]["owners"]}
        assert rows["alice"]["connections"] == 2 and rows["alice"]["active"] == 1 and rows["alice"]["requests"] >= 2, rows
        assert rows["alice"]["uid"] == os.getuid() and rows["alice"]["rule"] == "alice", rows
        assert now["clients"]["owners_left_out"] == now["clients"]["active_left_out"] == 0, now["clients"]
        active = {(row["user_id"], row["method"], row["route"]) for row in now["clients"]["active"]}
        assert active == {("alice", "GET", "/api/v1/events"), ("root", "GET", STATUS)}, active
        row = next(row for row in now["clients"]["active"] if row["user_id"] == "alice")
        assert row["pid"] == os.getpid() and row["listener"] == "alice" and row["for_ms"] >= 0, row
        rules = {row["name"]: row for row in now["rules"]}
        assert set(rules) == {"alice", "root", ""} and rules["alice"]["2xx"] >= 2, rules
        events.close()
        connection.close()
        wait_for("the connections are gone", lambda: [row["user_id"] for row in document(g)["clients"]["owners"]] == ["root"])


def test_a_sandbox_is_named_while_it_is_asked():
    with started(RULES) as (server, g):
        box = g.spawn("alice")
        with server.hold("GET", f"/sandboxes/{box}/logs"):
            asked = Later(lambda: g.api("alice", "GET", f"/sandboxes/{box}/logs"))
            wait_for("it is under way", lambda: any(row.get("sandbox") == box and row["route"] == "/api/v1/sandboxes/{id}/logs"
                                                    for row in document(g)["clients"]["active"]))
        asked.get()


def test_rows_are_bounded():
    """A hundred rows of each kind, and how many more there are."""
    with started(RULES) as (server, g):
        wanted = 103
        socks = [Events(server, g, "alice") for _ in range(wanted)]
        clients = document(g)["clients"]
        assert len(clients["active"]) == 100 and clients["active_left_out"] == wanted + 1 - 100, len(clients["active"])
        assert {row["user_id"]: row["connections"] for row in clients["owners"]} == {"alice": wanted, "root": 1}, clients["owners"]
        for s in socks:
            s.close()


def test_others_see_their_own_part():
    with started({**RULES, "bob": []}) as (_, g):
        assert set(document(g, "bob")) == {"version", "uptime", "time", "uptime_ms", "own"}
        watch = Watch(g, "bob")
        assert watch.head.startswith(b"HTTP/1.1 200 ") and b"Content-Type: text/event-stream" in watch.head, watch.head
        first = watch.next()
        assert set(first) == {"version", "uptime", "time", "uptime_ms", "own"} and first["own"]["user_id"] == "bob", first
        watch.close()


def test_which_of_the_two_is_asked_for():
    with started(RULES) as (_, g):
        for accept in ("text/event-stream", "text/event-stream, application/json", "image/png, TEXT/EVENT-STREAM;q=0.5", "text/*"):
            watch = Watch(g, accept=accept)
            assert b"text/event-stream" in watch.head, (accept, watch.head)
            watch.close()
        for accept in ("*/*", "application/json", "application/json, text/event-stream", "text/event-stream;q=0", "text/html"):
            answer = g.ask("root", target=STATUS, headers={"Accept": accept})
            assert headers_of(answer, "content-type") == ["application/json"], (accept, answer)
        answer = g.ask("root", "HEAD", STATUS, headers=STREAM)
        assert answer.status == 200 and headers_of(answer, "content-type") == ["application/json"], answer
        assert g.ask("root", "POST", STATUS).status == 405


def test_it_goes_on_and_moves():
    """A document at once, then one a second; what is counted moves from one to the next."""
    with started(RULES) as (_, g):
        watch = Watch(g)
        first = watch.next()
        for _ in range(5):
            g.api("alice", "GET", "/health")
        second = watch.next()
        assert 500 <= second["uptime_ms"] - first["uptime_ms"] <= 10000, (first["uptime_ms"], second["uptime_ms"])
        assert second["requests"]["total"] - first["requests"]["total"] >= 5, (first["requests"], second["requests"])
        watch.close()
        wait_for("the stream is gone", lambda: document(g)["clients"]["connections"] == 1)


def test_it_needs_no_server():
    """Neither server nor key: that is when somebody looks."""
    with started(RULES) as (server, g):
        server.close()
        expect_error(g.api("alice", "GET", "/health"), 502, "CONNECTION_ERROR")
        watch = Watch(g)
        now = watch.next()
        assert now["upstreams"][0]["healthy"] is False and now["upstreams"][0]["error"], now["upstreams"]
        watch.close()


def test_reload_ends_it():
    """The stream ends cleanly within a second or two of a reload, and the next one is by the new rule: no more than that shows."""
    with started(RULES) as (_, g):
        watch = Watch(g)
        assert "clients" in watch.next()
        g.rules["root"] = ["allow: [all]", "isolation: none"]
        g.configure()
        begun = time.monotonic()
        g.reload()
        while watch.next():
            pass
        assert time.monotonic() - begun < 10
        watch.close()
        watch = Watch(g)
        assert "clients" not in watch.next()
        watch.close()


def test_revoked_at_once():
    """ID16: who is somebody else by the new rules loses the stream that he had."""
    with started({**RULES, "bob": []}) as (_, g):
        watch = Watch(g, "bob")
        watch.next()
        g.rules["bob"] = ["user_id: somebody-else"]
        g.configure()
        g.reload()
        try:
            while watch.more():
                pass
        except ConnectionError:
            pass
        assert not watch.rest.endswith(b"0\r\n\r\n"), watch.rest[-20:]
        watch.close()


def test_nobody_who_looks_on_holds_up_the_stop():
    with started(RULES, drain="60s") as (_, g):
        watch = Watch(g)
        watch.next()
        begun = time.monotonic()
        g.process.send_signal(signal.SIGTERM)
        last = None
        for now in iter(watch.next, None):
            last = now
        assert last and last["draining"], last
        assert g.process.wait(30) == 0 and time.monotonic() - begun < 20
        watch.close()


def test_a_slow_reader_costs_little():
    """Documents that nobody takes are left out, not kept: memory stays, and others are served."""
    with started(RULES) as (_, g):
        held = [Watch(g) for _ in range(20)]
        other = Watch(g)
        for _ in range(3):
            other.next()
        with open(f"/proc/{g.process.pid}/status", encoding="ascii") as f:
            assert int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) < 400000
        for w in (*held, other):
            w.close()


def test_last_errors():
    """What went wrong is listed, the newest first, the same trouble once with its count; a plain 404 is none."""
    with started(RULES) as (server, g):
        g.api("alice", "GET", "/sandboxes/sb-00000000")
        mine = [e for e in document(g)["errors"] if e["level"] == "request"]
        assert mine == [], mine
        for _ in range(3):
            assert g.api("alice", "GET", "/admin/tenants").status == 403
        server.close()
        assert g.api("alice", "GET", "/health").status == 502
        errors = document(g)["errors"]
        texts = [e["text"] for e in errors]
        refused = "alice (rule alice): GET /api/v1/admin/tenants was answered 403 FORBIDDEN"
        failed = "alice (rule alice): GET /api/v1/health was answered 502 CONNECTION_ERROR"
        assert refused in texts, texts
        assert [e["count"] for e in errors if e["text"] == refused] == [3], errors
        at = [i for i, t in enumerate(texts) if t.startswith(failed)]
        assert at and at[0] < texts.index(refused), texts
        assert [e["time"] for e in errors] == sorted((e["time"] for e in errors), reverse=True), errors
        assert {e["level"] for e in errors} <= {"request", "warning", "error"}, errors
        with open(g.config, "a", encoding="utf-8") as f:
            f.write("oops: 1\n")
        g.process.send_signal(signal.SIGHUP)
        wait_for("the fault is listed", lambda: any("oops" in e["text"] and e["level"] == "error" for e in document(g)["errors"]))
        assert KEY not in json.dumps(document(g))
        g.configure()


def test_many_errors_are_bounded():
    with started(RULES) as (_, g):
        for i in range(60):
            g.api("alice", "GET", f"/quotas/x/{'y/' * (i % 7)}z")
            raw(g, "alice", b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n").close()
        assert len(document(g)["errors"]) <= 32


def test_the_page():
    """Whole in itself, for operators only, with a policy of its own; no other answer loosens."""
    with started(RULES) as (_, g):
        answer = g.ask("root", target=PAGE)
        assert answer.status == 200 and headers_of(answer, "content-type") == ["text/html; charset=utf-8"], answer
        policy = headers_of(answer, "content-security-policy")
        assert len(policy) == 1 and policy[0].startswith("default-src 'none'; ") and "unsafe" not in policy[0], policy
        for part in ("connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
            assert part in policy[0], policy
        assert headers_of(answer, "x-content-type-options") == ["nosniff"] and headers_of(answer, "cache-control") == ["no-store"]
        text = answer.body.decode()
        assert not re.search(r"""(?:src|href|action)\s*=\s*["'](?!data:,)|@import|url\(|innerHTML|insertAdjacent|document\.write|eval\(""", text)
        assert "@STYLE@" not in text and "@SCRIPT@" not in text
        assert g.ask("root", target=PAGE.rstrip("/")).body == answer.body
        head = g.ask("root", "HEAD", PAGE)
        assert head.status == 200 and headers_of(head, "content-length") == [str(len(answer.body))], head
        expect_error(g.ask("alice", target=PAGE), 403, "FORBIDDEN", "admin: true")
        assert g.ask("root", "POST", PAGE).status == 405


def test_many_watch_while_it_reloads():
    """Streams that come and go while the configuration is replaced: all end well, and the daemon goes on."""
    with started(RULES) as (_, g):
        stop, ended = threading.Event(), []

        def look():
            while not stop.is_set():
                watch = Watch(g)
                while watch.next():
                    pass
                ended.append(True)
                watch.close()
        threads = [threading.Thread(target=look) for _ in range(4)]
        for t in threads:
            t.start()
        def looking():
            return sum(row["route"] == STATUS for row in document(g)["clients"]["active"]) == 5  # and this request
        for i in range(4):
            wait_for("all look on", looking)
            if i == 3:
                stop.set()
            g.reload()
            wait_for("the streams ended", lambda at=i: len(ended) >= 4 * (at + 1))
        for t in threads:
            t.join()
        assert document(g)["config"]["generation"] >= 5


def test_ready_tells_when_a_server_comes_and_goes():
    """Without any request of a client: a server that was never tried is, and one that was away is found again."""
    with started(RULES) as (server, g):
        def ready():
            return g.ask("root", target="/gateway/v1/ready").status
        first = g.ask("root", target="/gateway/v1/ready")
        assert first.status == 503 and headers_of(first, "retry-after") == ["1"], first
        assert "upstream main: being tried for the first time" in expect_error(first, 503, "UNAVAILABLE"), first
        wait_for("it was tried", lambda: ready() == 200)
        assert server.since() == [], "no request was sent for that"
        port = server.port
        server.close()
        for connection in server.live:
            connection.stream.shutdown(socket.SHUT_RDWR)
        wait_for("its end is noticed", lambda: ready() == 503)
        assert document(g)["upstreams"][0]["healthy"] is False
        back = Upstream(port=port)
        wait_for("it is found again", lambda: ready() == 200)
        health = g.ask("alice", target="/gateway/v1/health").json()
        assert health["status"] == "ok" and health["upstreams"][0]["healthy"], health
        assert "upstream main: connects again" in g.log() and g.log().count("upstream main: cannot connect") == 1
        back.close()


def test_a_pool_that_is_full_is_said_once():
    with started(RULES, upstream=["pool: { max_connections: 1, max_waiting: 0 }"]) as (server, g):
        with server.hold("GET", "/system/stats") as held:
            asked = Later(lambda: g.api("alice", "GET", "/system/stats"))
            held.wait()
            for _ in range(5):
                assert g.api("alice", "GET", "/health").status == 503
        asked.get()
        lines = [line for line in g.log().splitlines() if " warning " in line and "is full" in line]
        assert len(lines) == 1 and "pool.max_connections" in lines[0] and "upstream main" in lines[0], lines


def access_of(g, target):
    return [line for line in g.log().splitlines() if f'"GET {target}" ' in line]


def test_streams_have_their_line_in_the_access_log():
    """However they end: their clients leave, a reload takes them, the daemon stops."""
    with started({**RULES, "bob": []}) as (server, g):
        Events(server, g, "alice").close()
        wait_for("the line", lambda: access_of(g, "/api/v1/events"))
        line = access_of(g, "/api/v1/events")[-1]
        assert "status=200 upstream_status=0" in line and " end=client-gone " in line, line
        taken = Events(server, g, "bob")
        g.rules["bob"] = ["user_id: somebody-else"]
        g.configure()
        g.reload()
        wait_for("the line", lambda: len(access_of(g, "/api/v1/events")) == 2)
        assert " end=revoked " in access_of(g, "/api/v1/events")[-1]
        last = Events(server, g, "alice")
        g.process.send_signal(signal.SIGTERM)
        assert g.process.wait(30) == 0
        assert " end=drain " in access_of(g, "/api/v1/events")[-1]
        taken.close()
        last.close()


def test_events_do_not_hold_up_the_stop():
    """Who only waits for events is told and let go when all work is done, and not before."""
    with started(RULES, drain="60s") as (server, g):
        box = g.spawn("alice")
        sock = raw(g, "alice", b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        head = read_until(sock, b"\r\n\r\n")
        assert b" 200 " in head, head
        begun = time.monotonic()
        with server.hold("GET", f"/sandboxes/{box}/logs") as held:
            asked = Later(lambda: g.api("alice", "GET", f"/sandboxes/{box}/logs"))
            held.wait()
            g.process.send_signal(signal.SIGTERM)
            read_until(sock, b":stopping\n")
            assert g.process.poll() is None
            sock.settimeout(1)
            try:
                assert sock.recv(100) in (b"", b"\r\n"), "nothing more is said"
                assert sock.recv(100) != b"", "it ended before the work"
            except TimeoutError:
                pass
            sock.settimeout(30)
        assert asked.get().status == 200
        assert not read_all(sock).endswith(b"0\r\n\r\n"), "a cut stream looks cut"
        assert g.process.wait(30) == 0 and time.monotonic() - begun < 20



def fields_of(datagram):
    """A record of systemd's native protocol, of fields in one line only."""
    return dict(line.split("=", 1) for line in datagram.decode().split("\n") if "=" in line)


def test_the_journal_has_fields_to_search_by():
    """Lines of the access log and of the audit; no value is more than the line itself shows."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        raise Skip("needs root and a mount namespace to put a journal of its own in place: NO JOURNAL WAS WRITTEN")
    with tempfile.TemporaryDirectory(prefix="sg-journal.") as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(directory + "/socket")
        journal.settimeout(30)
        place = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && "
                 f'mount --bind {directory} /run/systemd/journal && exec "$@"', "sh"]
        with Gateway(Server(), RULES, wrapper=place) as g:
            with open(g.config, encoding="utf-8") as f:
                text = f.read()
            with open(g.config, "w", encoding="utf-8") as f:
                f.write(text[:text.index("\nlog:")] + "\nlog: { access: journal, audit: journal }\n")
            g.reload()
            box = g.spawn("alice")
            found = {}
            while not {"connection", "request", "change"} <= set(found):
                got = fields_of(journal.recv(65536))
                if got.get("STACYGATE_USER_ID") == "alice" and (got["STACYGATE_KIND"] != "request" or got["STACYGATE_METHOD"] == "POST"):
                    found[got["STACYGATE_KIND"]] = got
            for kind, got in found.items():
                assert got["STACYGATE_UID"] == "0" and got["STACYGATE_PID"] == str(os.getpid()) and got["STACYGATE_RULE"] == "alice", got
                assert got["SYSLOG_IDENTIFIER"] == "stacygated" and got["STACYGATE_LISTENER"] == "alice" and int(got["STACYGATE_CONNECTION"]), got
                assert got["MESSAGE"] and got["PRIORITY"] == "6", got
                assert kind == "connection" or (got["STACYGATE_METHOD"], got["STACYGATE_ROUTE"], got["STACYGATE_STATUS"], got["STACYGATE_UPSTREAM"]) == (
                    "POST", "/api/v1/sandboxes", "201", "main"), got
                assert kind == "connection" or len(got["STACYGATE_REQUEST_ID"]) == 36 and int(got["STACYGATE_LATENCY_MS"]) >= 0, got
            g.api("alice", "DELETE", f"/sandboxes/{box}")
            while True:
                got = fields_of(journal.recv(65536))
                if got.get("STACYGATE_SANDBOX") == box and got["STACYGATE_KIND"] == "change":
                    break
            assert got["STACYGATE_ROUTE"] == "/api/v1/sandboxes/{id}" and KEY not in str(got), got


if __name__ == "__main__":
    run(globals())
