# SPDX-License-Identifier: Apache-2.0
"""What counts: sandboxes, requests and connections of an owner (C17); and servers whose users share a machine."""
import json

from owners_lib import Later, expect_error, expect_not_found, headers_of, parallel, raw, run, started
from tls_lib import wait_for
from vm_lib import API, cut, garbage, status, text

def expect_limited(answer, name):
    """429 of the gateway's, naming the limit."""
    expect_error(answer, 429, "RESOURCE_LIMIT", name)
    assert headers_of(answer, "retry-after") and int(headers_of(answer, "retry-after")[0]) >= 1, answer.headers


def test_c17_sandboxes():
    """C17: never more at a time than limits.sandboxes, however many are asked for at once; others are not limited by it."""
    with started({"alice": ["limits: { sandboxes: 3 }"], "bob": []}) as (server, g):
        server.templates["t"] = {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        for _ in range(3):
            answers = parallel([lambda: g.api("alice", "POST", "/sandboxes", {"image": "x"})] * 8 +
                               [lambda: g.api("alice", "POST", "/templates/t/spawn", {})] * 2)
            codes = [a.status for a in answers]
            assert set(codes) <= {201, 429}, codes
            for answer in answers:
                if answer.status == 429:
                    expect_limited(answer, "sandboxes")
            assert server.peak.get("alice", 0) <= 3, server.peak
            for s in server.alive("alice"):
                assert g.api("alice", "DELETE", "/sandboxes/" + s).status == 200
        mine = [g.spawn("alice") for _ in range(3)]
        for _ in range(2):
            expect_limited(g.api("alice", "POST", "/sandboxes", {"image": "x"}), "sandboxes")
            expect_limited(g.api("alice", "POST", "/templates/t/spawn", {}), "sandboxes")
        for _ in range(5):
            g.spawn("bob")
        g.restart()  # what is counted is the server's
        expect_limited(g.api("alice", "POST", "/sandboxes", {"image": "x"}), "sandboxes")
        assert g.api("alice", "DELETE", "/sandboxes/" + mine[0]).status == 200
        g.spawn("alice")
        expect_limited(g.api("alice", "POST", "/sandboxes", {"image": "x"}), "sandboxes")
        assert server.peak["alice"] == 3


def test_c17_sandboxes_with_slow_spawns():
    """C17: spawns that are under way count."""
    with started({"alice": ["limits: { sandboxes: 2 }"], "bob": []}) as (server, g):
        with server.hold("POST", "/sandboxes") as hold:
            under_way = [Later(lambda: g.api("alice", "POST", "/sandboxes", {"image": "x"})) for _ in range(1)]
            hold.wait(1)
            under_way.append(Later(lambda: g.api("alice", "POST", "/sandboxes", {"image": "x"})))
            hold.wait(2)
            expect_limited(g.api("alice", "POST", "/sandboxes", {"image": "x"}), "sandboxes")
            hold.release()
            assert [u.get().status for u in under_way] == [201, 201]
        assert server.peak["alice"] == 2


def test_c17_sandboxes_of_those_who_left():
    """C17: a spawn whose client has left counts until it has ended and its sandbox is destroyed."""
    with started({"alice": ["limits: { sandboxes: 2 }"], "bob": []}) as (server, g):
        with server.hold("POST", "/sandboxes") as hold:
            for i in range(2):
                sock = raw(g, "alice", f"POST {API}/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
                hold.wait(i + 1)
                sock.close()
                wait_for("the gateway knows", lambda n=i: g.log().count("the client of a spawn has left") == n + 1)
            for _ in range(3):
                expect_limited(g.api("alice", "POST", "/sandboxes", {"image": "x"}), "sandboxes")
            bobs = Later(lambda: g.api("bob", "POST", "/sandboxes", {"image": "x"}))
            hold.wait(3)
            hold.release()
            assert bobs.get().status == 201
            wait_for("nothing is left", lambda: not server.alive("alice") and len(server.destroyed) == 2)
        wait_for("there is room", lambda: g.api("alice", "POST", "/sandboxes", {"image": "x"}).status == 201)
        assert g.api("alice", "POST", "/sandboxes", {"image": "x"}).status == 201
        assert server.peak["alice"] == 2


def test_c17_sandboxes_without_isolation():
    """C17: limits hold without isolation as well, a template spawn included."""
    rule = ["allow: [all]", "isolation: none", "limits: { sandboxes: 2, max_ttl: 1h }"]
    with started({"alice": rule, "bob": []}) as (server, g):
        server.templates["t"] = {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60000}
        answer = g.api("alice", "POST", "/templates/t/spawn", {})
        assert answer.status == 201 and headers_of(answer, "stacygate-clamped") == ["ttl"], answer
        g.spawn("alice", owner_id="eve")
        for path in ("/sandboxes", "/templates/t/spawn"):
            expect_limited(g.api("alice", "POST", path, {"image": "x"}), "sandboxes")
        assert [r["owner_id"] for r in server.records.values()] == ["alice"] * 2


def test_c17_sandboxes_cannot_be_counted():
    """C17: a count that the server does not give is 5xx, never a spawn."""
    with started({"alice": ["limits: { sandboxes: 3 }"], "bob": []}) as (server, g):
        for i in range(20):
            server.add("bob", metadata={"fill": "x" * 300})
        for what, act in (("500", status(500)), ("429", status(429)), ("cut", cut("body")), ("garbage", garbage),
                          ("no list", text(200, b'{"sandboxes":[]}', "application/json"))):
            with server.fault("GET", "/sandboxes", act):
                answer = g.api("alice", "POST", "/sandboxes", {"image": "x"})
                assert answer.status in (502, 503, 504), (what, answer)
        assert not server.since(0, "POST") and not server.alive("alice")
        g.spawn("alice")


def test_c17_concurrent_requests():
    """C17: more requests at a time than the rule allows are 429; the other owner is served; it counts per owner, not per rule."""
    one = ["user_id: alice", "limits: { concurrent_requests: 2 }"]
    with started({"alice": one, "also-alice": one, "bob": []}) as (server, g):
        s = server.add("alice")
        with server.hold("GET", f"/sandboxes/{s}/logs") as hold:
            under_way = [Later(lambda n=n: g.api(n, "GET", f"/sandboxes/{s}/logs")) for n in ("alice", "also-alice")]
            hold.wait(2)
            for name in ("alice", "also-alice"):
                expect_limited(g.api(name, "GET", f"/sandboxes/{s}/stats"), "concurrent_requests")
            assert g.api("bob", "GET", "/sandboxes").status == 200
            hold.release()
            assert [u.get().status for u in under_way] == [200, 200]
        assert g.api("alice", "GET", f"/sandboxes/{s}/stats").status == 200


def test_c17_requests_per_second():
    """C17: a burst above the rate is 429 in part, with Retry-After; the other owner is served."""
    with started({"alice": ["limits: { requests_per_second: 5 }"], "bob": []}) as (server, g):
        connection = g.connect("alice")
        answers = [connection.ask("GET", API + "/health") for _ in range(60)]
        good = [a for a in answers if a.status == 200]
        assert good and len(good) < len(answers), [a.status for a in answers]
        assert answers[0].status == 200
        for a in answers:
            if a.status != 200:
                expect_limited(a, "requests_per_second")
        for _ in range(20):
            assert g.api("bob", "GET", "/health").status == 200
        wait_for("alice is served again", lambda: connection.ask("GET", API + "/health").status == 200)


def test_c17_connections():
    """C17: more connections than the rule allows are not served; one that leaves makes room."""
    with started({"alice": ["limits: { connections: 3 }"], "bob": []}) as (_, g):
        held = [g.connect("alice") for _ in range(3)]
        for c in held:
            wait_for("a connection is served", lambda c=c: served(c))
        for _ in range(3):
            expect_limited(g.api("alice", "GET", "/health"), "connections")
        for c in held:
            assert served(c)
        assert g.api("bob", "GET", "/health").status == 200
        held.pop().close()
        wait_for("there is room", lambda: served(g.connect("alice")))


def served(connection):
    """Whether a request on the connection is served."""
    return connection.ask("GET", API + "/health").status == 200


# --- pool mode --------------------------------------------------------------------------------------------------------

POOLED = {"enabled": True, "vms": 1, "max_vms": 4, "total_users": 2, "max_users_per_vm": 8}


def test_pool_mode_refused():
    """A server in pool mode is refused to rules under isolation, in words that name shared_vm; no other request reaches it."""
    with started({"alice": [], "bob": ["allow: [all]", "isolation: none"]}) as (server, g):
        server.pool = POOLED
        s = server.add("alice")
        for method, path, body in (("POST", "/sandboxes", {"image": "x"}), ("GET", "/sandboxes", None), ("GET", "/sandboxes/" + s, None),
                                   ("POST", f"/sandboxes/{s}/exec", {"command": "id"}), ("DELETE", "/sandboxes", None), ("DELETE", "/sandboxes/" + s, None),
                                   ("GET", "/events", None), ("POST", "/templates/t/spawn", {})):
            answer = g.api("alice", method, path, body)
            expect_error(answer, 503, "UNAVAILABLE", "shared_vm")
            assert headers_of(answer, "retry-after"), answer.headers
        assert {r.target for r in server.since(0)} == {API + "/pool/status"}
        assert g.api("bob", "GET", "/sandboxes/" + s).status == 200
        g.spawn("bob")


def shared_vm_said(g, name):
    return [json.dumps(g.ask(name, target="/gateway/v1/" + route).json(), separators=(",", ":")).count('"shared_vm":true')
            for route in ("health", "status", "whoami")]


def test_pool_mode_accepted():
    """With shared_vm: accept it works, isolation of the API included, the log says once what does not hold, and so do health, status, whoami."""
    with started(upstream=["shared_vm: accept"]) as (server, g):
        server.pool = POOLED
        s = g.spawn("alice")
        for _ in range(3):
            assert g.api("alice", "GET", "/sandboxes/" + s).status == 200
            expect_not_found(g.api("bob", "GET", "/sandboxes/" + s), s)
        assert g.listed("bob") == [] and g.listed("alice") == [s]
        assert shared_vm_said(g, "alice") == [1, 1, 1]
        said = [line for line in g.log().splitlines() if "shared_vm" in line]
        assert len(said) == 1, said


def test_pool_mode_off():
    """A vm_id alone is no shared machine, and nothing is said of one."""
    with started() as (server, g):
        server.add("alice", vm_id="worker-7")
        g.spawn("alice")
        assert len(g.listed("alice")) == 2
        assert shared_vm_said(g, "alice") == [0, 0, 0]


def test_pool_mode_unknown():
    """A server that does not say refuses nothing, and is not asked for every request."""
    for act in (status(500), status(404), text(404, b"404 page not found\n"), cut("before"), cut("body"), garbage, text(200, b"<html>", "text/html"),
                text(200, b'{"enabled":"yes"}', "application/json"), text(200, b"{}", "application/json")):
        with started() as (server, g):
            with server.fault("GET", "/pool/status", act) as fault:
                for _ in range(10):
                    g.spawn("alice")
                assert fault.seen <= 2, fault.seen  # a GET may be repeated on a fresh connection


def test_pool_mode_asked_once_for_all():
    """Those who come before the first answer wait for the one question."""
    with started() as (server, g):
        with server.hold("GET", "/pool/status") as hold:
            under_way = [Later(lambda: g.api("alice", "POST", "/sandboxes", {"image": "x"})) for _ in range(10)]
            hold.wait()
            hold.release()
            assert [u.get().status for u in under_way] == [201] * 10
            assert hold.seen == 1

if __name__ == "__main__":
    run(globals())
