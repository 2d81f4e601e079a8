# SPDX-License-Identifier: Apache-2.0
"""What names a sandbox is its owner's alone (C10), and what cannot be known is not read as absence (C16)."""
import json
import os

from owners_lib import Events, Later, NEVER, UIDS, UPGRADE, WITH_ROOT, expect_error, expect_lookups_only, expect_not_found, headers_of, looks, raw, read_all, run, started
from tls_lib import Skip, wait_for
from vm_lib import API, Gateway, Hold, Server, cut, garbage, status, text

CHUNKED = object()  # a body that is sent in chunks, so that the gateway reads it whole

# Every route of the API that names a sandbox (api-contract.md 7), destroying last: method, rest of the path, body.
PER_ID = [
    ("GET", "", None), ("HEAD", "", None), ("GET", "/", None),
    ("POST", "/extend", {"ttl": "1h"}),
    ("POST", "/exec", {"command": "id"}),
    ("POST", "/exec", {"command": "id", "stream": True}),
    ("POST", "/exec", CHUNKED),
    ("GET", "/exec/ws", UPGRADE),
    ("POST", "/files", {"path": "/x", "content": "y"}),
    ("GET", "/files?path=/x", None),
    ("DELETE", "/files?path=/x&recursive=true", None),
    ("GET", "/files/list?path=/", None),
    ("GET", "/files/stat?path=/x", None),
    ("GET", "/files/glob?pattern=*", None),
    ("POST", "/files/move", {"old_path": "/x", "new_path": "/y"}),
    ("POST", "/files/chmod", {"path": "/x", "mode": "0644"}),
    ("GET", "/logs?lines=5", None),
    ("GET", "/stats", None),
    ("DELETE", "", None),
]


def ask_sandbox(g, name, sandbox, route):
    method, rest, body = route
    path = f"{API}/sandboxes/{sandbox}{rest}"
    if body is CHUNKED:
        return g.ask(name, method, path, iter([b'{"command":', b'"id"}']))
    if body is UPGRADE:
        return g.ask(name, method, path, headers=UPGRADE)
    return g.ask(name, method, path, None if body is None else json.dumps(body))


# --- C10: what names a sandbox ----------------------------------------------------------------------------------------

def strangers(server, g, alices, destroyed):
    """Bob meets the same answer on every route, whether the sandbox is alice's, was destroyed or never was."""
    mark = server.mark()
    for _ in range(2):  # when nothing is remembered, and when it is
        for route in PER_ID:
            seen = []
            for sandbox in (alices, destroyed, NEVER):
                answer = ask_sandbox(g, "bob", sandbox, route)
                expect_not_found(answer, sandbox, head=route[0] == "HEAD")
                seen.append(looks(answer, sandbox))
            assert seen[0] == seen[1] == seen[2], (route, seen)
    expect_lookups_only(server, mark, "bob")


def owner_passes(g, sandbox):
    for route in PER_ID:
        answer = ask_sandbox(g, "alice", sandbox, route)
        assert answer.status == (101 if route[2] is UPGRADE else 200), (route, answer)
        assert not headers_of(answer, "stacygate-error"), (route, answer)


def every_route(uids):
    server = Server()
    server.tunnels = True
    with Gateway(server, uids=uids) as g:
        alices, destroyed = g.spawn("alice"), g.spawn("alice")
        assert g.api("alice", "DELETE", "/sandboxes/" + destroyed).status == 200
        strangers(server, g, alices, destroyed)
        for route in PER_ID:  # nor does the owner learn more of what is gone
            if route[0] != "DELETE" or route[1]:
                expect_not_found(ask_sandbox(g, "alice", destroyed, route), destroyed, head=route[0] == "HEAD")
        g.restart()
        strangers(server, g, alices, destroyed)
        expect_not_found(g.api("alice", "DELETE", "/sandboxes/" + destroyed), destroyed)
        with Gateway(server, uids=uids) as other:  # a second host's, with the same settings
            strangers(server, other, alices, destroyed)
            mine = other.spawn("alice")
            owner_passes(other, alices)
        assert alices in server.destroyed
        strangers(server, g, mine, alices)
        owner_passes(g, mine)
        assert not server.alive("alice")


def test_c10_every_route_by_listener():
    """C10: every route that names a sandbox, before and after a restart, and through another gateway."""
    every_route(None)


def test_c10_every_route_by_uid():
    """C10: the same for two users of one socket."""
    if os.getuid():
        raise Skip("two users need root")
    every_route(UIDS)


def one_answer(sock):
    """The first answer on the socket, without its request id, and whether the connection is served on after it."""
    file = sock.makefile("rb")
    head = []
    while (line := file.readline()) not in (b"\r\n", b""):
        if not line.lower().startswith(b"x-request-id:"):
            head.append(line)
    length = next(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:"))
    body = file.read(length)
    try:
        sock.sendall(b"GET /gateway/v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        more = bool(file.readline())
    except ConnectionError:
        more = False
    file.close()
    sock.close()
    return head, body, more


def bodies_of_strangers():
    """(what, method, rest of the path, headers, body): what could be judged before it is known whose the sandbox is."""
    exec_path, chunked, wait = "/exec", "Transfer-Encoding: chunked", "Expect: 100-continue"
    long = b"x" * 300000
    yield "whole", "POST", exec_path, "Content-Length: 16", b'{"command":"id"}'
    yield "chunks", "POST", exec_path, chunked, b'10\r\n{"command":"id"}\r\n0\r\n\r\n'
    yield "chunks that are no JSON", "POST", exec_path, chunked, b"1\r\n[\r\n0\r\n\r\n"
    yield "chunks of a duplicate", "POST", exec_path, chunked, b'15\r\n{"env":{},"Env":{}}  \r\n0\r\n\r\n'
    yield "extend that is no JSON", "POST", "/extend", "Content-Length: 1", b"["
    yield "extend without a ttl", "POST", "/extend", "Content-Length: 2", b"{}"
    yield "extend of a negative ttl", "POST", "/extend", "Content-Length: 12", b'{"ttl":"-1"}'
    yield "extend of nothing", "POST", "/extend", "Content-Length: 0", b""
    yield "body withheld", "POST", exec_path, "Content-Length: 16", b""
    yield "body withheld from what is read whole", "POST", "/extend", "Content-Length: 16", b""
    yield "chunks withheld", "POST", exec_path, chunked, b""
    yield "half a body", "POST", "/files", "Content-Length: 16", b'{"path":'
    yield "leave asked for", "POST", exec_path, "Content-Length: 16\r\n" + wait, b""
    yield "leave asked for chunks", "POST", exec_path, chunked + "\r\n" + wait, b""
    yield "long, withheld", "POST", "/files", "Content-Length: 300000", b""
    yield "long, begun", "POST", "/files", "Content-Length: 300000", long[:60000]
    yield "too long to be read whole", "POST", "/extend", "Content-Length: 3000000", b""
    yield "GET with a body", "GET", "/logs", "Content-Length: 16", b'{"command":"id"}'
    yield "DELETE with a body", "DELETE", "", "Content-Length: 16", b""
    yield "HTTP/1.0", "POST", exec_path, "Content-Length: 16\r\nConnection: keep-alive", b'{"command":"id"}'
    yield "odd timeout", "POST", exec_path, "Content-Length: 2\r\nStacygate-Timeout: x", b"{}"
    yield "many names in Connection", "POST", exec_path, "Content-Length: 2\r\nConnection: " + ",".join(f"h{i}" for i in range(3000)), b"{}"


def test_c10_bodies():
    """C10: nothing of a body, be it faulty, long or withheld, tells a stranger whether the sandbox is there."""
    with started(upstream=["timeouts: { response: 5s }"], rules={"alice": [], "bob": ["limits: { max_ttl: 1h }"]}) as (server, g):
        alices, destroyed = g.spawn("alice"), g.spawn("alice")
        g.api("alice", "DELETE", "/sandboxes/" + destroyed)
        mark = server.mark()
        for what, method, rest, headers, body in bodies_of_strangers():
            seen = []
            for sandbox in (alices, destroyed, NEVER):
                version = "HTTP/1.0" if what == "HTTP/1.0" else "HTTP/1.1"
                head = f"{method} {API}/sandboxes/{sandbox}{rest} {version}\r\nHost: x\r\n{headers}\r\n\r\n"
                lines, answer, more = one_answer(raw(g, "bob", head.encode() + body))
                seen.append((lines, answer.replace(sandbox.encode(), b"ID"), more))
            assert seen[0] == seen[1] == seen[2], (what, seen)
            if what not in ("too long to be read whole", "odd timeout", "many names in Connection"):
                assert seen[0][0][0] == b"HTTP/1.1 404 Not Found\r\n", (what, seen[0])
        expect_lookups_only(server, mark, "bob")


def test_c10_spellings():
    """C10: no way of writing the path leads a stranger to it."""
    with started({"alice": ["allow: [all]"], "bob": ["allow: [all]"]}) as (server, g):
        s = g.spawn("alice", metadata={"mark": "only alice knows"})
        escaped = "".join(f"%{ord(c):02x}" for c in s)
        paths = [f"/sandboxes/{s}/", f"/sandboxes/{s}//", f"/sandboxes//{s}", f"//sandboxes/{s}", f"/sandboxes/./{s}",
                 f"/sandboxes/x/../{s}", f"/sandboxes/{NEVER}/../{s}", f"/sandboxes/%2e/{s}", f"/templates/../sandboxes/{s}",
                 f"/sandboxes/{escaped}", f"/sandboxes/%73{s[1:]}", f"/sandboxes/{s[:2]}%2D{s[3:]}", f"/sandboxes/{s}%00",
                 f"/sandboxes/{s}%20", f"/sandboxes/%20{s}", f"/sandboxes/{s}%09", f"/sandboxes/{s}%2Fexec", f"/sandboxes/{s}%2flogs",
                 f"/sandboxes%2F{s}", f"/sandboxes/{s};x=1", f"/sandboxes/{s};/logs", f"/sandboxes/{s}/;/logs", f"/sandboxes/{s}?",
                 f"/sandboxes/{s}?id={NEVER}", f"/sandboxes/{s}#", f"/sandboxes/{s}/logs/", f"/sandboxes/{s}/logs/..",
                 f"/sandboxes/{s}/./logs", f"/sandboxes/{s}\\logs", f"/sandboxes/{s}%5Clogs", f"/SANDBOXES/{s}", f"/Sandboxes/{s}",
                 f"/sandboxes/{s.upper()}", f"/sandboxes/{s.upper()}/logs", f"/sandboxes/{s}.", f"/sandboxes/.{s}",
                 f"/sandboxes/%c0%ae/{s}", f"/sandboxes/{s}/exec/", f"/sandboxes/{s}/files/list/", f"/sandboxes/{s}/snapshot",
                 f"/sandboxes/{s}/exec/ws/", f"/sandboxes/{s}/exec/x", f"/sandboxes/{s}/files/x", f"/sandboxes/{s}/preview/80",
                 f"/sandboxes/{s}/logs/{s}", f"/sandboxes/{NEVER}/logs/{s}", f"/sandboxes/{'x' * 200}", f"/sandboxes/admission/{s}"]
        targets = [API + p for p in paths] + [f"http://localhost{API}/sandboxes/{s}", f"/api//v1/sandboxes/{s}", f"/api/v1/../v1/sandboxes/{s}",
                                              f"/API/v1/sandboxes/{s}", f"/api/v1%2Fsandboxes/{s}", f"/gateway/v1/../../api/v1/sandboxes/{s}",
                                              f"/sandboxes/{s}", f"/x{API}/sandboxes/{s}"]
        mark = server.mark()
        for method in ("GET", "DELETE", "POST"):
            for target in targets:
                got = read_all(raw(g, "bob", f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                                   .encode("latin-1")))
                code = int(got.split(b" ", 2)[1])
                assert 400 <= code < 500, (method, target, got)
                assert b"only alice" not in got and b"alpine" not in got and b"python:3.12" not in got, got
        expect_lookups_only(server, mark, "bob")
        assert server.alive("alice") == [s]


def test_c10_admission_is_an_id_to_get():
    """C10: GET /sandboxes/admission names a sandbox, POST does not."""
    with started() as (server, g):
        expect_not_found(g.api("bob", "GET", "/sandboxes/admission"), "admission")
        answer = g.api("bob", "POST", "/sandboxes/admission", {"image": "x"})
        assert answer.status == 200 and answer.json()["allowed"], answer
        assert not server.since(0, "DELETE")


def test_c10_delete_repeated():
    """C10: destroying one's own sandbox again is 200, as with the server; anybody else's stays unknown."""
    with started() as (server, g):
        s = g.spawn("alice")
        for _ in range(3):
            answer = g.api("alice", "DELETE", "/sandboxes/" + s)
            assert answer.status == 200 and answer.json() == {"status": "destroyed"}, answer
            expect_not_found(g.api("bob", "DELETE", "/sandboxes/" + s), s)
        expect_not_found(g.api("alice", "DELETE", "/sandboxes/" + NEVER), NEVER)
        assert NEVER not in server.destroyed


def test_c10_regress_forgotten_while_it_is_destroyed():
    """C10: so it is when all that is remembered was dropped while the server destroyed it, as a new subscription does, too."""
    with started(WITH_ROOT) as (server, g):
        s = g.spawn("alice")
        with server.hold("DELETE", "/sandboxes/" + s) as hold:
            first = Later(lambda: g.api("alice", "DELETE", "/sandboxes/" + s))
            hold.wait()
            assert g.ask("root", "DELETE", "/gateway/v1/cache").json()["dropped"] > 0
        assert first.get().status == 200
        answer = g.api("alice", "DELETE", "/sandboxes/" + s)
        assert answer.status == 200 and answer.json() == {"status": "destroyed"}, answer
        expect_not_found(g.api("bob", "DELETE", "/sandboxes/" + s), s)


def test_c10_destroyed_by_others():
    """C10: what the server has destroyed meanwhile is unknown to its owner as well."""
    with started() as (server, g):
        s = g.spawn("alice")
        server.kill(s)
        for _ in range(2):
            answer = g.api("alice", "POST", f"/sandboxes/{s}/exec", {"command": "id"})
            expect_not_found(answer, s)
            assert looks(answer, s) == looks(g.api("bob", "POST", f"/sandboxes/{NEVER}/exec", {"command": "id"}), NEVER)


def test_c10_nobodys():
    """C10: a sandbox without a stamp, or with one that only resembles the caller's name, is nobody's."""
    with started() as (server, g):
        bare = server.add(owner_id="alice")
        for stamp in ("Alice", "alice ", " alice", "alice\0x", "alic", "alice@host", "ALICE", ""):
            s = server.add(metadata={"stacygate.owner": stamp}, owner_id="alice")
            expect_not_found(g.api("alice", "GET", "/sandboxes/" + s), s)
        other = server.add(metadata={"Stacygate.Owner": "alice", "owner": "alice"}, owner_id="alice")
        for s in (bare, other):
            expect_not_found(g.api("alice", "GET", "/sandboxes/" + s), s)
        assert g.listed("alice") == []


# --- C16: looking at the server ---------------------------------------------------------------------------------------

TROUBLE = [
    ("429", status(429, [("Retry-After", "1")]), (503,)), ("500", status(500), (502, 503)), ("503", status(503), (503,)),
    ("401", status(401, value={"code": "UNAUTHORIZED", "message": "invalid or missing API key"}), (502, 503)),
    ("cut before", cut("before"), (502,)), ("cut in the head", cut("head"), (502,)), ("cut behind the head", cut("behind head"), (502,)),
    ("cut in the body", cut("body"), (502,)), ("garbage", garbage, (502,)),
    ("404 of something else", text(404, b"404 page not found\n"), (502,)),
    ("404 of JSON", text(404, b'{"error":"no such host"}', "application/json"), (502,)),
    ("404 of another code", status(404, value={"code": "TENANT", "message": "x"}), (502,)),
    ("200 of nothing", text(200, b"", "application/json"), (502,)), ("200 of a list", text(200, b"[]\n", "application/json"), (502,)),
    ("200 of another", text(200, b'{"id":"sb-11111111","metadata":{"stacygate.owner":"alice"}}\n', "application/json"), (502,)),
    ("redirect", text(302, b"", "text/plain"), (502,)),
]


def test_c16_trouble_is_not_absence():
    """C16: a look-up that ends otherwise than with a record or the API's 404 is 5xx, once, and is not remembered."""
    with started() as (server, g):
        bobs = g.spawn("bob")
        for what, act, codes in TROUBLE:
            s = server.add("alice")
            for route in (("GET", "/logs", None), ("DELETE", "", None), ("POST", "/exec", {"command": "id"})):
                mark = server.mark()
                with server.fault("GET", "/sandboxes/" + s, act) as fault:
                    answer = ask_sandbox(g, "alice", s, route)
                    assert answer.status in codes, (what, route, answer)
                    assert headers_of(answer, "stacygate-error"), (what, answer.headers)
                    assert g.api("bob", "GET", f"/sandboxes/{bobs}/logs").status == 200, what
                    assert fault.seen >= 1, what
                assert all(r.method == "GET" for r in server.since(mark)), what
                for r in server.since(mark, "GET", f"{API}/sandboxes/{s}"):
                    assert r.all("x-user-id") == ["alice"], r.headers
            assert g.api("alice", "GET", f"/sandboxes/{s}/logs").status == 200, what


def test_c16_slow():
    """C16: one waits for a slow look-up, others do not; one that is too slow is 504."""
    with started(upstream=["timeouts: { response: 1s }"]) as (server, g):
        bobs, s = g.spawn("bob"), server.add("alice")
        with server.hold("GET", "/sandboxes/" + s) as hold:
            waiting = Later(lambda: g.api("alice", "GET", f"/sandboxes/{s}/logs"))
            hold.wait()
            assert g.api("bob", "GET", f"/sandboxes/{bobs}/logs").status == 200
            expect_error(waiting.get(), 504, "UPSTREAM_TIMEOUT")
        assert g.api("alice", "GET", f"/sandboxes/{s}/logs").status == 200


def send_all(g, name, heads):
    """Connections on which these requests have been sent, each taken by the gateway before."""
    conns = []
    for head in heads:
        c = g.connect(name)
        assert c.ask("GET", "/gateway/v1/health").status == 200
        c.sock.sendall(head)
        conns.append(c.sock)
    for _ in range(2):  # a turn of its loop later it has read all of them
        assert g.ask("bob", target="/gateway/v1/health").status == 200
    return conns


def test_c16_one_look_up_for_all():
    """C16: fifty at once for one sandbox that is not remembered cost one look-up; a stranger's own look is his own."""
    with started() as (server, g):
        s = server.add("alice")
        with server.hold("GET", "/sandboxes/" + s) as hold:
            head = f"GET {API}/sandboxes/{s}/logs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            conns = send_all(g, "alice", [head] * 50)
            hold.wait()
            other = Later(lambda: g.api("bob", "GET", f"/sandboxes/{s}/logs"))
            hold.wait(2)
            hold.release()
            for sock in conns:
                assert read_all(sock).startswith(b"HTTP/1.1 200 "), g.log()[-2000:]
            expect_not_found(other.get(), s)
        looked = server.since(0, "GET", f"{API}/sandboxes/{s}")
        assert sorted(r.all("x-user-id")[0] for r in looked) == ["alice", "bob"], [r.headers for r in looked]
        assert len(server.since(0, "GET", f"{API}/sandboxes/{s}/logs")) == 50


def test_c16_one_trouble_for_all():
    """C16: when the one look-up fails, each of those who wait is told so, and none that the sandbox is unknown."""
    with started() as (server, g):
        s = server.add("alice")
        hold = Hold("GET", "/sandboxes/" + s)
        with server.fault("GET", "/sandboxes/" + s, status(500)), server.fault("GET", "/sandboxes/" + s, hold):
            with server.state:
                server.active_faults.reverse()  # waits first
            conns = send_all(g, "alice", [f"GET {API}/sandboxes/{s}/logs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()] * 10)
            hold.wait()
            hold.release()
            for sock in conns:
                assert read_all(sock).split(b" ", 2)[1] in (b"502", b"503")
            assert hold.seen == 1
        assert g.api("alice", "GET", f"/sandboxes/{s}/logs").status == 200


def test_c16_probing_uses_up_ones_own_share():
    """C16: on a server that limits, who probes ids meets 404, then 503; the other user is served."""
    with started() as (server, g):
        bobs = g.spawn("bob")
        alices = server.add("alice")
        server.burst, server.buckets = 20, {"bob": 1000}
        codes = [g.api("alice", "GET", f"/sandboxes/sb-{i:08x}/logs").status for i in range(40)]
        assert codes[:5] == [404] * 5 and codes[-1] == 503 and set(codes) == {404, 503}, codes
        assert g.api("alice", "GET", f"/sandboxes/{alices}/logs").status == 503
        for _ in range(10):
            assert g.api("bob", "GET", f"/sandboxes/{bobs}/logs").status == 200
        server.buckets = None
        assert g.api("alice", "GET", f"/sandboxes/{alices}/logs").status == 200


# --- clients and the gateway leave ------------------------------------------------------------------------------------

def under_way(server, g, templates=True):
    """(what, route that the server holds, request) of everything that the gateway does on its own for a request."""
    if templates:
        server.templates["t"] = {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
    unknown, other, expired = (server.add("alice") for _ in range(3))
    server.expire(expired)
    return [
        ("look-up", "GET", "/sandboxes/" + unknown, "GET", f"/sandboxes/{unknown}/logs", b""),
        ("look-up for a destroy", "GET", "/sandboxes/" + other, "DELETE", "/sandboxes/" + other, b""),
        ("count", "GET", "/sandboxes", "POST", "/sandboxes", b'{"image":"x"}'),
        ("template", "GET", "/templates/t", "POST", "/templates/t/spawn", b"{}"),
        ("count for a template", "GET", "/sandboxes", "POST", "/templates/t/spawn", b"{}"),
        ("prune's list", "GET", "/sandboxes", "DELETE", "/sandboxes", b""),
        ("prune's look", "GET", "/sandboxes/" + expired, "DELETE", "/sandboxes", b""),
        ("prune's destroy", "DELETE", "/sandboxes/" + expired, "DELETE", "/sandboxes", b""),
        ("list", "GET", "/sandboxes", "GET", "/sandboxes", b""),
    ]


def start_one(g, method, path, body):
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return raw(g, "alice", f"{method} {API}{path} HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode() + body)


LEAVING = {"alice": ["limits: { sandboxes: 50 }"], "bob": []}


def test_client_leaves():
    """A client that leaves while the gateway looks, counts, fetches or prunes for it leaves nothing behind; no spawn follows."""
    with started(LEAVING) as (server, g):
        for what, method, path, *request in under_way(server, g):
            alive = sorted(server.alive())
            with server.hold(method, path) as hold:
                sock = start_one(g, *request)
                hold.wait()
                sock.close()
                for _ in range(2):
                    assert g.ask("bob", target="/gateway/v1/health").status == 200, what
                hold.release()
                wait_for("the server is through", lambda: hold.done == hold.seen)
            assert g.api("bob", "GET", "/sandboxes").status == 200, what
            if what != "prune's destroy":
                assert sorted(server.alive()) == alive, what
        assert not server.since(0, "POST"), [r.target for r in server.since(0, "POST")]
        g.spawn("alice")  # the place of a spawn that was given up is free


def test_client_leaves_before_pool_status():
    """The same while it is not known yet whether the server is in pool mode."""
    with started() as (server, g):
        with server.hold("GET", "/pool/status") as hold:
            sock = start_one(g, "POST", "/sandboxes", b'{"image":"x"}')
            hold.wait()
            sock.close()
            for _ in range(2):
                assert g.ask("bob", target="/gateway/v1/health").status == 200
            hold.release()
            assert g.api("bob", "GET", "/sandboxes").status == 200
        assert not server.since(0, "POST")


def test_gateway_stops():
    """SIGTERM while each of these is under way: the gateway ends as it should, and nothing leaks."""
    with started(LEAVING) as (server, g):
        for what, method, path, *request in under_way(server, g):
            if what == "look-up":
                with server.hold("GET", "/pool/status") as hold:
                    sock = start_one(g, *request)
                    hold.wait()
                    assert g.stop() == 0, (what, g.log()[-3000:])
                    sock.close()
                g.start()
            with server.hold(method, path) as hold:
                sock = start_one(g, *request)
                hold.wait()
                assert g.stop() == 0, (what, g.log()[-3000:])
                sock.close()
            g.start()
        stream = Events(server, g, "alice")
        with server.hold("GET", "/sandboxes/sb-.*") as hold:
            server.add("alice")
            hold.wait()
            assert g.stop() == 0, g.log()[-3000:]
        stream.close()
        g.start()
        assert g.api("alice", "GET", "/sandboxes").status == 200


def test_reload_in_between():
    """A reload while a look-up is under way: the request goes on under the rule that it began with."""
    with started() as (server, g):
        s = server.add("alice")
        with server.hold("GET", "/sandboxes/" + s) as hold:
            waiting = Later(lambda: g.api("alice", "GET", f"/sandboxes/{s}/logs"))
            hold.wait()
            g.reload()
            hold.release()
            assert waiting.get().status == 200
        assert g.api("alice", "GET", f"/sandboxes/{s}/logs").status == 200
        expect_not_found(g.api("bob", "GET", f"/sandboxes/{s}/logs"), s)


# --- what the gateway says --------------------------------------------------------------------------------------------

def test_whoami_and_status():
    """whoami says isolation: owner; status has the caller's own numbers and nothing of the other's or of the whole."""
    with started({"alice": ["limits: { sandboxes: 3 }"], "bob": ["user_id: bob-the-other"]}) as (_, g):
        g.spawn("bob")
        me = g.ask("alice", target="/gateway/v1/whoami").json()
        assert me["isolation"] == "owner" and me["user_id"] == "alice" and me["rule"] == "alice", me
        assert "prune" in me["allow"] and "all" not in me["allow"], me
        answer = g.ask("alice", target="/gateway/v1/status")
        assert answer.json()["own"]["user_id"] == "alice", answer
        assert b"bob-the-other" not in answer.body
        for key in ("clients", "requests", "upstreams", "config", "unclaimed_spawns"):
            assert key not in answer.json(), answer.json()


def test_unknown_routes_under_isolation():
    """Under isolation a path that is not in the route table is 403 whatever is allowed; without it `all` covers it."""
    with started({"alice": ["allow: [all]"], "bob": ["allow: [all]", "isolation: none"]}) as (server, g):
        for path in ("/nosuch", "/users/me/ssh-keys", "/sandboxes/x/y/z/a/b", "/templates/x/y"):
            expect_error(g.api("alice", "GET", path), 403, "FORBIDDEN")
            assert g.api("bob", "GET", path).status == 404
        assert all(r.all("x-user-id") == ["bob"] for r in server.since(0))


def test_isolation_none_passes():
    """Without isolation everything passes as it is, prune included; a template spawn goes as the spawn that it is."""
    with started({"alice": [], "bob": ["allow: [all]", "isolation: none"]}) as (server, g):
        s = g.spawn("alice")
        server.expire(s)
        server.templates["t"] = {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        assert g.api("bob", "GET", "/sandboxes/" + s).status == 200 and g.listed("bob") == [s]
        assert g.api("bob", "POST", "/templates/t/spawn").status == 201
        assert not server.since(0, "POST", f"{API}/templates/t/spawn")
        sent = json.loads(server.since(0, "POST", f"{API}/sandboxes")[-1].body)
        assert sent["metadata"]["template"] == "t" and sent["metadata"]["stacygate.owner"] == "bob", sent
        assert g.api("bob", "DELETE", "/sandboxes").json() == {"pruned": 1}
        assert len(server.since(0, "DELETE", f"{API}/sandboxes")) == 1

if __name__ == "__main__":
    run(globals())
