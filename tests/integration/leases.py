# SPDX-License-Identifier: Apache-2.0
"""Leases through the real gateway: lives that go on and end, renewed and released, over the gateway's own death."""
import contextlib
import json
import signal
import subprocess
import sys
import time

from owners_lib import NEVER, Later, expect_error, expect_not_found, run
from tls_lib import wait_for
from vm_lib import API, Gateway, Server, status

LEASES = "/gateway/v1/leases"
TTL = 3.0  # of a leased sandbox here, for the 2 min of the default; extended every 0.2 s for its 40 s
# Connects, asks for a lease with the header in argv, says the status, and lives until its input ends.
CLIENT = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(f"PUT {sys.argv[2]} HTTP/1.1\\r\\nHost: x\\r\\nStacygate-Lease: {sys.argv[3]}\\r\\nContent-Length: 0\\r\\n\\r\\n".encode())
print(s.recv(65536).split()[1].decode(), flush=True)
sys.stdin.read()
"""


class LeaseGateway(Gateway):
    """Its lengths are scaled."""

    def __init__(self, server, rules=None, grace="1s", **more):
        self.grace = grace
        super().__init__(server, rules, **more)

    def configure(self, upstreams=None):
        super().configure(upstreams)
        with open(self.config, "a", encoding="utf-8") as file:
            file.write(f"leases: {{ ttl: {int(TTL)}s, extend: 200ms, grace: {self.grace} }}\n")

    def lease(self, name, sandbox, lease=None, connection=None):
        headers = {"Stacygate-Lease": lease} if lease else {}
        who = connection or self
        args = () if connection else (name,)
        return who.ask(*args, "PUT", f"{LEASES}/{sandbox}", None, headers)

    def leases(self, name):
        answer = self.ask(name, "GET", LEASES)
        assert answer.status == 200, answer
        return answer.json()

    def kill(self):
        """As the kernel would, out of memory."""
        self.process.kill()
        self.process.wait()
        self.log_file.close()


@contextlib.contextmanager
def started(rules=None, **more):
    server = Server()
    with LeaseGateway(server, rules, **more) as g:
        yield server, g


def extends(server, sandbox, mark=0):
    return server.since(mark, "POST", f"{API}/sandboxes/{sandbox}/extend")


def ends(server, sandbox):
    wait_for("the sandbox is destroyed", lambda: sandbox in server.destroyed)
    assert server.destroyed.count(sandbox) == 1, server.destroyed


def goes_on(server, sandbox, n=3):
    """It is extended n times more, and lives."""
    mark = server.mark()
    wait_for("it is extended", lambda: len(extends(server, sandbox, mark)) >= n)
    assert sandbox in server.alive()


@contextlib.contextmanager
def process(*argv):
    p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield p
    finally:
        p.kill()
        p.wait()
        p.stdin.close()
        p.stdout.close()


def client(g, name, sandbox, lease):
    return process(sys.executable, "-c", CLIENT, g.socket_of(name), f"{LEASES}/{sandbox}", lease)


def said(p, what):
    line = p.stdout.readline().strip()
    assert line == what, line


# --- lives --------------------------------------------------------------------------------------------------------------

def test_connection():
    """A sandbox lives as long as the connection that asked, however silent, and is destroyed when its client closes it."""
    with started() as (server, g):
        s = g.spawn("alice", ttl="1h")
        c = g.connect("alice")
        answer = g.lease("alice", s, "connection", c)
        assert answer.status == 200 and answer.json() == {"sandbox": s, "kind": "connection", "owner": "alice", "state": "held"}, answer
        assert g.leases("alice") == [answer.json()] and g.leases("bob") == []
        goes_on(server, s)
        assert all(json.loads(r.body) == {"ttl": "3000ms"} and r.all("x-user-id") == ["alice"] for r in extends(server, s))
        assert server.records[s]["expires_at"] - server.now() <= TTL
        c.close()
        ends(server, s)
        wait_for("the lease is forgotten", lambda: g.leases("alice") == [])


def test_idle_connection():
    """A connection that a lease hangs on is exempt from the idle limit; another is not."""
    with started() as (server, g):
        with open(g.config, "a", encoding="utf-8") as file:
            file.write("bounds: { idle_client: 100ms }\n")
        g.reload()
        s = g.spawn("alice")
        c, other = g.connect("alice"), g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        assert other.ask("GET", "/gateway/v1/whoami").status == 200
        assert other.sock.recv(1) == b""
        goes_on(server, s, 4)
        assert c.ask("GET", "/gateway/v1/whoami").status == 200
        c.close()
        ends(server, s)


def test_process():
    """A sandbox lives as long as the process that asked, whatever becomes of its connection, and however it ends."""
    with started() as (server, g):
        for how in (signal.SIGKILL, signal.SIGTERM):
            s = g.spawn("alice")
            with client(g, "alice", s, "process") as p:
                said(p, "200")
                assert [(x["kind"], x["pid"]) for x in g.leases("alice")] == [("process", p.pid)]
                goes_on(server, s)
                p.send_signal(how)
                ends(server, s)


def test_process_of_a_script():
    """A shell script ties a sandbox to itself although curl has gone."""
    with started() as (server, g):
        s = g.spawn("alice")
        script = ('curl -s -o /dev/null -w "%{http_code}\\n" --unix-socket "$1" -X PUT -H "Stacygate-Lease: process=$$" '
                  'http://localhost"$2"; read x; exit 0')
        with process("sh", "-c", script, "sh", g.socket_of("alice"), f"{LEASES}/{s}") as p:
            said(p, "200")
            assert [x["pid"] for x in g.leases("alice")] == [p.pid]
            goes_on(server, s)
            p.stdin.write("\n")
            p.stdin.flush()
            assert p.wait() == 0
            ends(server, s)


def test_process_that_is_no_ancestor():
    """A process that is no ancestor of the one that asks is refused, and nothing is asked of the server."""
    with started() as (server, g), process("sleep", "1000") as p:
        s = g.spawn("alice")
        mark = server.mark()
        expect_error(g.lease("alice", s, f"process={p.pid}"), 400, "BAD_REQUEST", "ancestor")
        expect_error(g.lease("alice", s, "process=4194304"), 400, "BAD_REQUEST", "ancestor")
        assert not extends(server, s, mark) and g.leases("alice") == []


def test_clock():
    """A sandbox lives to the end of the clock and no longer; renewing begins it anew."""
    with started() as (server, g):
        s, other = g.spawn("alice"), g.spawn("alice")
        begin = last = time.monotonic()
        first = g.lease("alice", s, "3s")
        assert first.status == 200 and first.json()["kind"] == "clock" and first.json()["expires_at"], first
        assert g.lease("alice", other, "1h").status == 200
        while last < begin + 3.5:
            last = time.monotonic()
            answer = g.lease("alice", s)
            assert answer.status == 200, answer
        assert answer.json()["expires_at"] > first.json()["expires_at"]
        ends(server, s)
        assert time.monotonic() - last >= 2.9
        wait_for("its lease alone is forgotten", lambda: [x["sandbox"] for x in g.leases("alice")] == [other])


# --- from the spawn on ---------------------------------------------------------------------------------------------------

def spawn(who, lease, *args, **fields):
    """By the gateway (with a caller's name in args) or on a connection."""
    body = json.dumps({"image": "python:3.12", **fields})
    return who.ask(*args, "POST", API + "/sandboxes", body, {"Stacygate-Lease": lease, "Content-Type": "application/json"})


def test_spawn_connection():
    """A sandbox that is spawned with a lease has the short ttl from the first moment, and ends with its connection."""
    with started() as (server, g):
        c = g.connect("alice")
        answer = spawn(c, "connection", ttl="1h")
        assert answer.status == 201, answer
        s = answer.json()["id"]
        sent = json.loads(server.since(0, "POST", f"{API}/sandboxes")[-1].body)
        assert sent["ttl"] in ("3s", "3000ms"), sent
        assert [(x["sandbox"], x["kind"], x["state"]) for x in g.leases("alice")] == [(s, "connection", "held")]
        goes_on(server, s)
        c.close()
        ends(server, s)


def test_spawn_release():
    """Releasing gives the sandbox what its spawn asked for, within the rule's limit."""
    with started({"alice": ["limits: { max_ttl: 2h }"]}) as (server, g):
        for asked, given in (("1h", 3600), ("3h", 7200)):
            s = spawn(g, "1h", "alice", ttl=asked).json()["id"]
            goes_on(server, s, 1)
            assert g.ask("alice", "DELETE", f"{LEASES}/{s}").json() == {"status": "released"}
            assert given - 5 < server.records[s]["expires_at"] - server.now() <= given


def test_spawn_client_leaves():
    """A client that leaves while its sandbox is being made leaves none behind."""
    with started() as (server, g):
        c = g.connect("alice")
        with server.hold("POST", "/sandboxes") as hold:
            c.connect()
            body = b'{"image":"x"}'
            c.sock.sendall(b"POST /api/v1/sandboxes HTTP/1.1\r\nHost: x\r\nStacygate-Lease: connection\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
            hold.wait()
            c.close()
        wait_for("the sandbox is destroyed", lambda: server.destroyed and not server.alive())
        assert g.leases("alice") == []


def test_spawn_refused():
    """A spawn whose lease cannot be had is not sent."""
    with started() as (server, g), process("sleep", "1000") as p:
        mark = server.mark()
        expect_error(spawn(g, "forever", "alice"), 400, "BAD_REQUEST", "Stacygate-Lease")
        expect_error(spawn(g, f"process={p.pid}", "alice"), 400, "BAD_REQUEST", "ancestor")
        assert not server.since(mark, "POST")


def test_spawn_process_ends_meanwhile():
    """A process that ends while its sandbox is being made leaves none behind."""
    with started() as (server, g):
        script = ('curl -s -o /dev/null --unix-socket "$1" -H "Stacygate-Lease: process=$$" -d \'{"image":"x"}\' '
                  'http://localhost/api/v1/sandboxes & wait')
        with server.hold("POST", "/sandboxes") as hold, process("sh", "-c", script, "sh", g.socket_of("alice")) as p:
            hold.wait()
            p.kill()
            p.wait()
            hold.release()
            wait_for("the sandbox is destroyed", lambda: server.destroyed and not server.alive())


# --- renewing and releasing ----------------------------------------------------------------------------------------------

def test_renew():
    """A lease may be hung on something else: what it hung on before means nothing any more."""
    with started() as (server, g):
        s = g.spawn("alice")
        c = g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        answer = g.ask("alice", "PUT", f"{LEASES}/{s}", json.dumps({"lease": "1h"}))
        assert answer.status == 200 and answer.json()["kind"] == "clock", answer
        c.close()
        goes_on(server, s)
        assert [x["kind"] for x in g.leases("alice")] == ["clock"]


def test_renew_without_words():
    """Renewing a held lease without saying on what leaves it where it hangs, whoever asks for it."""
    with started() as (server, g):
        s = g.spawn("alice")
        c = g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        assert g.lease("alice", s).json()["kind"] == "connection"
        goes_on(server, s)
        c.close()
        ends(server, s)


def test_bad_requests():
    """What cannot be understood, or contradicts itself, is 400 and changes nothing."""
    with started() as (server, g):
        s = g.spawn("alice")
        mark = server.mark()
        for lease in ("forever", "90", "-1s", "run", "process=x"):
            expect_error(g.lease("alice", s, lease), 400, "BAD_REQUEST")
        for body in ("[]", "{", '{"lease":1}', '{"lease":"1h","x":1}', '{"lease":"1h"} x', '{"lease":"1h","lease":"1h"}'):
            expect_error(g.ask("alice", "PUT", f"{LEASES}/{s}", body), 400, "BAD_REQUEST")
        expect_error(g.ask("alice", "PUT", f"{LEASES}/{s}", '{"lease":"1h"}', {"Stacygate-Lease": "2h"}), 400, "BAD_REQUEST", "different")
        expect_error(g.lease("alice", s), 400, "BAD_REQUEST", "no lease")
        assert not extends(server, s, mark) and g.leases("alice") == []


def test_release():
    """A released sandbox gets what nobody has asked for, 30 min or the rule's limit, and is left alone."""
    with started({"alice": [], "bob": ["limits: { max_ttl: 10m }"]}) as (server, g):
        for name, ttl in (("alice", 1800), ("bob", 600)):
            s = g.spawn(name)
            assert g.lease(name, s, "process").status == 200
            goes_on(server, s, 1)
            answer = g.ask(name, "DELETE", f"{LEASES}/{s}")
            assert answer.status == 200 and answer.json() == {"status": "released"}, answer
            assert ttl - 5 < server.records[s]["expires_at"] - server.now() <= ttl
            assert g.leases(name) == [] and s in server.alive()
            expect_not_found(g.ask(name, "DELETE", f"{LEASES}/{s}"), s)


def test_release_fails():
    """A sandbox that cannot be given its ttl keeps its lease."""
    with started() as (server, g):
        s = g.spawn("alice")
        c = g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        with server.fault("POST", f"/sandboxes/{s}/extend", status(500)):
            assert g.ask("alice", "DELETE", f"{LEASES}/{s}").status == 500
        goes_on(server, s)
        c.close()
        ends(server, s)


def test_clock_beyond_the_limit():
    """A clock longer than the rule's max_ttl is refused."""
    with started({"alice": ["limits: { max_ttl: 10m }"]}) as (server, g):
        s = g.spawn("alice")
        expect_error(g.lease("alice", s, "11m"), 400, "BAD_REQUEST", "max_ttl")
        assert g.lease("alice", s, "10m").status == 200


# --- whose -------------------------------------------------------------------------------------------------------------------

def test_others():
    """Leases and sandboxes of another owner are 404 as everywhere, and he does not see them; who has admin rules sees all."""
    rules = {"alice": [], "bob": [], "root": ["admin: true"]}
    with started(rules) as (server, g):
        s, free = g.spawn("alice"), g.spawn("alice")
        assert g.lease("alice", s, "1h").status == 200
        for sandbox in (s, free, NEVER):
            expect_not_found(g.lease("bob", sandbox, "1h"), sandbox)
            expect_not_found(g.lease("bob", sandbox), sandbox)
            expect_not_found(g.ask("bob", "DELETE", f"{LEASES}/{sandbox}"), sandbox)
        assert g.leases("bob") == [] and [x["sandbox"] for x in g.leases("root")] == [s]
        assert all(r.all("x-user-id") == ["alice"] for r in extends(server, s))
        assert g.ask("root", "DELETE", f"{LEASES}/{s}").status == 200
        assert g.leases("alice") == []


def test_gone_at_the_server():
    """A sandbox that the server does not know any more has no lease, and nothing more is asked for it."""
    with started() as (server, g):
        s = g.spawn("alice")
        assert g.lease("alice", s, "1h").status == 200
        server.kill(s)
        wait_for("the lease is forgotten", lambda: g.leases("alice") == [])
        expect_not_found(g.lease("alice", s, "1h"), s)


# --- faults ----------------------------------------------------------------------------------------------------------------

def test_destroyed_by_its_owner():
    """A sandbox that its owner destroys has no lease any more, at once, and nothing is destroyed again."""
    with started() as (server, g):
        s = g.spawn("alice")
        c = g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        assert g.api("alice", "DELETE", f"/sandboxes/{s}").status == 200
        assert g.leases("alice") == []
        c.close()
        assert g.api("alice", "DELETE", f"/sandboxes/{s}").status == 200
        assert server.destroyed == [s]


def test_extended_by_its_client():
    """A client's own extend of a leased sandbox does not outlive the lease's next one, which comes within moments."""
    with started() as (server, g):
        with open(g.config, encoding="utf-8") as file:
            text = file.read()
        with open(g.config, "w", encoding="utf-8") as file:
            file.write(text.replace("leases: { ttl: 3s, extend: 200ms", "leases: { ttl: 60m, extend: 20m"))
        g.reload()
        s = g.spawn("alice")
        assert g.lease("alice", s, "1h").status == 200
        assert g.api("alice", "POST", f"/sandboxes/{s}/extend", {"ttl": "20h"}).status == 200
        assert server.records[s]["expires_at"] - server.now() > 7200
        wait_for("it has the lease's ttl again", lambda: server.records[s]["expires_at"] - server.now() <= 3600)


def test_closed_by_us():
    """A connection that we close ourselves gives its lease the grace, after which the sandbox is destroyed."""
    with started(grace="3s") as (server, g):
        s = g.spawn("alice")
        c = g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        c.sock.sendall(b"no HTTP at all\r\n\r\n")
        wait_for("it is in the grace", lambda: [x["state"] for x in g.leases("alice")] == ["grace"])
        assert g.leases("alice")[0]["expires_at"]
        goes_on(server, s, 1)
        ends(server, s)


def test_extend_fails():
    """An extend that is answered 429 or 500, cut or not answered at all is repeated soon, until it is answered well."""
    for act in (status(429), status(500), lambda server, connection, request: connection.close() or "closed"):
        with started() as (server, g):
            s = g.spawn("alice")
            assert g.lease("alice", s, "1h").status == 200
            with server.fault("POST", f"/sandboxes/{s}/extend", act) as fault:
                fault.wait(3)
                assert len(g.leases("alice")) == 1
            goes_on(server, s)


def test_full_pool():
    """With every connection of the pool in use, by requests that are not answered, and others waiting, leases go on all the same."""
    pool = "pool: { max_connections: 2, max_per_identity: 2, max_waiting: 2, wait_timeout: 60s }"
    with started({"alice": [], "root": ["admin: true"]}, upstream=[pool]) as (server, g):
        s = g.spawn("alice")
        assert g.lease("alice", s, "1h").status == 200
        with server.hold("POST", f"/sandboxes/{s}/exec") as hold:
            later = [Later(lambda: g.api("alice", "POST", f"/sandboxes/{s}/exec", {"command": "true"})) for _ in range(3)]
            hold.wait(2)
            goes_on(server, s, 5)
            assert hold.seen == 2
            hold.release()
            assert [x.get().status for x in later] == [200] * 3
        wait_for("what was made beyond the bound is closed",
                 lambda: g.ask("root", "GET", "/gateway/v1/status").json()["upstreams"][0]["pool"]["connections"] <= 2)


def test_destroy_fails():
    """A destroy that fails is repeated until the server says that the sandbox is gone."""
    with started() as (server, g):
        s = g.spawn("alice")
        c = g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        with server.fault("DELETE", f"/sandboxes/{s}", status(503)) as fault:
            c.close()
            fault.wait(3)
            assert [x["state"] for x in g.leases("alice")] == ["ending"]
            expect_error(g.lease("alice", s, "1h"), 409, "CONFLICT")
        ends(server, s)
        wait_for("the lease is forgotten", lambda: g.leases("alice") == [])


def test_many():
    """A process that holds many leases ends: all of its sandboxes are destroyed, the others are not."""
    with started() as (server, g):
        kept = g.spawn("alice")
        assert g.lease("alice", kept, "1h").status == 200
        c = g.connect("alice")
        many = [g.spawn("alice") for _ in range(40)]
        for s in many:
            assert g.lease("alice", s, "connection", c).status == 200
        c.close()
        wait_for("they are destroyed", lambda: sorted(server.destroyed) == sorted(many))
        goes_on(server, kept)


def test_bound():
    """One owner has at most 256 leases; another has his own."""
    with started() as (server, g):
        with server.state:
            ids = [server.add("alice", 3600.0, {"stacygate.owner": "alice"}) for _ in range(257)]
        c = g.connect("alice")
        for s in ids[:256]:
            assert g.lease("alice", s, "1h", c).status == 200
        expect_error(g.lease("alice", ids[256], "1h", c), 429, "RESOURCE_LIMIT", "256")
        assert g.lease("bob", g.spawn("bob"), "1h").status == 200


# --- the gateway's own end -------------------------------------------------------------------------------------------------

def test_killed_gateway_takes_leases_up():
    """After kill -9 the next start takes the leases up: process and clock go on, a connection gets the grace and then ends."""
    with started() as (server, g):
        s, clock, connection = g.spawn("alice"), g.spawn("alice"), g.spawn("alice")
        c = g.connect("alice")
        with client(g, "alice", s, "process") as p:
            said(p, "200")
            assert g.lease("alice", clock, "1h").status == 200
            assert g.lease("alice", connection, "connection", c).status == 200
            g.kill()
            g.start()
            states = {x["sandbox"]: (x["kind"], x["state"]) for x in g.leases("alice")}
            assert states == {s: ("process", "held"), clock: ("clock", "held"), connection: ("connection", "grace")}, states
            goes_on(server, s)
            ends(server, connection)
            p.kill()
            ends(server, s)
            goes_on(server, clock, 1)
            assert g.ask("alice", "DELETE", f"{LEASES}/{clock}").json() == {"status": "released"}
        g.kill()
        g.start()
        assert g.leases("alice") == []


def test_process_ends_while_the_gateway_is_down():
    """What ended while the gateway was down is destroyed at its next start, a clock that ran out as well."""
    with started() as (server, g):
        s, clock = g.spawn("alice"), g.spawn("alice")
        with client(g, "alice", s, "process") as p:
            said(p, "200")
            assert g.lease("alice", clock, "1s").status == 200
            g.kill()
            p.kill()
            p.wait()
        until = time.monotonic() + 1
        wait_for("the clock has run out", lambda: time.monotonic() > until)
        assert server.destroyed == []
        g.start()
        wait_for("both are destroyed", lambda: sorted(server.destroyed) == sorted([s, clock]))


def test_destroy_is_taken_up():
    """A destroy that was under way when the gateway was killed is finished by the next one."""
    with started() as (server, g):
        s = g.spawn("alice")
        c = g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        with server.fault("DELETE", f"/sandboxes/{s}", status(503)) as fault:
            c.close()
            fault.wait()
            g.kill()
        g.start()
        ends(server, s)


def test_L17_run():
    """A run's sandbox has the short ttl and is extended as well; after kill -9 in the middle of it the next start destroys it at once."""
    with started(grace="60s") as (server, g):
        with server.hold("POST", "/sandboxes/[^/]+/exec") as hold:
            body = json.dumps({"image": "x", "ttl": "1h", "command": "sleep 1000"})
            Later(lambda: g.ask("alice", "POST", "/gateway/v1/run", body))
            hold.wait()
            s, = server.alive("alice")
            assert [(x["kind"], x["state"]) for x in g.leases("alice")] == [("run", "held")]
            goes_on(server, s)
            assert server.records[s]["expires_at"] - server.now() <= TTL
            expect_error(g.lease("alice", s, "1h"), 409, "CONFLICT")
            expect_error(g.ask("alice", "DELETE", f"{LEASES}/{s}"), 409, "CONFLICT")
            g.kill()
            g.start()
            ends(server, s)
        wait_for("the lease is forgotten", lambda: g.leases("alice") == [])


def test_renewed_in_the_grace():
    """A connection lease whose gateway was stopped and started may be renewed by its owner on a new connection."""
    with started(grace="20s") as (server, g):
        s = g.spawn("alice")
        c = g.connect("alice")
        assert g.lease("alice", s, "connection", c).status == 200
        g.restart()
        assert [x["state"] for x in g.leases("alice")] == ["grace"]
        c = g.connect("alice")
        answer = g.lease("alice", s, None, c)
        assert answer.status == 200 and answer.json()["state"] == "held", answer
        goes_on(server, s)
        c.close()
        ends(server, s)


def test_upstream_is_configured_no_longer():
    """A lease whose upstream is not configured any more is left to the sandbox's ttl; that is said and forgotten."""
    with started() as (server, g):
        s = g.spawn("alice")
        assert g.lease("alice", s, "1h").status == 200
        g.kill()
        other = Server()
        with open(g.config, encoding="utf-8") as file:
            text = file.read()
        with open(g.config, "w", encoding="utf-8") as file:
            file.write(text.replace(f":{server.port}", f":{other.port}"))
        g.start()
        assert g.leases("alice") == [] and "cannot be taken up" in g.log()
        assert s in server.alive()


def test_L17_gateway_dies_for_good():
    """With the gateway gone for good a leased sandbox has no more than its short ttl, however long it lived before."""
    with started() as (server, g):
        s = g.spawn("alice", ttl="24h")
        assert g.lease("alice", s, "1h").status == 200
        goes_on(server, s)
        g.kill()
        assert server.records[s]["expires_at"] - server.now() <= TTL
        mark = server.mark()
        wait_for("its ttl has passed", lambda: server.records[s]["expires_at"] < server.now())
        assert server.since(mark) == []
        g.start()


def test_L17_defaults():
    """Unless written a leased sandbox has a ttl of 2 min upstream and is extended every 40 s."""
    server = Server()
    with Gateway(server) as g:
        s = g.spawn("alice", ttl="24h")
        assert g.ask("alice", "PUT", f"{LEASES}/{s}", None, {"Stacygate-Lease": "1h"}).status == 200
        assert json.loads(extends(server, s)[-1].body) == {"ttl": "120000ms"}
        shown = subprocess.run([g.command[0], "-c", g.config, "-T"], env=g.environment, capture_output=True, text=True, check=True)
        assert "leases: { ttl: 2m0s, extend: 40s, grace: 2m0s }" in shown.stdout, shown.stdout


if __name__ == "__main__":
    run(globals())
