# SPDX-License-Identifier: Apache-2.0
"""What is remembered of templates when it is old, when the server is gone, and when somebody wants it fetched."""
import os
import re
import stat

from cache_lib import age, cached, said
from owners_lib import Later, expect_error, headers_of, raw, read_all, run, subscribed
from tls_lib import KEY, wait_for
from vm_lib import API, cut, garbage, status

KEEP = "{ keep: true, templates: { ttl: 1h } }"
# Long enough for what is fresh not to be old before a slow machine asks, short enough to wait for.
SOON = "{ templates: { ttl: 300ms, stale_while_revalidate: 0s, stale_if_error: 1h } }"
ANEW = "{ templates: { ttl: 300ms, stale_while_revalidate: 1h, stale_if_error: 1h } }"
LONG = "{ templates: { ttl: 1h } }"


def old(g, path="/templates"):
    """Reads until what is remembered is given as stale, and gives that answer."""
    def read():
        answer = g.read(path=path)
        assert answer.status == 200, answer
        return answer if said(answer).get("ttl", 0) < 0 else None
    return wait_for("it is stale", read)


def test_fresh():
    """A remembered answer says so, how old it is and how long it is good; it is the first one byte by byte but for that."""
    with cached(cache="{ templates: { ttl: 90s } }") as (server, g):
        server.put("t")
        first, second = g.read(), g.read()
        assert said(first) == {"fwd": "miss", "stored": True} and age(first) is None, first.headers
        assert said(second)["hit"] and 80 <= said(second)["ttl"] <= 90 and 0 <= age(second) <= 10, second.headers
        assert first.body == second.body

        def rest(answer):
            return [h for h in answer.headers if h[0].lower() not in ("cache-status", "age", "x-request-id")]
        assert rest(first) == rest(second), (first.headers, second.headers)
        assert headers_of(first, "x-request-id") != headers_of(second, "x-request-id")
        assert len(server.reads()) == 1
        wait_for("both are in the log", lambda: re.findall(r"upstream_status=(\d+)", g.log()) == ["200", "0"])


def test_pipelined():
    """Requests behind one another on a connection are answered in their order, remembered or not."""
    with cached(cache=LONG) as (server, g):
        for i in range(10):
            server.put(f"t{i}")
        order = [i * 7 % 10 for i in range(200)]
        data = b"".join(b"GET /api/v1/templates/t%d HTTP/1.1\r\nHost: h\r\n\r\n" % i for i in order)
        got = read_all(raw(g, "alice", data + b"GET /api/v1/templates/none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
        assert [int(n) for n in re.findall(rb'"name":"t(\d)"', got)] == order
        assert got.count(b"; hit; ") == 190 and len(server.reads()) == 11


def test_age_of_upstream():
    """An age that the answer has already counts, and max-age can only shorten."""
    body = b"Content-Type: application/json\r\nContent-Length: 3\r\n\r\n[]\n"

    def send(lines):
        def act(_, connection, __):
            connection.send(b"HTTP/1.1 200 OK\r\n" + lines + body)
            return "answered"
        return act
    for lines, low, high, told in ((b"Age: 70\r\n", 15, 20, 70), (b"Cache-Control: max-age=40\r\n", 35, 40, 0),
                                   (b"Cache-Control: max-age=400\r\n", 85, 90, 0)):
        with cached(cache="{ templates: { ttl: 90s } }") as (server, g), server.fault("GET", "/templates", send(lines)):
            g.read()
            answer = g.read()
            assert low <= said(answer)["ttl"] <= high and told <= age(answer) <= told + 5, (lines, answer.headers)


def test_stale_while_revalidate():
    """What is a little old is given at once, and made anew for the next."""
    with cached(cache=ANEW) as (server, g):
        server.put("t")
        g.read()
        server.put("u")
        mark = server.mark()
        answer = old(g)
        assert said(answer)["hit"] and said(answer)["detail"] == "stale-while-revalidate" and len(answer.json()) == 1
        wait_for("the next one gets what is new", lambda: len(g.read().json()) == 2)
        assert server.reads(mark)
        with server.hold("GET", "/templates") as hold:
            old(g)
            for _ in range(5):
                assert said(g.read())["detail"] == "stale-while-revalidate"
            hold.wait()
            assert hold.seen == 1
            hold.release()


def test_stale_while_down():
    """With the server stopped templates still answer, and say that they are stale; what was never read is 502."""
    with cached(cache=SOON) as (server, g):
        server.put("t")
        for name in ("alice", "bob"):
            for path in ("/templates", "/templates/t"):
                assert g.read(name, path).status == 200
        server.stop()
        for path in ("/templates", "/templates/t"):
            answer = old(g, path)
            assert said(answer)["hit"] and said(answer)["ttl"] < 0 and said(answer)["detail"] == "stale-if-error", answer.headers
            assert b'"t"' in answer.body and age(answer) is not None
        expect_error(g.read(path="/templates/none"), 502, "CONNECTION_ERROR")
        expect_error(g.read("admin"), 502, "CONNECTION_ERROR")  # another identity
        expect_error(g.read(headers={"Cache-Control": "no-cache"}), 502, "CONNECTION_ERROR")
        assert g.counters()["stale"] >= 2


def test_stale_if_error():
    """A server in trouble is as one that is gone; one that refuses is not."""
    with cached(cache=SOON) as (server, g):
        server.put("t")
        for act, code in ((status(500), 500), (status(502), 502), (status(503), 503), (status(504), 504), (garbage, None), (cut("head"), None),
                          (cut("body"), None)):
            g.read()
            wait_for("it is old", lambda: said(g.read()).get("fwd") == "stale")
            with server.fault("GET", "/templates", act):
                answer = old(g)
                want = {"fwd": "stale", "fwd-status": code} if code else {"hit": True}
                assert {**said(answer), "ttl": 0} == {**want, "ttl": 0, "detail": "stale-if-error"}, answer.headers
                assert b'"t"' in answer.body
        for code in (401, 403, 404, 429):
            g.read()
            with server.fault("GET", "/templates", status(code)):
                wait_for("the refusal passes", lambda: g.read().status == code)


def test_too_old():
    """Beyond stale_if_error nothing is given."""
    with cached(cache="{ templates: { ttl: 50ms, stale_while_revalidate: 0s, stale_if_error: 100ms } }") as (server, g):
        g.read()
        server.stop()
        wait_for("it is too old", lambda: g.read().status == 502)
        expect_error(g.read(), 502, "CONNECTION_ERROR")


def test_off():
    """With a ttl of 0s nothing is remembered, and both spellings are shown all the same."""
    with cached(cache="{ templates: { ttl: 0s } }") as (server, g):
        server.put("t", cpu_cores=3)
        for _ in range(2):
            answer = g.read(path="/templates/t")
            assert said(answer) == {"fwd": "bypass"} and answer.json()["vcpus"] == 3
        assert len(server.reads()) == 2 and g.counters()["entries"] == 0


def test_no_cache():
    """no-cache, Pragma and max-age have it fetched; what comes is remembered, but under no-store."""
    with cached(cache=LONG) as (server, g):
        for headers, want in (({"Cache-Control": "no-cache"}, {"fwd": "request", "stored": True}),
                              ({"Pragma": "no-cache"}, {"fwd": "request", "stored": True}),
                              ({"Cache-Control": "foo=\"x\", Max-Age=0"}, {"fwd": "request", "stored": True}),
                              ({"Cache-Control": "no-cache, no-store"}, {"fwd": "request"})):
            g.read()
            server.put("new-" + str(server.writes))
            mark = server.mark()
            assert said(g.read())["hit"]
            answer = g.read(headers=headers)
            assert said(answer) == want and len(answer.json()) == server.writes and len(server.reads(mark)) == 1, (headers, answer.headers)
            if "stored" in want:
                assert len(g.read().json()) == server.writes and len(server.reads(mark)) == 1
        for headers in ({"Cache-Control": "max-age=3600"}, {"Pragma": "no-cache", "Cache-Control": "max-age=3600"}, {"Cache-Control": "no-store"}):
            assert said(g.read(headers=headers))["hit"], headers


def test_purge():
    """DELETE /gateway/v1/cache drops templates and owners, says how many, and is for admin rules."""
    with cached(cache=LONG) as (server, g):
        subscribed(server, g, "alice")
        assert g.ask("admin", "DELETE", "/gateway/v1/cache").status == 200
        assert g.api("alice", "GET", f"/sandboxes/{server.alive('alice')[0]}/logs").status == 200
        for name in ("alice", "bob"):
            g.read(name)
        before = g.counters()
        assert before["entries"] == 2 and before["bytes"] > 0 and before["fetches"] == 2 and before["misses"] == 2, before
        expect_error(g.ask("alice", "DELETE", "/gateway/v1/cache"), 403, "FORBIDDEN")
        answer = g.ask("admin", "DELETE", "/gateway/v1/cache")
        assert answer.status == 200 and answer.json() == {"dropped": 3}, answer
        assert g.ask("admin", "DELETE", "/gateway/v1/cache").json() == {"dropped": 0}
        mark = server.mark()
        assert said(g.read())["fwd"] == "miss" and len(server.reads(mark)) == 1
        assert g.counters()["entries"] == 1
        assert "cache" not in g.ask("alice", target="/gateway/v1/status").json()


def test_purge_under_way():
    """What was asked for before the purge is not remembered after it."""
    with cached(cache=LONG) as (server, g):
        with server.hold("GET", "/templates") as hold:
            reader = Later(g.read)
            hold.wait()
            assert g.ask("admin", "DELETE", "/gateway/v1/cache").status == 200
            hold.release()
            assert said(reader.get()) == {"fwd": "miss"}
        assert said(g.read()) == {"fwd": "miss", "stored": True}


def test_user_agent():
    """A fetch carries the User-Agent of whom it is made for, and nothing else of his."""
    with cached(cache=LONG) as (server, g):
        g.read(headers={"User-Agent": "mine/1.0", "X-Other": "x"})
        request, = server.reads()
        assert request.all("user-agent") == ["mine/1.0"] and not request.all("x-other") and request.all("x-user-id") == ["alice"]


def test_pool_mode():
    """Templates are nobody's sandboxes: where a shared machine refuses those, they are read and written all the same."""
    with cached({"alice": ["allow: [all]"], "bob": [], "admin": ["admin: true"]}) as (server, g):
        server.pool = {"enabled": True}
        expect_error(g.api("alice", "GET", "/sandboxes"), 503, "UNAVAILABLE")
        assert g.api("alice", "POST", "/templates", {"name": "t", "image": "i"}).status == 201
        assert g.read("bob", "/templates/t").status == 200
        expect_error(g.api("bob", "DELETE", "/templates/t"), 403, "FORBIDDEN")


def test_previews_ttl():
    """previews.ttl is how long a preview domain is remembered; with 0s the server is asked each time, and a purge drops it."""
    for cache, asked in (("{ previews: { ttl: 1h } }", 0), ("{ previews: { ttl: 0s } }", 2)):
        with cached(cache=cache) as (server, g):
            subscribed(server, g, "alice")
            sandbox = server.alive("alice")[0]
            target = f"/gateway/v1/sandboxes/{sandbox}/preview/3000"
            assert g.ask("alice", target=target).status == 200
            mark = server.mark()
            for _ in range(2):
                assert g.ask("alice", target=target).status == 200
            assert len(server.since(mark, "GET", f"{API}/sandboxes/{sandbox}")) == asked, cache
            g.ask("admin", "DELETE", "/gateway/v1/cache")
            mark = server.mark()
            assert g.ask("alice", target=target).status == 200
            assert server.since(mark, "GET", f"{API}/sandboxes/{sandbox}")


# --- over a restart ------------------------------------------------------------------------------------------------------


def kept(g):
    """Names of what is kept, in order."""
    folder = g.path("state/cache")
    return sorted(n for n in os.listdir(folder) if n != "new") if os.path.isdir(folder) else []


def text_of(g, name):
    with open(g.path("state/cache/" + name), "rb") as file:
        return file.read()


def test_keep():
    """After a restart templates answer while the server is down, to whom they were answered before, and say that they are stale."""
    with cached(cache=KEEP) as (server, g):
        server.put("t")
        for name in ("alice", "bob"):
            for path in ("/templates", "/templates/t", "/templates/t?a=1"):
                g.read(name, path)
        wait_for("they are kept", lambda: len(kept(g)) == 6)
        assert stat.S_IMODE(os.stat(g.path("state/cache")).st_mode) == 0o700
        for name in kept(g):
            assert stat.S_IMODE(os.stat(g.path("state/cache/" + name)).st_mode) == 0o600
            assert KEY.encode() not in text_of(g, name)
        g.restart()
        mark = server.mark()
        with server.fault("GET", "/templates.*", status(503)):
            for name in ("alice", "bob"):
                for path in ("/templates", "/templates/t", "/templates/t?a=1"):
                    answer = g.read(name, path)
                    assert answer.status == 200 and b'"t"' in answer.body and answer.json(), answer
                    assert said(answer)["fwd"] == "stale" and said(answer)["detail"] == "stale-if-error", answer.headers
                    assert age(answer) is not None
            assert g.read("admin").status == 503 and g.read(path="/templates/t?a=2").status == 503
        assert len(server.reads(mark)) == 8  # never given without asking the server
        assert said(g.read()) == {"fwd": "stale", "stored": True} and said(g.read())["hit"]
        server.stop()
        assert said(g.read("bob"))["detail"] == "stale-if-error" and said(g.read("alice"))["ttl"] > 0
        g.restart()
        assert said(g.read("bob"))["hit"] and said(g.read("bob"))["detail"] == "stale-if-error"


def test_keep_and_writes():
    """What a write or a purge has dropped does not come back with a restart, nor what the server denies since."""
    with cached(cache=KEEP) as (server, g):
        server.put("t")
        for drop, left in ((lambda: g.api("alice", "PUT", "/templates/t", {"image": "new"}), 0),
                           (lambda: g.ask("admin", "DELETE", "/gateway/v1/cache"), 0),
                           (lambda: server.templates.pop("t") and g.read(path="/templates/t", headers={"Cache-Control": "no-cache"}), 3)):
            for name in ("alice", "bob"):
                for path in ("/templates", "/templates/t"):
                    assert g.read(name, path).status == 200
            wait_for("they are kept", lambda: len(kept(g)) == 4)
            assert drop().status in (200, 404)
            wait_for("they are gone", lambda: len(kept(g)) == left)
            g.restart()
            with server.fault("GET", "/templates.*", status(503)):
                assert g.read(path="/templates/t").status == 503
                assert g.read("bob", "/templates/t").status == (200 if left else 503)


def test_keep_dropped_at_once():
    """What is dropped before it was written is never written, and what is remembered when the daemon stops is."""
    with cached(cache=KEEP) as (server, g):
        server.put("t")
        for _ in range(20):
            g.read()
            g.api("alice", "PUT", "/templates/t", {"image": "new"})
        g.read("bob")
        g.restart()
        assert len(kept(g)) == 1
        with server.fault("GET", "/templates.*", status(503)):
            assert g.read().status == 503 and g.read("bob").status == 200


def test_keep_is_whole():
    """What is cut, changed, empty, a link or of another is not taken, and removed."""
    with cached(cache=KEEP) as (server, g):
        server.put("t")
        for path in ("/templates", "/templates/t"):
            g.read(path=path)
        wait_for("they are kept", lambda: len(kept(g)) == 2)
        first, second = kept(g)
        data = text_of(g, first)
        for bad in (b"", data[:-1], data + b"x", data[:40], b"\0" * len(data), data.replace(b"node:20", b"node:66"), data.replace(b"alice", b"bobby"),
                    b"stacygate-cache-1 0 0 0 0 0 0 0 0 0 0\n", data.replace(b" ", b" 9", 1), data.replace(b"cache-1", b"cache-2")):
            with open(g.path("state/cache/" + first), "wb") as file:
                file.write(bad)
            with open(g.path("state/cache/odd name"), "wb") as file:
                file.write(data)
            os.symlink("/etc/passwd", g.path("state/cache/link"))
            g.restart()
            assert kept(g) == [second], (bad, kept(g))
            with server.fault("GET", "/templates.*", status(503)):
                codes = sorted(g.read(path=path).status for path in ("/templates", "/templates/t"))
                assert codes == [200, 503] and g.read("bob").status == 503, (bad, codes)
        assert os.path.getsize("/etc/passwd")


def test_keep_ends():
    """A reload, another place of the server and keep: false end what was kept; so does its age."""
    with cached(cache=KEEP) as (server, g):
        server.put("t")

        def fill():
            g.read()
            wait_for("it is kept", lambda: len(kept(g)) == 1)
        fill()
        g.reload()
        assert kept(g) == []
        fill()
        g.upstream_lines = ["timeouts: { connect: 4s }"]
        g.configure()
        g.restart()
        assert len(kept(g)) == 1, "the same server"
        server.port, port = server.port + 1 if server.port < 65535 else server.port - 1, server.port
        g.configure()
        g.restart()
        assert kept(g) == []
        server.port = port
        g.configure()
        g.restart()
        fill()
        g.cache = "{ keep: true, templates: { ttl: 1ms, stale_while_revalidate: 0s, stale_if_error: 1ms } }"
        g.configure()
        g.restart()
        assert kept(g) == []
        g.cache = KEEP
        g.configure()
        g.restart()
        fill()
        g.cache = LONG
        g.configure()
        g.restart()
        assert kept(g) == []


def test_keep_bound():
    """No more files than entries, the ones put last stay."""
    with cached(cache="{ keep: true, max_entries: 20, templates: { ttl: 1h } }") as (server, g):
        server.put("t")
        for i in range(100):
            g.read(path=f"/templates/t?n={i}")

        def last_is_kept():
            try:
                return len(kept(g)) == 20 and any(b"?n=99HTTP" in text_of(g, n) for n in kept(g))
            except FileNotFoundError:  # it has just made way
                return False
        wait_for("the last one is kept, and no more than allowed", last_is_kept)


def test_keep_impossible():
    """A place that cannot be written is a warning, and nothing else."""
    with cached(cache=LONG) as (server, g):
        with open(g.path("state/cache"), "w", encoding="ascii"):
            pass
        g.cache = KEEP
        g.configure()
        g.restart()
        assert "cache: nothing can be kept" in g.log()
        g.read()
        assert said(g.read())["hit"]


if __name__ == "__main__":
    run(globals())
