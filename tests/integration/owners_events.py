# SPDX-License-Identifier: Apache-2.0
"""The one subscription to a server's events: who reads it, what it makes forgotten, how it comes and goes."""
import json
import signal
import socket
import time

from owners_lib import Events, LEAN, WITH_ROOT, expect_error, expect_not_found, feed_of, headers_of, raw, read_all, read_until, run, started
from tls_lib import KEY, wait_for
from vm_lib import API, status, text

ASK = f"GET {API}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def gone(_, connection, __):
    connection.close()
    return "closed"


def half_a_head(_, connection, __):
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/ev")
    connection.close()
    return "closed"


def subscriptions(server):
    return server.since(0, "GET", API + "/events")


def looked_at(server, sandbox):
    return len(server.since(0, "GET", f"{API}/sandboxes/{sandbox}"))


def subscribed(server, g, reconnects=0):
    """The stream is there at both ends: nothing is forgotten any more by its beginning."""
    wait_for("the subscription stands", lambda: server.subscribers and feed_of(g)["connected"] and feed_of(g)["reconnects"] == reconnects)


def remembered(server, g, sandbox):
    """Has the sandbox's owner remembered for sure, and gives how often it was looked at by then."""
    for _ in range(2):
        assert g.api("alice", "GET", f"/sandboxes/{sandbox}/logs").status == 200
        wait_for("the subscription stands", lambda: server.subscribers and feed_of(g)["connected"])
    before = looked_at(server, sandbox)
    assert g.api("alice", "GET", f"/sandboxes/{sandbox}/logs").status == 200
    assert looked_at(server, sandbox) == before
    return before


# --- who reads it -----------------------------------------------------------------------------------------------------

def test_c11_events_one_subscription_for_all():
    """C11: twenty readers cost the server one stream, in the first one's name; each hears of what is his, or of all."""
    with started(WITH_ROOT) as (server, g):
        streams = [(name, Events(server, g, name)) for name in ("alice", "bob", "root", "alice") * 5]
        assert feed_of(g)["subscribers"] == 20
        mine = {name: server.add(name) for name in ("alice", "bob")}
        for name, stream in streams:
            for owner in ("alice", "bob") if name == "root" else (name,):
                got = [stream.next() for _ in range(2)]
                assert [(e["type"], e["sandbox_id"]) for e in got] == [("sandbox.created", mine[owner]), ("sandbox.running", mine[owner])]
        request, = subscriptions(server)
        assert request.all("x-user-id") == ["alice"] and request.all("x-api-key") == [KEY], request.headers
        assert looked_at(server, mine["alice"]) == 2, "by alice and by bob, once each"
        wait_for("all is counted", lambda: feed_of(g)["dropped"] == 2 * 15)
        seen = feed_of(g)
        assert (seen["events"], seen["dropped"], seen["overflowed"], seen["reconnects"]) == (4, 2 * 15, 0, 0), seen
        for _, stream in streams:
            stream.close()
        wait_for("nobody reads, so nobody subscribes", lambda: not server.subscribers)
        assert feed_of(g)["subscribers"] == 0 and not feed_of(g)["connected"]
        assert len(subscriptions(server)) == 1


def test_events_as_written():
    """Without isolation every byte passes as the server wrote it, comments and other line ends included, to HTTP/1.0 as well."""
    pieces = [b"data: {}\r\n\r\n", b": a comment\n", b"event: x\nid: 7\ndata: no json\ndata\n\n", b"\n", b"retry: 5\r\r", b"data: last\n\n"]
    with started(WITH_ROOT) as (server, g):
        new = Events(server, g, "root")
        assert new.answer.headers["Cache-Control"] == "no-cache"
        old = raw(g, "root", f"GET {API}/events HTTP/1.0\r\n\r\n".encode())
        head = read_until(old, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and b"chunked" not in head.lower() and b"text/event-stream" in head, head
        for piece in pieces:
            server.publish("", raw=piece)
        assert read_until(old, b"last\n\n") == b"".join(pieces)
        assert new.answer.read(len(b"".join(pieces))) == b"".join(pieces)
        old.close()
        new.close()


def test_c11_events_slow_reader():
    """C11: who does not read is cut when his queue is full, visibly; others get all, in order, and little memory is used."""
    with started(WITH_ROOT, env=LEAN) as (server, g):
        mine = server.add("alice")
        remembered(server, g, mine)
        slow = g.connect("alice")
        slow.connect()
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sock.sendall(ASK)
        head = read_until(slow.sock, b"\r\n\r\n")
        quick = Events(server, g, "alice")
        before = g.resident_kib()
        sent = []
        for i in range(300):
            sent.append(server.publish("exec.started", mine, {"fill": "x" * 20000}))
            event = quick.next()
            assert event["id"] == sent[-1], (i, event["id"])
        wait_for("the slow one is cut", lambda: feed_of(g)["overflowed"] == 1)
        got = head + read_all(slow.sock)
        assert g.resident_kib() - before < 8192, (before, g.resident_kib())
        assert feed_of(g)["subscribers"] == 1
        assert not got.endswith(b"0\r\n\r\n") and len(got) < 300 * 20000, len(got)
        ids = [i for i in sent if b'"' + i.encode() + b'"' in got]
        assert ids and ids == sent[:len(ids)], "what came is the beginning, without a gap"
        quick.close()


def test_c11_events_queue_is_bounded():
    """C11: while an owner is looked up 64 events wait; the stream of who would need more is cut, the others' go on."""
    with started(WITH_ROOT) as (server, g):
        alice, root = Events(server, g, "alice"), Events(server, g, "root")
        with server.hold("GET", "/sandboxes/sb-.*") as hold:
            server.add("alice")
            hold.wait()
            for _ in range(62):
                server.publish("exec.started", "sb-x")
            for _ in range(64):
                root.next()
            assert feed_of(g)["overflowed"] == 0
            server.publish("exec.started", "sb-x")
            root.next()
            wait_for("hers is cut", lambda: feed_of(g)["overflowed"] == 1 and feed_of(g)["subscribers"] == 1)
        assert alice.answer.fp.read() == b""
        root.close()
        alice.close()


def test_events_heartbeat():
    """An idle stream gets comments where the rule says so, between events only; no other stream does."""
    with started({"alice": ["heartbeat: 100ms"], "bob": []}) as (server, g):
        mine = server.add("alice")
        sock, other = raw(g, "alice", ASK), raw(g, "bob", ASK)
        read_until(other, b"\r\n\r\n")
        read_until(sock, b":\n\r\n2\r\n:\n")
        event = server.publish("exec.started", mine)
        got = read_until(sock, event.encode())
        while b"}\n\n\r\n2\r\n:\n" not in got:
            got += read_until(sock, b"\n")
        assert b'data: {"id": "' + event.encode() in got, got
        other.setblocking(False)
        try:
            assert False, other.recv(100)
        except BlockingIOError:
            pass
        sock.close()
        other.close()


# --- what it makes forgotten ------------------------------------------------------------------------------------------

def test_c11_destroyed_elsewhere():
    """C11: after an event says that a sandbox is destroyed its owner is not answered from memory: it is looked at again."""
    with started(WITH_ROOT) as (server, g):
        mine = server.add("alice")
        stream = Events(server, g, "alice")
        looked = remembered(server, g, mine)
        with server.state:
            server.records[mine]["state"] = "destroyed"
        logs = len(server.since(0, path=f"{API}/sandboxes/{mine}/logs"))
        server.publish("sandbox.destroyed", mine)
        assert stream.next()["type"] == "sandbox.destroyed"
        expect_not_found(g.api("alice", "GET", f"/sandboxes/{mine}/logs"), mine)
        assert looked_at(server, mine) == looked + 1
        assert len(server.since(0, path=f"{API}/sandboxes/{mine}/logs")) == logs
        stream.close()


def test_c11_forgotten_by_events():
    """C11: what an event of an unknown type may have changed is looked at again; exec, files and the like change nothing."""
    with started(WITH_ROOT) as (server, g):
        mine, other = server.add("alice"), server.add("alice")
        stream = Events(server, g, "alice")
        looked, others = remembered(server, g, mine), remembered(server, g, other)
        for kind in ("exec.started", "file.written", "sandbox.running", "operation.failed"):
            server.publish(kind, mine)
            assert stream.next()["type"] == kind
        assert remembered(server, g, mine) == looked
        server.publish("sandbox.moved", mine)
        assert stream.next()["type"] == "sandbox.moved"
        assert remembered(server, g, mine) == looked + 1
        assert remembered(server, g, other) == others
        stream.close()


def test_c11_subscribed_for_what_is_remembered():
    """C11: without a reader as well the gateway hears of what it remembers: one subscription, which a reader then shares."""
    with started(WITH_ROOT) as (server, g):
        mine, bobs = server.add("alice"), server.add("bob")
        g.api("root", "GET", f"/sandboxes/{mine}/logs")
        assert not subscriptions(server), "nothing is remembered"
        g.api("alice", "GET", f"/sandboxes/{mine}/logs")
        g.api("bob", "GET", f"/sandboxes/{bobs}/logs")
        subscribed(server, g)
        looked = remembered(server, g, mine)
        server.publish("sandbox.moved", mine)
        wait_for("it is forgotten", lambda: feed_of(g)["events"] == 1)
        assert remembered(server, g, mine) == looked + 1
        Events(server, g, "bob").close()
        request, = subscriptions(server)
        assert request.all("x-user-id") == ["alice"], request.headers


def test_no_subscription_without_isolation():
    """Where no rule keeps owners apart nothing is remembered, and nobody subscribes."""
    with started({"alice": ["isolation: none"], "root": ["admin: true", "isolation: none"]}) as (server, g):
        mine = g.spawn("alice")
        for _ in range(10):
            assert g.api("alice", "GET", f"/sandboxes/{mine}/logs").status == 200
        assert not subscriptions(server) and not feed_of(g)["connected"]


def test_subscription_takes_nobodys_place():
    """The subscription's connection is not out of its caller's share; a pool of less than four spares none for what is remembered."""
    with started(WITH_ROOT, upstream=["pool: { max_connections: 4, max_per_identity: 1, max_idle: 2 }"]) as (server, g):
        mine = g.spawn("alice")
        stream = Events(server, g, "alice")
        for _ in range(3):
            assert g.api("alice", "GET", f"/sandboxes/{mine}/logs").status == 200
        assert len(subscriptions(server)) == 1
        stream.close()
    with started(WITH_ROOT, upstream=["pool: { max_connections: 3, max_per_identity: 3, max_idle: 3 }"]) as (server, g):
        mine = g.spawn("alice")
        for _ in range(3):
            assert g.api("alice", "GET", f"/sandboxes/{mine}/logs").status == 200
        assert not subscriptions(server)
        Events(server, g, "alice").close()
        assert len(subscriptions(server)) == 1


# --- how it comes and goes --------------------------------------------------------------------------------------------

def test_c11_events_reconnect():
    """C11: when the server ends the stream, readers go on behind a comment, and all that was remembered is looked at again."""
    with started(WITH_ROOT) as (server, g):
        mine = server.add("alice")
        alice, root = raw(g, "alice", ASK), raw(g, "root", ASK)
        for sock in (alice, root):
            read_until(sock, b"\r\n\r\n")
        subscribed(server, g)
        looked = remembered(server, g, mine)
        for i in (1, 2):
            server.end_events()
            for sock in (alice, root):
                read_until(sock, b": reconnected\n\n")
            subscribed(server, g, reconnects=i)
            assert remembered(server, g, mine) == looked + i
            last = server.publish("exec.started", mine)
            for sock in (alice, root):
                assert b"data: {" in read_until(sock, last.encode())
        assert len(subscriptions(server)) == 3
        alice.close()
        root.close()


def test_events_outlive_trouble():
    """A server that is away for less than timeouts.response costs no reader his stream, whatever it answers meanwhile."""
    for act in (gone, status(500), status(401)):
        with started(WITH_ROOT) as (server, g):
            mine = server.add("alice")
            alice = raw(g, "alice", ASK)
            read_until(alice, b"\r\n\r\n")
            wait_for("the server has the subscriber", lambda: server.subscribers)
            with server.fault("GET", "/events", act) as fault:
                server.end_events()
                fault.wait(2)
                newcomer = g.api("bob", "GET", "/events")
                assert newcomer.status in (401, 500, 502), newcomer
            read_until(alice, b": reconnected\n\n")
            wait_for("the server has the subscriber", lambda: server.subscribers)
            read_until(alice, server.publish("exec.started", mine).encode())
            alice.close()


def test_events_cut_when_the_server_stays_away():
    """When it stays away longer than timeouts.response the stream is cut, never ended as if it were complete."""
    with started(WITH_ROOT, upstream=["timeouts: { response: 700ms }"]) as (server, g):
        alice = raw(g, "alice", ASK)
        read_until(alice, b"\r\n\r\n")
        wait_for("the server has the subscriber", lambda: server.subscribers)
        with server.fault("GET", "/events", status(500)):
            began = time.monotonic()
            server.end_events()
            got = read_all(alice)
            assert not got.endswith(b"0\r\n\r\n") and time.monotonic() - began >= 0.6, got
            assert feed_of(g)["subscribers"] == 0
        Events(server, g, "alice").close()


def test_events_first_connect():
    """What the server answers to the first of its readers is his answer; what is no answer is 502 or 504."""
    with started(WITH_ROOT, upstream=["timeouts: { response: 1s }"]) as (server, g):
        for name in ("alice", "root"):
            for code in (400, 401, 403, 404, 429, 500, 501, 503):
                with server.fault("GET", "/events", status(code, [("Retry-After", "7")])):
                    answer = g.api(name, "GET", "/events")
                    assert answer.status == code and headers_of(answer, "retry-after") == ["7"], answer
                    assert not headers_of(answer, "stacygate-error") and answer.json()["message"] == f"made up {code}", answer
            for act in (gone, half_a_head, text(200, b"data: {}\n\n", "text/html"), text(204, b"", "text/event-stream"),
                        text(302, b"", "text/event-stream"), status(200, [("Content-Encoding", "gzip")], {})):
                with server.fault("GET", "/events", act):
                    expect_error(g.api(name, "GET", "/events"), 502, "CONNECTION_ERROR", "upstream main")
            with server.hold("GET", "/events"):
                expect_error(g.api(name, "GET", "/events"), 504, "UPSTREAM_TIMEOUT", "upstream main")
            with server.hold("GET", "/events"):
                answer = g.api(name, "GET", "/events", headers={"Stacygate-Timeout": "200ms"})
                expect_error(answer, 504, "UPSTREAM_TIMEOUT", "Stacygate-Timeout")
            Events(server, g, name).close()


def test_events_of_an_old_server():
    """A server without events is asked for them once for the sake of what is remembered, and for each client that asks."""
    with started(WITH_ROOT) as (server, g):
        mine = server.add("alice")
        old = text(500, b"streaming not supported\n")
        with server.fault("GET", "/events", old):
            for _ in range(20):
                assert g.api("alice", "GET", f"/sandboxes/{mine}/logs").status == 200
            wait_for("it is asked", lambda: subscriptions(server))
            for i in range(3):
                answer = g.api("alice", "GET", "/events")
                assert answer.status == 500 and answer.body == b"streaming not supported\n", answer
                assert g.api("alice", "GET", f"/sandboxes/{mine}/logs").status == 200
                assert len(subscriptions(server)) == 2 + i
            assert looked_at(server, mine) == 1, "what is remembered stays so"


def test_events_with_another_key():
    """A key that the server refuses is read again, and the stream begins with the one that is there then."""
    with started(WITH_ROOT) as (server, g):
        def refuse(_, connection, request):
            if request.all("x-api-key") != [KEY]:
                return None
            with open(g.path("key"), "w", encoding="ascii") as file:
                file.write("SEKRET-another\n")
            return status(401)(server, connection, request)
        with server.fault("GET", "/events", refuse):
            stream = Events(server, g, "alice")
            assert [r.all("x-api-key") for r in subscriptions(server)] == [[KEY], ["SEKRET-another"]]
            stream.close()


def test_ID16_events_revoked():
    """ID16: who is not admitted any more loses his stream within a second; the others' and the subscription go on."""
    with started(WITH_ROOT) as (server, g):
        alice, bob = raw(g, "alice", ASK), Events(server, g, "bob")
        read_until(alice, b"\r\n\r\n")
        g.rules["alice"] = ["deny: [events]"]
        g.configure()
        g.process.send_signal(signal.SIGHUP)
        began = time.monotonic()
        read_all(alice)
        assert time.monotonic() - began < 1
        mine = server.add("bob")
        assert [bob.next()["sandbox_id"] for _ in range(2)] == [mine] * 2
        assert len(subscriptions(server)) == 1 and feed_of(g)["subscribers"] == 1
        expect_error(g.api("alice", "GET", "/events"), 403, "FORBIDDEN")
        bob.close()


def test_events_after_a_reload():
    """When no rule keeps owners apart any more, the subscription for what was remembered ends with the reload."""
    with started(WITH_ROOT) as (server, g):
        g.spawn("alice")
        subscribed(server, g)
        g.reload()
        subscribed(server, g)
        assert len(subscriptions(server)) == 1, "the same rules need the same"
        g.rules["alice"] = g.rules["bob"] = ["isolation: none"]
        g.configure()
        g.reload()
        wait_for("it ends", lambda: not server.subscribers)


def test_events_at_the_end():
    """A subscription that nobody reads does not hold up a stop, nor does a reader who is all that is left: he is told and cut."""
    with started(WITH_ROOT, drain="10s") as (server, g):
        g.spawn("alice")
        subscribed(server, g)
        began = time.monotonic()
        assert g.stop() == 0 and time.monotonic() - began < 5
        g.start()
    with started(WITH_ROOT, drain="10s") as (server, g):
        alice = raw(g, "alice", ASK)
        read_until(alice, b"\r\n\r\n")
        began = time.monotonic()
        assert g.stop() == 0 and time.monotonic() - began < 5
        rest = read_all(alice)
        assert b":stopping\n" in rest and not rest.endswith(b"0\r\n\r\n"), rest
        g.start()


def test_events_in_status():
    """Only admin rules see them; each upstream has its own."""
    with started(WITH_ROOT) as (server, g):
        assert b"subscribers" not in g.ask("alice", target="/gateway/v1/status").body
        seen = json.loads(g.ask("root", target="/gateway/v1/status").body)["upstreams"][0]["events"]
        assert seen == {"connected": False, "reconnects": 0, "subscribers": 0, "events": 0, "dropped": 0, "overflowed": 0}, seen
        assert not server.subscribers


if __name__ == "__main__":
    run(globals())
