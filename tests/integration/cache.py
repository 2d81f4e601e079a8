# SPDX-License-Identifier: Apache-2.0
"""What is remembered of templates, for whom, and how long (C1 to C9)."""
import os
import random
import threading

from cache_lib import RULES, CacheGateway, TemplateServer, age, cached, said
from owners_lib import Later, expect_error, parallel, raw, read_all, run
from tls_lib import DEADLINE, KEY, wait_for
from vm_lib import API, cut, status, text

LONG = "{ templates: { ttl: 1h } }"


def of_user(server, connection, request):
    """Names whom it answers."""
    server.send_json(connection, request, 200, [{"name": "of-" + request.user, "image": "i"}])
    return "answered"


def all_wait(g, n):
    """Of a gateway that has had no request before: so many have been read."""
    wait_for("all wait", lambda: g.log().count(": body -> answer") >= n)


def new_key(g, key):
    with open(os.open(g.path("key.new"), os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
        file.write(key + "\n")
    os.rename(g.path("key.new"), g.path("key"))


# --- whose it is, and what is remembered -----------------------------------------------------------------------------


def test_c1_identities():
    """C1: what was answered to one user is never given to another, nor is it the same entry."""
    with cached(cache=LONG) as (server, g), server.fault("GET", "/templates", of_user):
        for _ in range(3):
            for name in ("alice", "bob"):
                assert g.read(name).json()[0]["name"] == "of-" + name
        assert len(server.reads(user="alice")) == 1 and len(server.reads(user="bob")) == 1
        assert g.counters()["entries"] == 2 and g.counters()["hits"] == 4


def test_c1_rules_of_one_user():
    """Two rules with one user id and one credential are one identity."""
    rules = {"alice": ["user_id: same", "allow: [all]"], "bob": ["user_id: same", "isolation: none"], "admin": ["admin: true"]}
    with cached(rules, cache=LONG) as (server, g):
        assert "stored" in said(g.read("alice"))
        assert said(g.read("bob"))["hit"] and len(server.reads()) == 1


def test_c2_key():
    """C2: the query counts byte by byte; what a client sends in headers neither reaches the server nor another client."""
    evil = {"X-Forwarded-Host": "evil", "X-Original-URL": "/evil", "X-Rewrite-URL": "/evil", "Cookie": "evil", "X-Evil": "evil",
            "Range": "bytes=0-1", "If-None-Match": "*", "Accept-Encoding": "gzip"}
    with cached(cache=LONG) as (server, g):
        server.put("t")
        for path in ("/templates?a=1&b=2", "/templates?b=2&a=1", "/templates?a=1&b=2&", "/templates/", "/templates", "/templates?",
                     "/templates/t", "/templates/t/"):
            first, second = g.read(path=path, headers=evil), g.read(path=path)
            assert said(first).get("fwd") == "miss" and said(second).get("hit"), (path, first.headers, second.headers)
            assert first.body == second.body
            assert len(server.reads(target=API + path)) == 1, path
        for r in server.reads():
            assert not [h for h in r.headers if "evil" in h[1] or h[0] in ("range", "if-none-match", "accept-encoding")], r.headers


def test_c2_get_with_body():
    """C2: a GET with a body is answered by the server alone: not from memory, and nothing is remembered of it."""
    with cached(cache=LONG) as (server, g):
        for framed in (b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"):
            mark = server.mark()
            for _ in range(2):
                answer = read_all(raw(g, "alice", b"GET /api/v1/templates HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + framed))
                assert answer.startswith(b"HTTP/1.1 200 ") and b"\r\nCache-Status: stacygate; fwd=bypass\r\n" in answer, answer
            assert len(server.reads(mark)) == 2 and not [r for r in server.reads(mark) if r.body]
        assert g.counters()["entries"] == 0
        assert said(g.read())["stored"]


def answer_bytes(data, close=False):
    def act(_, connection, __):
        connection.send(data)
        if close:
            connection.close()
        return "closed" if close else "answered"
    return act


def test_c3_never_remembered():
    """C3: nothing but a 200 that has come whole, and says nothing against it."""
    plain = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    body = b"Content-Length: 3\r\n\r\n[]\n"
    acts = {
        "short": (answer_bytes(plain + b"Content-Length: 30\r\n\r\n[]\n", True), 502),
        "no last chunk": (answer_bytes(plain + b"Transfer-Encoding: chunked\r\n\r\n3\r\n[]\n\r\n", True), 502),
        "until close": (answer_bytes(plain + b"\r\n[]\n", True), 200),
        "cut": (cut("behind head"), 502),
        "500": (status(500), 500), "404": (status(404, value={"code": "NOT_FOUND", "message": "no"}), 404),
        "403": (status(403, value={"code": "FORBIDDEN", "message": "no"}), 403), "429": (status(429), 429),
        "206": (answer_bytes(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\n" + body), 206),
        "204": (answer_bytes(b"HTTP/1.1 204 No Content\r\n\r\n"), 204),
        "content-range": (answer_bytes(plain + b"Content-Range: bytes 0-2/9\r\n" + body), 200),
        "set-cookie": (answer_bytes(plain + b"Set-Cookie: a=b\r\n" + body), 200),
        "no-store": (answer_bytes(plain + b"Cache-Control: max-age=60, No-Store\r\n" + body), 200),
        "private": (answer_bytes(plain + b'Cache-Control: private="x"\r\n' + body), 200),
        "no-cache": (answer_bytes(plain + b"Cache-Control: no-cache\r\n" + body), 200),
        "max-age=0": (answer_bytes(plain + b"Cache-Control: max-age=0\r\n" + body), 200),
        "vary": (answer_bytes(plain + b"Vary: Origin, Cookie\r\n" + body), 200),
        "vary *": (answer_bytes(plain + b"Vary: *\r\n" + body), 200),
        "encoded": (answer_bytes(plain + b"Content-Encoding: gzip\r\n" + body), 200),
        "no JSON": (text(200, b"<html>", "text/html"), 200),
    }
    with cached(cache=LONG) as (server, g):
        for name, (act, code) in acts.items():
            mark = server.mark()
            with server.fault("GET", "/templates", act):
                for _ in range(2):
                    answer = g.read()
                    assert answer.status == code and "stored" not in said(answer) and "hit" not in said(answer), (name, answer)
            assert len(server.reads(mark)) == 2, name
            assert not [h for h in answer.headers if h[0].lower() == "set-cookie"]
        assert g.counters()["entries"] == 0
        assert "stored" in said(g.read())


# --- writes --------------------------------------------------------------------------------------------------------


def test_c4_read_your_writes():
    """C4: whoever has the answer to his write sees it in the next read, whoever reads and writes beside him."""
    with cached(cache=LONG) as (server, g):
        for name in ("alice", "bob"):
            server.put(name)

        def work(name, seed):
            chance = random.Random(seed)
            connection = g.connect(name)
            for i in range(500):
                if chance.random() < 0.5:
                    connection.ask("GET", API + "/templates")
                put = connection.ask("PUT", f"{API}/templates/{name}", b'{"image":"%s-%d"}' % (name.encode(), i))
                assert put.status == 200, put
                path = chance.choice((f"/templates/{name}", "/templates"))
                got = connection.ask("GET", API + path).json()
                mine = got if isinstance(got, dict) else next(t for t in got if t["name"] == name)
                assert mine["image"] == f"{name}-{i}", (i, mine)
            return True
        assert parallel([lambda: work("alice", 1), lambda: work("bob", 2)]) == [True, True]


def test_c4_fetch_before_the_write():
    """C4: what was asked for before a write ended is not remembered, and nobody joins it."""
    with cached(cache=LONG) as (server, g):
        server.put("t")
        old = server.templates["t"]

        def late(server, connection, request):
            hold.hold()
            server.send_json(connection, request, 200, old)
            return "answered"
        with server.hold("GET", "/none") as hold:
            with server.fault("GET", "/templates/t", late) as fault:
                reader = Later(lambda: g.read(path="/templates/t"))
                fault.wait()
            for method, body in (("PUT", {"image": "new"}),):
                assert g.api("bob", method, "/templates/t", body).status == 200
            assert g.read(path="/templates/t").json()["image"] == "new"
            hold.release()
            answer = reader.get()
            assert answer.json()["image"] == "node:20" and "stored" not in said(answer)
            assert g.read(path="/templates/t").json()["image"] == "new"


def test_c4_every_write():
    """C4: POST, PUT and DELETE drop list and entries of every identity, also when the server refuses them."""
    with cached(cache=LONG) as (server, g):
        server.put("t")
        for method, path, body, code in (("POST", "/templates", {"name": "u", "image": "i"}, 201), ("PUT", "/templates/t", {"image": "j"}, 200),
                                         ("PUT", "/templates/none", {"image": "j"}, 404), ("DELETE", "/templates/u", None, 200),
                                         ("DELETE", "/templates/none", None, 404)):
            for name in ("alice", "bob"):
                for read in ("/templates", "/templates/t"):
                    g.read(name, read)
                    assert said(g.read(name, read))["hit"]
            assert g.api("bob", method, path, body).status == code
            assert g.counters()["entries"] == 0, (method, path)


def test_c4_writer_leaves():
    """C4: a write whose client has left drops what was read meanwhile when it ends."""
    with cached(cache=LONG) as (server, g):
        server.put("t")
        with server.hold("PUT", "/templates/t") as hold:
            body = b'{"image":"new"}'
            sock = raw(g, "alice", b"PUT /api/v1/templates/t HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            hold.wait()
            sock.close()
            wait_for("the gateway sees that", lambda: "left" in g.log() or "closed" in g.log())
            assert g.read(path="/templates/t").json()["image"] == "node:20"
            hold.release()
        wait_for("the read sees the write", lambda: g.read(path="/templates/t").json()["image"] == "new")


# --- one fetch for all who wait --------------------------------------------------------------------------------------


def test_c5_fifty_readers():
    """C5: 50 parallel reads cause one fetch; another identity has its own."""
    with cached(cache=LONG) as (server, g), server.fault("GET", "/templates", of_user):
        with server.hold("GET", "/templates") as hold:
            server.active_faults.reverse()  # it is held first
            readers = [Later(lambda: g.read("alice")) for _ in range(50)]
            hold.wait()
            other = Later(lambda: g.read("bob"))
            hold.wait(2)
            all_wait(g, 51)
            hold.release()
            answers = [r.get() for r in readers]
        assert {a.body for a in answers} == {answers[0].body} and answers[0].json()[0]["name"] == "of-alice"
        assert other.get().json()[0]["name"] == "of-bob"
        assert len(server.reads(user="alice")) == 1 and len(server.reads(user="bob")) == 1
        joined = [said(a) for a in answers if "collapsed" in said(a)]
        late = [said(a) for a in answers if "hit" in said(a)]
        assert len(joined) + len(late) == 49 and all(s["stored"] for s in joined), [said(a) for a in answers]
        assert len({dict(a.headers)["X-Request-ID"] for a in answers}) == 50


def test_c5_those_who_leave():
    """One who leaves takes the fetch with him only when nobody else waits for it."""
    with cached(cache=LONG) as (server, g):
        with server.hold("GET", "/templates") as hold:
            socks = [raw(g, "alice", b"GET /api/v1/templates HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n") for _ in range(3)]
            hold.wait()
            all_wait(g, 3)
            socks[0].close()
            socks[1].close()
            hold.release()
            assert b"[]\n" in read_all(socks[2])
        assert len(server.reads()) == 1
        with server.hold("GET", "/templates/none") as hold:
            raw(g, "alice", b"GET /api/v1/templates/none HTTP/1.1\r\nHost: h\r\n\r\n").close()
            hold.wait()
            wait_for("it is given up", lambda: g.pool_of("main")["leased"] == 0)


def test_c5_fetch_fails():
    """All who wait for a fetch that fails hear of it, each with his own id; nobody asks again for them."""
    with cached(cache=LONG) as (server, g):
        with server.hold("GET", "/none") as gate:
            def act(server, connection, request):
                gate.hold()
                return cut("behind head")(server, connection, request)
            with server.fault("GET", "/templates", act) as fault:
                readers = [Later(g.read) for _ in range(5)]
                fault.wait()
                all_wait(g, 5)
                gate.release()
                answers = [r.get() for r in readers]
        for answer in answers:
            expect_error(answer, 502, "CONNECTION_ERROR")
        assert len({dict(a.headers)["X-Request-ID"] for a in answers}) == 5 and len(server.reads()) == 1


# --- HEAD, absence, bounds, changes ---------------------------------------------------------------------------------


def test_c6_head():
    """C6: a HEAD is answered as its GET without the body, and leaves nothing behind that a GET would be answered with."""
    with cached(cache=LONG) as (server, g):
        server.put("t")
        head = g.read(path="/templates/t", method="HEAD")
        assert head.status == 200 and head.body == b"" and "stored" not in said(head) and g.counters()["entries"] == 0
        got = g.read(path="/templates/t")
        assert got.json()["name"] == "t" and "stored" in said(got)
        assert dict(head.headers)["Content-Length"] == dict(got.headers)["Content-Length"] == str(len(got.body))
        head = g.read(path="/templates/t", method="HEAD")
        assert said(head)["hit"] and head.body == b"" and g.read(path="/templates/t").body == got.body


def test_c7_absence():
    """C7: that there is none, or that one may not see it, is asked anew every time, and by each for himself."""
    with cached(cache=LONG) as (server, g):
        for code in (404, 403):
            with server.fault("GET", "/templates/t", status(code, value={"code": "X", "message": "no"})):
                assert g.read("alice", "/templates/t").status == code
            server.put("t")
            assert g.read("bob", "/templates/t").status == 200
            assert g.read("alice", "/templates/t").status == 200
            assert g.ask("admin", "DELETE", "/gateway/v1/cache").status == 200


def test_c8_bounds():
    """C8: neither more entries nor more bytes than are configured, whatever is asked for."""
    for cache, entries, size in (("{ max_entries: 100, templates: { ttl: 1h } }", 100, 67108864),
                                 ("{ max_bytes: 256KiB, templates: { ttl: 1h } }", 4096, 262144)):
        with cached(cache=cache) as (server, g):
            server.put("t", description="x" * 300)
            connection = g.connect("alice")
            for i in range(200):
                connection.ask("GET", f"{API}/templates/t?n={i}")
            before = g.resident_kib()
            for i in range(3000):
                assert connection.ask("GET", f"{API}/templates/t?n={i}&pad={'y' * (i % 500)}").status == 200
                if i % 500 == 0:
                    n = g.counters()
                    assert n["entries"] <= entries and n["bytes"] <= size, n
            n = g.counters()
            assert n["entries"] <= entries and n["bytes"] <= size and n["evictions"] > 1000, n
            if not os.environ.get("SG_SANITIZE"):
                assert g.resident_kib() - before <= size * 1.1 / 1024 + 2048
            # The one asked for last is still there.
            assert said(connection.ask("GET", f"{API}/templates/t?n=2999&pad={'y' * (2999 % 500)}"))["hit"]


def test_c8_large():
    """C8: a list over 4 MiB passes and is not remembered; one over 16 MiB is refused."""
    with cached(cache=LONG) as (server, g):
        def send(megabytes):
            def act(server, connection, request):
                one = {"name": "n", "image": "i", "cpu_cores": 2, "description": "d" * 1048000}
                server.send_json(connection, request, 200, [one] * megabytes)
                return "answered"
            return act
        for megabytes, stored in ((3, True), (5, False), (14, False)):
            with server.fault("GET", "/templates", send(megabytes)):
                answer = g.read()
            value = answer.json()
            assert len(value) == megabytes and value[-1]["vcpus"] == 2 and ("stored" in said(answer)) == stored, said(answer)
            g.ask("admin", "DELETE", "/gateway/v1/cache")
        with server.fault("GET", "/templates", send(17)):
            expect_error(g.read(), 502, "CONNECTION_ERROR", "too large")


def test_c9_reload():
    """C9: a reload drops what was remembered under the old configuration."""
    with cached(cache=LONG) as (server, g):
        g.read("bob")
        assert said(g.read("bob"))["hit"]
        g.rules["bob"] = ["allow: [templates:read]"]
        g.configure()
        g.reload()
        assert g.counters()["entries"] == 0
        mark = server.mark()
        assert "stored" in said(g.read("bob")) and len(server.reads(mark)) == 1
        g.rules["bob"] = ["allow: [system]"]
        g.configure()
        g.reload()
        expect_error(g.read("bob"), 403, "FORBIDDEN")


def test_c9_key_rotation():
    """C9: what was read with one value of a key is not given to who would use another."""
    with cached(cache=LONG) as (server, g):
        g.read()
        assert said(g.read())["hit"]
        mark = server.mark()
        new_key(g, KEY + "-two")
        wait_for("the new key is used", lambda: "holds a new key" in g.log())
        assert said(g.read())["fwd"] == "miss"
        assert [r.all("x-api-key") for r in server.reads(mark)] == [[KEY + "-two"]]


def test_c9_key_rotated_at_the_server():
    """C9: a key that the server refuses is read again, and the request sent with the new one; then nothing old is left."""
    two = KEY + "-two"

    def refuse(server, connection, request):
        if request.all("x-api-key") == [two]:
            return None
        return status(401, value={"code": "UNAUTHORIZED", "message": "invalid or missing API key"})(server, connection, request)
    for ask in (lambda g: g.read(path="/templates/t"), lambda g: g.api("alice", "PUT", "/templates/t", {"image": "new"}),
                lambda g: g.api("alice", "POST", "/templates", {"name": "u", "image": "i"}), lambda g: g.api("alice", "DELETE", "/templates/t"),
                lambda g: g.api("alice", "POST", "/templates/t/spawn")):
        with cached(cache=LONG, api_key="{{ command: [/bin/cat, {key}], ttl: 10h }}") as (server, g):
            wait_for("the key is there", lambda: g.ask("admin", target="/gateway/v1/ready").status == 200)
            server.put("t")
            g.read()
            new_key(g, two)
            mark = server.mark()
            with server.fault("*", "/(templates|sandboxes).*", refuse):
                answer = ask(g)
                assert answer.status in (200, 201), answer
                assert "hit" not in said(g.read()) and said(g.read())["hit"]
            keys = [r.all("x-api-key")[0] for r in server.since(mark, path=API + "/(templates|sandboxes).*")]
            assert keys[0] == KEY and set(keys[1:]) == {two}, keys
            # One that stays refused is the server's answer, and what was remembered is not given in its place.
            with server.fault("GET", "/templates", status(401)):
                answer = g.read(headers={"Cache-Control": "no-cache"})
                assert answer.status == 401 and answer.json()["message"] == "made up 401", answer


if __name__ == "__main__":
    run(globals())
