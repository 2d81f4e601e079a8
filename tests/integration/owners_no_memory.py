# SPDX-License-Identifier: Apache-2.0
"""
M4, C10, C11, C17: each allocation made for a request under isolation fails once. It is answered 502, 503 or 504, or closed, or it did
not matter; never is a stranger let in, a list shown that lacks one or has another's, a spawn sent unstamped or above the
limits, nor anything leaked; the next request is served.
"""
import http.client
import json
import os
import shutil
import tempfile

from no_memory import Plan
from owners_lib import expect_not_found, raw, read_all, run
from tls_lib import BUILD, Skip, wait_for
from vm_lib import API, Gateway, Server, cut, seconds

FULL = os.environ.get("STACYGATE_SWEEP") == "all"
STEP = 1 if FULL else 3
MOST = 4000  # allocations of one request


class Sweep:
    """A gateway whose allocations can be made to fail."""

    def __enter__(self):
        if not os.path.exists(os.path.join(BUILD, "failing-malloc.so")):
            raise Skip("failing-malloc.so is not built")
        self.directory = tempfile.mkdtemp(prefix="sg-plan.")
        self.plan = Plan(self.directory)
        self.server = Server()
        self.server.templates["t"] = {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        options = os.environ.get("ASAN_OPTIONS", "")
        self.gateway = self.make({
            "LD_PRELOAD": os.path.join(BUILD, "failing-malloc.so"), "SG_ALLOC_PLAN": self.plan.path,
            "ASAN_OPTIONS": "verify_asan_link_order=0:allocator_may_return_null=1" + (":" + options if options else "")})
        self.gateway.__enter__()
        return self

    def make(self, env):
        rules = {"alice": ["limits: { max_ttl: 1h, sandboxes: 100000 }"], "bob": []}
        return Gateway(self.server, rules, level="info", env=env)

    def __exit__(self, *what):
        self.plan.disarm()
        self.gateway.__exit__(*what)
        shutil.rmtree(self.directory, ignore_errors=True)

    def each(self, ask, judge, after=None):
        """Fails one allocation after another until a request is through without any that failed."""
        for n in range(1, MOST, STEP):
            self.plan.arm(n)
            try:
                answer = ask()
            except (ConnectionError, http.client.HTTPException):
                answer = None
            failed = self.plan.disarm()
            if answer is not None and answer.whole and answer.status not in (502, 503, 504):
                judge(answer)
            if after:
                after()
            if not failed:
                assert answer is not None and answer.whole and answer.status < 500, answer
                assert n > 1, "no allocation was made"
                print(f"    {n} allocations", flush=True)
                return
        raise AssertionError("no end of allocations")


def test_m4_stranger():
    """M4, C10: a stranger is never let in, whether the sandbox is remembered or not."""
    with Sweep() as s:
        g, server = s.gateway, s.server
        made = []

        def ask():
            made.append(server.add("alice"))
            return g.ask("bob", "POST", f"{API}/sandboxes/{made[-1]}/exec", iter([b'{"command":', b'"id"}']))
        s.each(ask, lambda a: expect_not_found(a, made[-1]))
        s.each(lambda: g.api("bob", "DELETE", "/sandboxes/" + made[0]), lambda a: expect_not_found(a, made[0]))
        assert not server.since(0, "POST") and not server.since(0, "DELETE") and not server.destroyed
        assert g.api("alice", "GET", f"/sandboxes/{made[0]}/logs").status == 200


def test_m4_list():
    """M4, C11: a list is shown in full or visibly not at all."""
    with Sweep() as s:
        mine = [s.server.add("alice", metadata={"fill": "x" * 200}) for _ in range(30)][::-1]
        for _ in range(30):
            s.server.add("bob")

        def judge(answer):
            assert [x["id"] for x in answer.json()] == mine
        s.each(lambda: s.gateway.api("alice", "GET", "/sandboxes"), judge)
        assert s.gateway.listed("alice") == mine


def spawns(path):
    with Sweep() as s:
        g, server = s.gateway, s.server
        had = []

        def judge(answer):
            assert answer.status == 201, answer
            assert answer.json()["metadata"]["stacygate.owner"] == "alice", answer
            had.append(answer.json()["id"])

        def after():
            wait_for("only those are left that clients were given", lambda: sorted(server.alive("alice")) == sorted(had))
        s.each(lambda: g.api("alice", "POST", path, {"image": "x", "ttl": "9h", "owner_id": "bob"}), judge, after)
        sent = server.since(0, "POST")
        assert sent
        for request in sent:
            body = json.loads(request.body)
            assert request.target == API + "/sandboxes" and body["metadata"]["stacygate.owner"] == "alice", request.body
            assert 0 < seconds(body["ttl"]) <= 3600 and body.get("owner_id", "alice") == "alice", request.body
        wait_for("no spawn is counted any more", lambda: g.api("alice", "POST", path, {"image": "x"}).status == 201)


def test_m4_spawn():
    """M4, C12, C17: a spawn that goes up is stamped and within the limits."""
    spawns("/sandboxes")


def test_m4_spawn_with_a_key():
    """M4, F35: with an Idempotency-Key and its answer lost: never two sandboxes of one key, and none that nobody has."""
    with Sweep() as s:
        g, server = s.gateway, s.server
        keys, had = [], {}

        def ask():
            keys.append(f"k{len(keys)}")
            return g.api("alice", "POST", "/sandboxes", {"image": "x"}, {"Idempotency-Key": keys[-1]})

        def judge(answer):
            assert answer.status == 201, answer
            had[keys[-1]] = answer.json()["id"]

        def again():
            """The retry, with memory: it gets what the first made, if it made any."""
            before = server.alive("alice")
            answer = g.api("alice", "POST", "/sandboxes", {"image": "x"}, {"Idempotency-Key": keys[-1]})
            assert answer.status == 201, answer
            assert had.get(keys[-1], answer.json()["id"]) == answer.json()["id"], (keys[-1], had, answer)
            assert len([i for i in before if i not in had.values()]) <= 1
            had[keys[-1]] = answer.json()["id"]
            assert sorted(server.alive("alice")) == sorted(had.values()), (keys[-1], g.log()[-3000:])
        s.each(ask, judge, again)
        with server.fault("POST", "/sandboxes", cut("before")):
            s.each(ask, judge)
        wait_for("each key has its sandbox", lambda: settled(g, server, keys, had))


def settled(g, server, keys, had):
    """Each key is asked for once more; then nothing is under way, and there is one sandbox for each."""
    for key in keys:
        if key not in had:
            answer = g.api("alice", "POST", "/sandboxes", {"image": "x"}, {"Idempotency-Key": key})
            if answer.status == 201:
                had[key] = answer.json()["id"]
    return len(had) == len(keys) and sorted(server.alive("alice")) == sorted(had.values())


def test_m4_spawn_left():
    """M4, F35: a client that leaves while memory lacks: nothing is left behind, and nothing is waited for in vain."""
    with Sweep() as s:
        g, server = s.gateway, s.server

        def ask():
            with server.hold("POST", "/sandboxes") as hold:
                try:
                    return g.api("alice", "POST", "/sandboxes", {"image": "x"}, {"Stacygate-Timeout": "100ms"})
                finally:
                    hold.release()

        def judge(answer):
            raise AssertionError(f"nothing may be answered well: {answer}")

        def after():
            s.plan.disarm()
            wait_for("nothing is left", lambda: not server.alive("alice"))
        for n in range(1, MOST, STEP):
            s.plan.arm(n)
            try:
                answer = ask()
            except (ConnectionError, http.client.HTTPException):
                answer = None
            if answer is not None and answer.status not in (502, 503, 504):
                judge(answer)
            failed = s.plan.failed()
            after()
            if not failed:
                return
        raise AssertionError("no end of allocations")


def test_m4_template_spawn():
    """M4, C13: the same from a template."""
    spawns("/templates/t/spawn")


def test_m4_prune():
    """M4, C11: prune destroys the caller's own expired ones only."""
    with Sweep() as s:
        g, server = s.gateway, s.server
        lasting, bobs = server.add("alice"), server.add("bob")
        server.expire(bobs)

        def ask():
            for _ in range(2):
                server.expire(server.add("alice"))
            return g.api("alice", "DELETE", "/sandboxes")
        s.each(ask, lambda a: list(a.json()) == ["pruned"])
        wait_for("the rest is pruned", lambda: g.api("alice", "DELETE", "/sandboxes").status == 200 and server.alive("alice") == [lasting])
        assert bobs not in server.destroyed and not server.since(0, "DELETE", API + "/sandboxes")


def test_m4_lease():
    """M4: a lease that cannot be had leaves the sandbox and its lease as they were; one that is had is there."""
    with Sweep() as s:
        g, server = s.gateway, s.server
        mine = server.add("alice")

        def lease(name, sandbox, text):
            return g.ask(name, "PUT", f"/gateway/v1/leases/{sandbox}", None, {"Stacygate-Lease": text})

        def judge(answer):
            assert answer.status == 200 and answer.json()["sandbox"] == mine, answer
            assert [x["sandbox"] for x in g.ask("alice", "GET", "/gateway/v1/leases").json()] == [mine]
        for text in ("1h", "process"):
            s.each(lambda t=text: lease("alice", mine, t), judge)
        s.each(lambda: lease("bob", mine, "1h"), lambda a: expect_not_found(a, mine))
        assert lease("alice", mine, "1h").status == 200
        s.each(lambda: g.ask("alice", "DELETE", f"/gateway/v1/leases/{mine}"),
               lambda a: None if a.status == 200 else expect_not_found(a, mine),
               after=lambda: lease("alice", mine, "1h"))
        assert not server.destroyed and all(r.all("x-user-id") == ["alice"] for r in server.since(0, "POST"))


def test_m4_events():
    """M4, C11: a stream that found no memory ends, and shows nobody another's."""
    with Sweep() as s:
        g, server = s.gateway, s.server
        for n in range(1, MOST, STEP):
            wait_for("the last stream has ended", lambda: not server.subscribers)
            s.plan.arm(n)
            with g_stream(g) as sock:
                # It is refused, or the server has the subscriber; either comes.
                wait_for("the stream begins or is refused", lambda c=sock: server.subscribers or ended(c))
                bobs = server.add("bob")
                mine = server.add("alice")
                got = read_to(sock, mine.encode())
            failed = s.plan.disarm()
            assert bobs.encode() not in got, got
            if not failed:
                assert mine.encode() in got, got
                assert n > 1
                return
        raise AssertionError("no end of allocations")


def read_to(sock, end):
    """What comes up to these bytes, or to the end of the stream."""
    got = b""
    try:
        while end not in got and (piece := sock.recv(65536)):
            got += piece
    except ConnectionError:
        pass
    return got


def g_stream(g):
    sock = raw(g, "alice", b"")
    try:
        sock.sendall(f"GET {API}/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    except ConnectionError:
        pass  # closed already, for want of memory to accept it
    return sock


def ended(sock):
    """Whether an answer other than a stream has come, or the end."""
    sock.setblocking(False)
    try:
        data = sock.recv(64, 2)  # MSG_PEEK
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        sock.setblocking(True)
    return not data.startswith(b"HTTP/1.1 200 ")


if __name__ == "__main__":
    run(globals())
