# SPDX-License-Identifier: Apache-2.0
"""keep_alive of a rule: a sandbox in use is kept, by as little as that takes, and never against its owner's own word."""
import json

from owners_lib import expect_not_found, run, started, subscribed
from preview_lib import Front
from preview_lib import Gateway as PreviewGateway
from tls_lib import wait_for
from vm_lib import API, Server, status

RULES = {"alice": ["keep_alive: 40s"], "bob": ["keep_alive: 40s"]}


def extends(server, sandbox, mark=0):
    return server.since(mark, "POST", f"{API}/sandboxes/{sandbox}/extend")


def looks(server, sandbox, mark=0):
    return server.since(mark, "GET", f"{API}/sandboxes/{sandbox}")


def use(g, name, sandbox):
    answer = g.api(name, "POST", f"/sandboxes/{sandbox}/exec", {"command": "true"})
    assert answer.status == 200, answer


def left(server, sandbox):
    return server.records[sandbox]["expires_at"] - server.now()


def test_in_use():
    """A request gives a sandbox that is about to end the rule's time, in the caller's name; many at once cost no more than one."""
    with started(RULES) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="5s")
        mark = server.mark()
        for _ in range(20):
            use(g, "alice", s)
        wait_for("it is extended", lambda: left(server, s) > 35)
        for _ in range(20):
            use(g, "alice", s)
        assert len(extends(server, s, mark)) == 1 and len(looks(server, s, mark)) == 1
        sent = extends(server, s, mark)[0]
        assert json.loads(sent.body) == {"ttl": "40000ms"} and sent.all("x-user-id") == ["alice"]


def test_again():
    """It is extended again when a quarter of the time has passed, as long as requests come."""
    with started({"alice": ["keep_alive: 2s"]}) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="1s")

        def used_thrice():
            use(g, "alice", s)
            return len(extends(server, s)) >= 3
        wait_for("it is extended thrice", used_thrice)
        assert all(json.loads(r.body) == {"ttl": "2000ms"} for r in extends(server, s)) and left(server, s) <= 2


def test_never_shortens():
    """A sandbox with more time than that is looked at once and left as it is."""
    with started(RULES) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="1h")
        before = server.records[s]["expires_at"]
        mark = server.mark()
        for _ in range(5):
            use(g, "alice", s)
        wait_for("it is looked at", lambda: looks(server, s, mark))
        for _ in range(5):
            use(g, "alice", s)
        assert len(looks(server, s, mark)) == 1 and not extends(server, s, mark)
        assert server.records[s]["expires_at"] == before


def test_owners_word():
    """Who extends a sandbox himself has his way, although it was about to be extended for less."""
    with started(RULES) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="5s")
        with server.hold("GET", f"/sandboxes/{s}") as hold:
            use(g, "alice", s)
            hold.wait()
            assert g.api("alice", "POST", f"/sandboxes/{s}/extend", {"ttl": "1h"}).status == 200
            hold.release()
        for _ in range(5):
            use(g, "alice", s)
        assert [json.loads(r.body)["ttl"] for r in extends(server, s)] == ["1h"]
        assert left(server, s) > 3500


def test_slows_nothing():
    """The request that uses a sandbox waits neither for the look nor for the extend."""
    with started(RULES) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="5s")
        with server.hold("GET", f"/sandboxes/{s}") as look:
            use(g, "alice", s)
            look.wait()
        s = g.spawn("alice", ttl="5s")
        with server.hold("POST", f"/sandboxes/{s}/extend") as extend:
            use(g, "alice", s)
            extend.wait()
            use(g, "alice", s)


def test_failure():
    """What fails is tried again when the next request comes, a second later at the earliest."""
    with started(RULES) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="5s")
        with server.fault("POST", f"/sandboxes/{s}/extend", status(500)) as fault:
            use(g, "alice", s)
            fault.wait()
            for _ in range(10):
                use(g, "alice", s)
            assert fault.seen == 1

        def kept():
            use(g, "alice", s)
            return left(server, s) > 30
        wait_for("it is extended", kept)


def test_others():
    """Nobody keeps another's sandbox: one that is not the caller's is neither extended nor looked at beyond the answer."""
    with started(RULES) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="5s")
        mark = server.mark()
        for _ in range(5):
            expect_not_found(g.api("bob", "GET", f"/sandboxes/{s}"), s)
        use(g, "bob", g.spawn("bob", ttl="1h"))
        assert not extends(server, s, mark) and all(r.all("x-user-id") == ["bob"] for r in looks(server, s, mark))


def test_preview():
    """Who looks at what runs in a sandbox uses it; who looks at another's does not."""
    server, front = Server(), Front()
    with PreviewGateway(server, RULES, front=front.url) as g:
        s = g.spawn("alice", ttl="5s")
        assert g.preview("bob", f"3000-{s}.localhost").status == 404 and not extends(server, s)
        assert g.preview("alice", f"3000-{s}.localhost").status == 200
        wait_for("it is extended", lambda: left(server, s) > 35)
    front.clean()


def test_no_isolation():
    """Without isolation whoever uses a sandbox keeps it."""
    with started({"alice": ["isolation: none", "keep_alive: 40s"]}) as (server, g):
        s = server.add("somebody", 5.0, {})
        use(g, "alice", s)
        wait_for("it is extended", lambda: left(server, s) > 35)


def test_leased():
    """A sandbox under a lease is kept by that and by nothing else."""
    with started(RULES) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="5s")
        assert g.ask("alice", "PUT", f"/gateway/v1/leases/{s}", None, {"Stacygate-Lease": "1h"}).status == 200
        mark = server.mark()
        for _ in range(5):
            use(g, "alice", s)
        other = g.spawn("alice", ttl="5s")
        use(g, "alice", other)
        wait_for("the other one is extended", lambda: extends(server, other))
        assert not looks(server, s, mark) and not extends(server, s, mark)


def test_destroyed():
    """A sandbox that its owner destroys is not looked at any more."""
    with started(RULES) as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="5s")
        with server.hold("GET", f"/sandboxes/{s}") as hold:
            use(g, "alice", s)
            hold.wait()
            assert g.api("alice", "DELETE", f"/sandboxes/{s}").status == 200
        assert not extends(server, s)


def test_off():
    """Unless written nothing of it happens."""
    with started() as (server, g):
        subscribed(server, g, "alice")
        s = g.spawn("alice", ttl="5s")
        mark = server.mark()
        for _ in range(5):
            use(g, "alice", s)
        assert [r.method for r in server.since(mark)] == ["POST"] * 5


if __name__ == "__main__":
    run(globals())
