# SPDX-License-Identifier: Apache-2.0
"""What shows everybody's sandboxes shows each caller his own (C11): list, events, prune."""
import json
from datetime import datetime

from owners_lib import Events, LEAN, NEVER, UPGRADE, WITH_ROOT, expect_error, feed_of, headers_of, raw, read_all, read_until, run, started
from tls_lib import wait_for
from vm_lib import API, cut, garbage, status, text

# --- C11: lists -------------------------------------------------------------------------------------------------------

def test_c11_list():
    """C11: each sees his own fifty, byte for byte as the server wrote them, in its order."""
    with started() as (server, g):
        made = {name: [g.spawn(name, metadata={"n": f"<{i}> \u00e9 \\ \" ]}},"}) for i in range(50)] for name in ("alice", "bob")}
        for name, other in (("alice", "bob"), ("bob", "alice")):
            for _ in range(2):
                answer = g.api(name, "GET", "/sandboxes")
                assert [s["id"] for s in answer.json()] == made[name][::-1]
                assert other.encode() not in answer.body
                assert headers_of(answer, "content-type") == ["application/json"] and answer.body.endswith(b"]\n")
            with server.state:
                shown = server.shown(server.records[made[name][0]], datetime.fromisoformat("2026-01-01T00:00:00+00:00").tzinfo)
            assert answer.json()[-1] == shown
            g.restart()
        assert g.api("alice", "GET", "/sandboxes/").json() == g.api("alice", "GET", "/sandboxes").json()
        head = g.api("alice", "HEAD", "/sandboxes")
        assert head.status == 200 and head.body == b"", head


def test_c11_list_of_nothing():
    """C11: who has none sees an empty list."""
    with started() as (server, g):
        assert g.api("alice", "GET", "/sandboxes").body == b"[]\n"
        for _ in range(30):
            server.add("bob")
        assert g.api("alice", "GET", "/sandboxes").body == b"[]\n"
        assert len(g.listed("bob")) == 30


def test_c11_no_tunnel_past_the_filters():
    """C11: a WebSocket is asked of the server only for exec in a sandbox; elsewhere bytes would pass unread."""
    with started() as (server, g):
        sandbox = g.spawn("alice")
        for path in ("/sandboxes", f"/sandboxes/{sandbox}", f"/sandboxes/{sandbox}/logs", "/templates"):
            mark = server.mark()
            head = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
            with raw(g, "alice", f"GET {API}{path} HTTP/1.1\r\nHost: h\r\n{head}\r\n".encode()):
                wait_for(f"{path} comes", lambda p=path, m=mark: server.since(m, path=API + p))
            asked = server.since(mark, path=API + path)
            assert asked and not any(r.all("upgrade") + r.all("sec-websocket-key") for r in asked), [r.headers for r in asked]
        with raw(g, "alice", f"GET {API}/events HTTP/1.1\r\nHost: h\r\n{head}\r\n".encode()) as sock:
            assert sock.recv(13) == b"HTTP/1.1 200 "
        asked = server.since(0, path=API + "/events")
        assert asked and not any(r.all("upgrade") + r.all("sec-websocket-key") for r in asked), [r.headers for r in asked]


def test_c11_list_of_50000():
    """C11: a list of 50,000 passes through little memory, however slowly it is read."""
    with started(env=LEAN) as (server, g):
        server.add("alice")
        for _ in range(20):
            g.listed("alice")
        server.bulk, server.bulk_owner = 50000, lambda i: "alice" if i % 2 else "bob"
        before = most = g.resident_kib()
        for _ in range(2):
            c = g.connect("alice")
            c.request("GET", API + "/sandboxes")
            answer, body = c.getresponse(), []
            while piece := answer.read(262144):
                body.append(piece)
                most = max(most, g.resident_kib())
            c.close()
            ids = [s["id"] for s in json.loads(b"".join(body))]
            assert ids == [f"sb-{i:08x}" for i in range(1, 50000, 2)]
        print(f"    resident: {before} KiB before, at most {most} KiB", flush=True)
        assert most - before < 4096, (before, most)


def test_c11_list_cut_short():
    """C11: a list that the server breaks off is broken off for the client, never closed with a bracket."""
    with started() as (server, g):
        for i in range(100):
            server.add("alice" if i % 2 else "bob")
        with server.fault("GET", "/sandboxes", cut("body")):
            answer = g.api("alice", "GET", "/sandboxes")
            assert answer.status == 200 and not answer.whole and answer.body.startswith(b"["), answer
            assert b"bob" not in answer.body and not answer.body.rstrip().endswith(b"]")
            old = read_all(raw(g, "alice", f"GET {API}/sandboxes HTTP/1.0\r\nHost: x\r\n\r\n".encode()))
            assert not old.rstrip().endswith(b"]") and b"bob" not in old, old[-200:]
        for body in (b"[]x", b'[{"id":"sb-1"},]', b'{"sandboxes":[]}', b"null", b"", b"[" * 100000, b'[{"id":"sb-1"'):
            with server.fault("GET", "/sandboxes", text(200, body, "application/json")):
                answer = g.api("alice", "GET", "/sandboxes")
                assert answer.status >= 500 or not answer.whole, (body[:40], answer)
        assert len(g.listed("alice")) == 50


def test_c11_list_errors_pass():
    """C11: what is no list is the server's to say."""
    with started() as (server, g):
        with server.fault("GET", "/sandboxes", status(500)):
            answer = g.api("alice", "GET", "/sandboxes")
            assert answer.status == 500 and not headers_of(answer, "stacygate-error"), answer
        with server.fault("GET", "/sandboxes", status(429, [("Retry-After", "7")])):
            answer = g.api("alice", "GET", "/sandboxes")
            assert answer.status == 429 and headers_of(answer, "retry-after") == ["7"], answer


def test_c11_other_statuses():
    """C11: a list or stream under any other status of success or redirection is not passed on; errors are."""
    with started() as (server, g):
        bobs = server.add("bob")
        body = json.dumps([{"id": bobs, "metadata": {"stacygate.owner": "bob"}}]).encode()
        for code in (201, 202, 203, 206, 207, 226, 300, 302, 304):
            with server.fault("GET", "/sandboxes", text(code, body if code != 304 else b"", "application/json")):
                answer = g.api("alice", "GET", "/sandboxes")
                assert answer.status == 502 and bobs.encode() not in answer.body, (code, answer)
            event = b'data: {"sandbox_id":"' + bobs.encode() + b'"}\n\n'
            with server.fault("GET", "/events", text(code, event if code != 304 else b"", "text/event-stream")):
                answer = g.api("alice", "GET", "/events")
                assert answer.status == 502 and bobs.encode() not in answer.body, (code, answer)


def test_c11_asked_for_whole():
    """C11: what is filtered is asked for whole, as it is and in any case, whatever the client would take in its place."""
    with started() as (server, g):
        server.add("bob")
        asks = {"Range": "bytes=0-10", "If-Range": "x", "If-None-Match": "*", "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT",
                "Accept-Encoding": "gzip", "Accept": "application/json"}
        assert g.api("alice", "GET", "/sandboxes", headers=asks).body == b"[]\n"
        assert g.api("alice", "POST", "/sandboxes", {}, headers=asks).status == 201
        for request in (*server.since(0, "GET", API + "/sandboxes"), *server.since(0, "POST", API + "/sandboxes")):
            names = [n for n, _ in request.headers]
            assert "accept" in names and not {"range", "if-range", "if-none-match", "if-modified-since", "accept-encoding"} & set(names), names
        encoded = status(200, [("Content-Encoding", "gzip")], [])
        with server.fault("GET", "/sandboxes", encoded):
            assert g.api("alice", "GET", "/sandboxes").status == 502


def test_c11_head_of_a_list():
    """C11: HEAD does not tell how long the list of all is."""
    with started() as (server, g):
        seen = []
        for _ in range(3):
            answer = g.api("alice", "HEAD", "/sandboxes")
            assert answer.status == 200 and not headers_of(answer, "content-length"), answer.headers
            seen.append([h for h in answer.headers if h[0] not in ("Date", "X-Request-ID")])
            server.add("bob")
        assert seen[0] == seen[1] == seen[2], seen


def test_c11_list_http_1_0():
    """C11: to a client of HTTP/1.0 the filtered list ends with the connection."""
    with started() as (server, g):
        for i in range(60):
            server.add("alice" if i % 3 == 0 else "bob")
        got = read_all(raw(g, "alice", f"GET {API}/sandboxes HTTP/1.0\r\n\r\n".encode()))
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and b"chunked" not in head.lower(), head
        assert len(json.loads(body)) == 20 and b"bob" not in body


def test_c11_list_skips_the_unreadable():
    """C11: an element over 256 KiB, and one that is no sandbox, are left out; the rest stays."""
    with started() as (server, g):
        first = server.add("alice")
        server.add("alice", metadata={"big": "x" * 300000})
        server.add("bob", metadata={"big": "y" * 300000})
        nearly = server.add("alice", metadata={"big": "z" * 200000})
        assert g.listed("alice") == [nearly, first]
        with server.fault("GET", "/sandboxes", text(200, b'[1,"x",null,[],{},{"id":7},{"id":"sb-1","metadata":{"stacygate.owner":["alice"]}},'
                                                    b'{"id":"sb-2","metadata":{"stacygate.owner":"alice"}},'
                                                    b'{"id":"sb-3","metadata":{"stacygate.owner":"bob","stacygate.owner":"alice"}}]\n',
                                                    "application/json")):
            assert g.listed("alice") == ["sb-2"]


# --- C11: events ------------------------------------------------------------------------------------------------------

def test_c11_events():
    """C11: each caller hears of his own sandboxes only, in order, of the other's nothing, while both spawn."""
    with started(WITH_ROOT) as (server, g):
        alice, bob = Events(server, g, "alice"), Events(server, g, "bob")
        made = {"alice": [], "bob": []}
        for i in range(50):
            for name in made:
                made[name].append(g.spawn(name))
        for name, stream in (("alice", alice), ("bob", bob)):
            got = [stream.next() for _ in range(100)]
            assert [e["sandbox_id"] for e in got] == [s for s in made[name] for _ in range(2)]
            assert [e["type"] for e in got] == ["sandbox.created", "sandbox.running"] * 50
            numbers = [int(e["id"].removeprefix("evt-")) for e in got]
            assert numbers == sorted(numbers)
        for _ in range(3):
            g.api("bob", "POST", f"/sandboxes/{made['bob'][0]}/exec", {"command": "id"})
        g.api("bob", "DELETE", "/sandboxes/" + made["bob"][0])
        g.api("alice", "DELETE", "/sandboxes/" + made["alice"][0])
        assert (alice.next()["type"], bob.next()["type"]) == ("sandbox.destroyed", "exec.started")
        assert feed_of(g)["subscribers"] == 2 and len(server.subscribers) == 1, feed_of(g)
        alice.close()
        bob.close()
        wait_for("nobody reads", lambda: feed_of(g)["subscribers"] == 0)


def test_c11_events_of_the_unknown():
    """C11: an event of an unknown id costs one look-up, then is dropped, as are those without a sandbox of his."""
    with started() as (server, g):
        mine = server.add("alice")
        stream = Events(server, g, "alice")
        bobs = server.add("bob")
        for _ in range(20):
            server.publish("exec.started", bobs)
        server.publish("exec.started", NEVER)
        server.publish("exec.started", "../../etc")
        server.publish("exec.started", "x" * 5000)
        for data in (None, {"owner_id": "bob"}, {"owner_id": "Alice"}, {"owner_id": ["alice"]}, {"operation": "alice"}):
            server.publish("spawn.queued", None, data)
        for junk in (b"data: no json\n\n", b": a comment\n\n", b"data: [1]\n\n", b"event: x\ndata: {}\n\n", b"\n\n\n",
                     b'data: {"sandbox_id":"' + mine.encode() + b'","sandbox_id":"' + bobs.encode() + b'"}\n\n'):
            server.publish("", raw=junk)
        own = server.publish("quota.saved", None, {"owner_id": "alice", "max_sandboxes": 3})
        assert stream.next()["id"] == own
        last = server.publish("exec.completed", mine)
        event = stream.next()
        assert event["id"] == last and event["sandbox_id"] == mine
        assert len(server.since(0, "GET", f"{API}/sandboxes/{bobs}")) == 1
        assert len(server.since(0, "GET", f"{API}/sandboxes/{NEVER}")) == 1
        assert not [r for r in server.since(0) if "etc" in r.target or "xxxx" in r.target]
        for r in server.since(0, "GET", f"{API}/sandboxes/.*"):
            assert r.all("x-user-id") == ["alice"]
        stream.close()


def test_c11_events_keep_their_order():
    """C11: no event overtakes one whose owner is still being looked up."""
    with started() as (server, g):
        known = g.spawn("alice")
        stream = Events(server, g, "alice")
        with server.hold("GET", "/sandboxes/sb-.*") as hold:
            unknown = server.add("alice")
            for _ in range(5):
                server.publish("exec.started", known)
            hold.wait()
            assert g.ask("alice", target="/gateway/v1/health").status == 200
            hold.release()
            got = [stream.next() for _ in range(7)]
        assert [e["sandbox_id"] for e in got] == [unknown] * 2 + [known] * 5
        with server.fault("GET", "/sandboxes/sb-.*", status(500)):  # not known to be his: dropped, and not remembered
            troubled = server.add("alice")
            server.publish("exec.started", known)
            assert stream.next()["sandbox_id"] == known
        server.publish("exec.started", troubled)
        assert stream.next()["sandbox_id"] == troubled
        stream.close()


def test_c11_events_client_gone():
    """C11: when the client leaves, the server's stream ends, also while an owner is being looked up."""
    with started() as (server, g):
        stream = Events(server, g, "alice")
        stream.close()
        wait_for("the server's stream ends", lambda: not server.subscribers)
        stream = Events(server, g, "alice")
        with server.hold("GET", "/sandboxes/sb-.*") as hold:
            server.add("alice")
            hold.wait()
            stream.close()
            wait_for("the server's stream ends", lambda: not server.subscribers)
        assert g.api("alice", "GET", "/sandboxes").status == 200


def test_c11_events_go_on_without_the_server():
    """C11: an event over 256 KiB is left out, one that the server breaks off too; the stream goes on with those that come next."""
    with started() as (server, g):
        mine = g.spawn("alice")
        sock = raw(g, "alice", f"GET {API}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = read_until(sock, b"\r\n\r\n")
        wait_for("the server has the subscriber", lambda: server.subscribers)
        server.publish("", raw=b'data: {"sandbox_id":"' + mine.encode() + b'","long":"' + b"x" * 300000 + b'"}\n\n')
        last = server.publish("exec.started", mine)
        server.publish("", raw=b'data: {"id":"unfinished","sandbox_id":"' + mine.encode() + b'"}\n')
        server.end_events()
        got += read_until(sock, b": reconnected\n\n")
        wait_for("the server has the subscriber again", lambda: server.subscribers)
        after = server.publish("exec.completed", mine)
        got += read_until(sock, after.encode())
        assert last.encode() in got and b"xxxx" not in got, got[:500]
        assert got.startswith(b"HTTP/1.1 200 ") and b"\r\n0\r\n\r\n" not in got and b"unfinished" not in got, got
        sock.close()


# --- C11: prune -------------------------------------------------------------------------------------------------------

def prune_with_clock(offset):
    with started() as (server, g):
        server.offset = offset
        expired = [server.add("alice") for _ in range(3)]
        extended, lively, bobs, nobodys = server.add("alice"), server.add("alice"), server.add("bob"), server.add()
        for s in (*expired, extended, bobs, nobodys):
            server.expire(s)

        def extend(*_):
            server.records[extended]["expires_at"] = server.now() + 600
        with server.fault("GET", "/sandboxes/" + extended, extend):
            answer = g.api("alice", "DELETE", "/sandboxes")
            assert answer.status == 200 and answer.json() == {"pruned": 3}, answer
        assert sorted(server.destroyed) == sorted(expired), (server.destroyed, expired)
        assert sorted(server.alive()) == sorted([extended, lively, bobs, nobodys])
        for r in server.since(0, "DELETE"):
            assert r.target != API + "/sandboxes" and r.all("x-user-id") == ["alice"], (r.target, r.headers)
        assert g.api("alice", "DELETE", "/sandboxes").json() == {"pruned": 0}
        assert g.api("bob", "DELETE", "/sandboxes").json() == {"pruned": 1}
        assert sorted(server.alive()) == sorted([extended, lively, nobodys])


def test_c11_prune():
    """C11: destroys the caller's own expired ones, one by one, none that was extended meanwhile."""
    prune_with_clock(0)


def test_c11_prune_by_the_servers_clock():
    """C11: what has expired is the server's clock to say, be it years ahead or behind."""
    prune_with_clock(400 * 86400)
    prune_with_clock(-400 * 86400)


def test_c11_prune_trouble():
    """C11: a list that is not whole prunes nothing; what cannot be looked at again or destroyed is left and not counted."""
    with started() as (server, g):
        mine = [server.add("alice", metadata={"fill": "x" * 300}) for _ in range(10)]
        for s in mine:
            server.expire(s)
        for what, act in (("cut", cut("body")), ("500", status(500)), ("429", status(429)), ("garbage", garbage),
                          ("no list", text(200, b"{}", "application/json"))):
            with server.fault("GET", "/sandboxes", act):
                answer = g.api("alice", "DELETE", "/sandboxes")
                assert answer.status in (502, 503, 504), (what, answer)
            assert not server.destroyed, what
        with server.fault("GET", "/sandboxes/" + mine[0], status(500)), server.fault("DELETE", "/sandboxes/" + mine[1], status(500)), \
                server.fault("GET", "/sandboxes/" + mine[2], status(404)):
            answer = g.api("alice", "DELETE", "/sandboxes")
            assert answer.status == 200 and answer.json() == {"pruned": 7}, answer
        assert sorted(server.destroyed) == sorted(mine[3:])

        def kinds():
            with open(g.path("audit.log"), encoding="ascii") as file:
                found = [json.loads(line) for line in file]
            return [(line["method"], line["route"], line["status"]) for line in found if line["kind"] == "change"]
        wait_for("every prune is audited", lambda: kinds()[-1:] == [("DELETE", "/api/v1/sandboxes", 200)] and len(kinds()) == 6)


def test_prune_in_time():
    """Stacygate-Timeout bounds a prune as it does everything; what was destroyed by then stays so."""
    with started() as (server, g):
        mine = [server.add("alice") for _ in range(3)]
        for s in mine:
            server.expire(s)
        expect_error(g.api("alice", "DELETE", "/sandboxes", headers={"Stacygate-Timeout": "x"}), 400, "BAD_REQUEST", "Stacygate-Timeout")
        assert not server.since(0)
        for path in ("/sandboxes", "/sandboxes/" + mine[1]):
            with server.hold("GET", path) as hold:
                answer = g.api("alice", "DELETE", "/sandboxes", headers={"Stacygate-Timeout": "300ms"})
                expect_error(answer, 504, "UPSTREAM_TIMEOUT", "Stacygate-Timeout")
                assert hold.seen == 1
            assert mine[1] not in server.destroyed
        assert server.destroyed == [mine[2]]  # the newest is first in the list
        assert g.api("alice", "DELETE", "/sandboxes", headers={"Stacygate-Timeout": "20s"}).json() == {"pruned": 2}
        assert sorted(server.destroyed) == sorted(mine)


if __name__ == "__main__":
    run(globals())
