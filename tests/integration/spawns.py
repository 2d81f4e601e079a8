# SPDX-License-Identifier: Apache-2.0
"""
Spawns that may be repeated, and spawns whose answers are lost: whoever is killed at whatever step, each is sent once, its client or
the retry with his key gets the one sandbox, and what nobody wants is destroyed.
"""
import json
import random
import re
import signal
import threading

from owners_lib import Later, expect_error, headers_of, parallel, raw, read_all, run, started
from tls_lib import DEADLINE, wait_for
from vm_lib import API, Lost, Steps, cut, status

BODY = {"image": "python:3.12"}


def keyed(key):
    return {"Idempotency-Key": key}


def spawn(g, name="alice", key=None, body=None, headers=None):
    return g.api(name, "POST", "/sandboxes", BODY if body is None else body, {**(keyed(key) if key else {}), **(headers or {})})


def posts(server, user=None):
    return server.since(0, "POST", API + "/sandboxes", user)


def expect_one_post(server):
    assert len(posts(server)) == 1, [(r.target, r.body) for r in posts(server)]


def lost(server, silent=False):
    return server.fault("POST", "/sandboxes", Lost(silent))


def left(sock, g, n=1):
    """The client goes away, and the gateway knows."""
    sock.close()
    wait_for("the gateway knows that the client has left", lambda: g.log().count("the client of a spawn has left") == n)


def send(g, name="alice", key=None, body=None):
    """A spawn that is only sent; gives the socket."""
    text = json.dumps(BODY if body is None else body)
    line = f"Idempotency-Key: {key}\r\n" if key else ""
    return raw(g, name, f"POST {API}/sandboxes HTTP/1.1\r\nHost: x\r\n{line}Content-Length: {len(text)}\r\n\r\n{text}".encode())


def own_spawns(g, name="alice"):
    return g.ask(name, target="/gateway/v1/status").json()["own"]["spawns"]


def unclaimed(g):
    return g.ask("root", target="/gateway/v1/status").json()["unclaimed_spawns"]


def nothing_left(server, owner="alice"):
    wait_for("nothing of his is listed", lambda: not server.alive(owner))


def retry_gets(g, server, key, sandbox):
    """The retry gets the sandbox, however often, and there is no other."""
    for _ in range(2):
        answer = spawn(g, key=key)
        assert answer.status == 201 and answer.json()["id"] == sandbox, (answer, g.log()[-3000:])
    assert server.alive("alice") == [sandbox]
    expect_one_post(server)


# --- answers that are lost --------------------------------------------------------------------------------------------------

def test_f35_f4_cut_at_each_step():
    """F35, F4: cut before, in and behind the head or in the body: the client gets the sandbox from the list; one POST."""
    for where in ("before", "head", "behind head", "body"):
        for key in (None, "k"):
            with started() as (server, g):
                g.listed("alice")  # the connection is one that was kept
                with server.fault("POST", "/sandboxes", cut(where)):
                    answer = spawn(g, key=key)
                assert answer.status == 201 and answer.whole, (where, answer, g.log()[-3000:])
                assert server.alive("alice") == [answer.json()["id"]], where
                assert answer.json()["metadata"]["stacygate.owner"] == "alice"
                expect_one_post(server)
                assert own_spawns(g) == []


def test_f35_stored_late():
    """F35: a record that is stored long after its connection is gone is found, by a list that is read again and again."""
    with started() as (server, g), lost(server) as fault:
        later = Later(lambda: spawn(g))
        wait_for("the list is read several times", lambda: len(server.since(0, "GET", API + "/sandboxes")) >= 3)
        assert own_spawns(g)[0]["state"] == "watched"
        sandbox, = fault.store()
        answer = later.get()
        assert answer.status == 201 and answer.json()["id"] == sandbox, answer
        assert headers_of(answer, "content-type") == ["application/json"], answer.headers
        expect_one_post(server)
        assert not server.destroyed


def test_f35_garbage():
    """F35: an answer that is none is a lost one; an error of the server's is an answer."""
    with started() as (server, g):
        def act(srv, connection, request):
            connection.send(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\n{no}")
            srv.add("", 600.0, dict(json.loads(request.body)["metadata"]))
            return "answered"
        with server.fault("POST", "/sandboxes", act):
            answer = spawn(g)
        assert answer.status == 201 and server.alive("alice") == [answer.json()["id"]], answer
        with server.fault("POST", "/sandboxes", status(500)):
            answer = spawn(g, key="k")
            assert answer.status == 500 and answer.json()["message"] == "made up 500", answer
        assert len(posts(server)) == 2
        assert spawn(g, key="k").status == 201, "only a 201 is remembered"


def test_f35_timeout():
    """F35: 504 at timeouts.spawn; what appears afterwards, with nobody waiting, is destroyed."""
    with started({"alice": [], "root": ["admin: true"]}, upstream=["timeouts: { spawn: 1s }"]) as (server, g), \
            lost(server, silent=True) as fault:
        expect_error(spawn(g), 504, "UPSTREAM_TIMEOUT", "destroyed")
        assert [s["state"] for s in own_spawns(g)] == ["watched"]
        assert unclaimed(g)["lost"] == 0
        sandbox, = fault.store()
        nothing_left(server)
        assert server.destroyed == [sandbox]
        expect_one_post(server)
        wait_for("it is told no more", lambda: own_spawns(g) == [])
        assert unclaimed(g)["destroyed"] == 1


def test_f35_cut_and_timeout():
    """F35: a cut whose sandbox no list shows in time is 504 at timeouts.spawn, counted from sending."""
    with started(upstream=["timeouts: { spawn: 1s }"]) as (server, g), lost(server) as fault:
        expect_error(spawn(g), 504, "UPSTREAM_TIMEOUT")
        fault.store()
        nothing_left(server)
        expect_one_post(server)


def test_f35_own_timeout():
    """F35: Stacygate-Timeout ends the waiting earlier, of a spawn under way and of one that is looked for."""
    for under_way in (True, False):
        with started() as (server, g), server.hold("POST", "/sandboxes") as hold, lost(server) as fault:
            if not under_way:
                hold.release()
            expect_error(spawn(g, headers={"Stacygate-Timeout": "300ms"}), 504, "UPSTREAM_TIMEOUT")
            assert [s["state"] for s in own_spawns(g)] == ["sent" if under_way else "watched"]
            hold.release()
            wait_for("it is cut", lambda: fault.done == 1)
            fault.store()
            nothing_left(server)
            assert len(server.destroyed) == 1
            expect_one_post(server)


def test_f35_own_timeout_answered():
    """F35: the exchange goes on without its client, and its sandbox is destroyed when it is answered."""
    with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
        expect_error(spawn(g, headers={"Stacygate-Timeout": "200ms"}), 504, "UPSTREAM_TIMEOUT")
        assert [s["state"] for s in own_spawns(g)] == ["sent"]
        hold.release()
        wait_for("it is made and destroyed", lambda: server.destroyed and not server.alive())
        expect_one_post(server)


def test_f35_not_sent():
    """F35: of what was not sent at all the client is told at once, nothing is looked for, and the key is free."""
    with started() as (server, g):
        server.close()
        for key in (None, "k"):
            expect_error(spawn(g, key=key), 502, "CONNECTION_ERROR")
        assert own_spawns(g) == [] and not posts(server)
        expect_error(spawn(g, key="k", body={"image": "other"}), 502, "CONNECTION_ERROR")


def test_f35_client_gone():
    """F35: a client that leaves before the turn leaves nothing; after sending, what is made is destroyed."""
    with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
        socks = [send(g) for _ in range(3)]
        hold.wait(2)
        wait_for("the third waits", lambda: [s["state"] for s in own_spawns(g)].count("waiting") == 1)
        socks[2].close()
        wait_for("it waits no more", lambda: len(own_spawns(g)) == 2)
        left(socks[0], g)
        left(socks[1], g, 2)
        hold.release()
        wait_for("both are destroyed", lambda: len(server.destroyed) == 2)
        nothing_left(server)
        assert len(posts(server)) == 2


def test_f35_client_killed_as_it_is_answered():
    """F35: a client that is killed while its answer is on its way: the sandbox is destroyed, or kept for its retry."""
    for key, client_first in ((None, False), ("k", False), (None, True), ("k", True)):
        gate, sent = threading.Event(), threading.Event()

        def act(srv, connection, request):
            assert gate.wait(DEADLINE)
            srv.answer(connection, request)
            sent.set()
            return "answered"
        with started() as (server, g), server.fault("POST", "/sandboxes", act) as fault:
            sock = send(g, key=key)
            fault.wait()
            g.process.send_signal(signal.SIGSTOP)
            if client_first:
                sock.close()
            gate.set()
            assert sent.wait(DEADLINE)
            sock.close()
            sandbox, = server.alive("alice")
            g.process.send_signal(signal.SIGCONT)
            if key:
                retry_gets(g, server, key, sandbox)
            else:
                nothing_left(server)
                expect_one_post(server)


def test_f35_destroy_fails():
    """F35: the destruction of what nobody wants is repeated until the server says that it is gone."""
    with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
        sock = send(g)
        hold.wait()
        left(sock, g)
        with server.fault("DELETE", "/sandboxes/.*", status(500)) as failing:
            hold.release()
            failing.wait(2)
        nothing_left(server)
        wait_for("it is told no more", lambda: own_spawns(g) == [])


def test_f35_reload():
    """F35: a reload in the middle changes nothing for what is under way, although its upstream is another now."""
    with started() as (server, g), lost(server) as fault:
        later = Later(lambda: spawn(g, key="k"))
        wait_for("it is looked for", lambda: [s["state"] for s in own_spawns(g)] == ["watched"])
        g.upstream_lines.append("timeouts: { connect: 3s }")
        g.configure()
        g.reload()
        sandbox, = fault.store()
        answer = later.get()
        assert answer.status == 201 and answer.json()["id"] == sandbox, answer
        retry_gets(g, server, "k", sandbox)


# --- the gateway is killed --------------------------------------------------------------------------------------------------

def test_f35_killed_before_its_turn():
    """F35: what waited for its turn was not sent and is not sent; what was under way is destroyed by the next start."""
    with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
        socks = [send(g) for _ in range(3)]
        hold.wait(2)
        wait_for("the third waits", lambda: [s["state"] for s in own_spawns(g)].count("waiting") == 1)
        g.crash()
        assert [s["state"] for s in own_spawns(g)] == ["watched"] * 2
        hold.release()
        wait_for("both are destroyed", lambda: len(server.destroyed) == 2)
        nothing_left(server)
        assert len(posts(server)) == 2
        for sock in socks:
            sock.close()


def test_f35_killed_after_sending():
    """F35: the server stores the record after the next start: it is destroyed; with a key the retry gets it, sent once."""
    for early in (True, False):
        for key in (None, "k"):
            with started() as (server, g), lost(server, silent=True) as fault:
                sock = send(g, key=key)
                fault.wait()
                sandbox = fault.store()[0] if early else None
                g.crash()
                later = Later(lambda: spawn(g, key="k")) if key else None
                if later and not early:
                    wait_for("the retry waits for it", lambda: [s.get("deadline") is not None for s in own_spawns(g)] == [True])
                sandbox = sandbox or fault.store()[0]
                if later:
                    answer = later.get()
                    assert answer.status == 201 and answer.json()["id"] == sandbox, (answer, g.log()[-3000:])
                    retry_gets(g, server, key, sandbox)
                else:
                    nothing_left(server)
                    assert server.destroyed == [sandbox]
                expect_one_post(server)
                sock.close()


def test_f35_killed_at_each_line_of_the_journal():
    """
    F35: the gateway is killed at the very moment when a line of its journal is written, for each line that a spawn with a key writes:
    the retry gets one sandbox, and there is no other.
    """
    with started() as (server, g):
        assert spawn(g, key="k").status == 201
        wait_for("the journal has all of it", lambda: b" drop spawn/" in journal(g))
        g.process.kill()
        g.process.wait()
        lines = journal(g).splitlines(keepends=True)
        assert len(lines) >= 4, lines
        sandbox, = server.alive("alice")
        for n in range(len(lines) + 1):
            for half in (0, 17):
                # What the server has is what it had then: before the spawn was sent, nothing or all of it.
                with open(g.path("state/journal"), "wb") as file:
                    file.write(b"".join(lines[:n]) + (lines[n][:half] if n < len(lines) else b""))
                g.log_file.close()
                g.start()
                known = any(b" put spawn/" in line or b'"id":"' in line for line in lines[:n])
                before = len(posts(server))
                answer = spawn(g, key="k")
                assert answer.status == 201, (n, answer, g.log()[-3000:])
                if known:
                    assert answer.json()["id"] == sandbox and len(posts(server)) == before, (n, lines[:n], g.log()[-3000:])
                else:
                    assert len(posts(server)) == before + 1
                    server.kill(answer.json()["id"])  # the server had none then
                    server.destroyed.clear()
                assert server.alive("alice") == [sandbox]
                assert not server.destroyed, (n, g.log()[-3000:])
                wait_for("it is the client's, and not kept for anybody", lambda: own_spawns(g) == [])
                g.process.kill()
                g.process.wait()
        g.log_file.close()
        g.start()


def test_f35_killed_when_answered():
    """F35: an answer that reached the client is his: no start after it destroys the sandbox, or sends anything again."""
    for key in (None, "k"):
        with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
            sock = send(g, key=key)
            hold.wait()
            hold.release()
            wait_for("the journal knows", lambda: b" drop spawn/" in journal(g))
            g.process.kill()
            g.process.wait()
            got = read_all(sock)
            assert got.startswith(b"HTTP/1.1 201 "), got
            sandbox = json.loads(got.split(b"\r\n\r\n", 1)[1])["id"]
            g.log_file.close()
            g.start()
            assert own_spawns(g) == []
            if key:
                retry_gets(g, server, key, sandbox)
            assert server.alive("alice") == [sandbox] and not server.destroyed


def test_f35_killed_while_destroying():
    """F35: the next start goes on destroying."""
    with started() as (server, g):
        with server.hold("POST", "/sandboxes") as hold, server.fault("DELETE", "/sandboxes/.*", status(500)) as failing:
            sock = send(g)
            hold.wait()
            left(sock, g)
            hold.release()
            failing.wait()
            assert server.alive("alice")
            g.crash()
        nothing_left(server)
        expect_one_post(server)
        wait_for("the journal forgets it", lambda: own_spawns(g) == [])
        g.crash()
        assert own_spawns(g) == []


def test_f35_terminated_at_each_step():
    """F35, L4: SIGTERM in each state: the drain ends in time, and nothing is left after the next start."""
    for at in ("waited for", "left", "looked for", "destroying"):
        with started() as (server, g):
            with lost(server) if at == "looked for" else server.hold("POST", "/sandboxes") as fault, \
                    server.fault("DELETE", "/sandboxes/.*", status(500)) as failing:
                sock = send(g)
                fault.wait()
                if at in ("left", "destroying"):
                    left(sock, g)
                if at == "destroying":
                    fault.release()
                    failing.wait()
                if at == "looked for":
                    wait_for("it is looked for", lambda: own_spawns(g)[0]["state"] == "watched")
                assert g.stop() == 0, (at, g.log()[-3000:])
                if at == "looked for":
                    fault.store()
            g.start()
            nothing_left(server)
            wait_for("it is destroyed", lambda: len(server.destroyed) >= 1)
            wait_for("it is told no more", lambda: own_spawns(g) == [])
            expect_one_post(server)
            sock.close()


def test_f35_drained():
    """F35, L4: within the drain a spawn is answered, and one whose client has left is waited for and destroyed."""
    with started(drain="20s") as (server, g), server.hold("POST", "/sandboxes") as hold:
        gone, sock = send(g), send(g)
        hold.wait(2)
        left(gone, g)
        g.process.send_signal(signal.SIGTERM)
        wait_for("it drains", lambda: "stopping: no new connections" in g.log())
        hold.release()
        assert read_all(sock).startswith(b"HTTP/1.1 201 ")
        assert g.process.wait(20) == 0
        assert len(server.alive("alice")) == 1 and len(server.destroyed) == 1
        g.log_file.close()
        g.start()
        assert own_spawns(g) == []


def journal(g):
    with open(g.path("state/journal"), "rb") as file:
        return file.read()


def line_of(text):
    """A line of the journal as journal.c writes it."""
    check = 2166136261
    for byte in text:
        check = (check ^ byte) * 16777619 & 0xffffffff
    return b"%08x " % check + text + b"\n"


def age(g, ms):
    """Makes what the journal knows of spawns older; the gateway does not run."""
    def older(match):
        return match.group(1) + b"%d" % (int(match.group(2)) - ms)
    lines = [line.split(b" ", 1)[1] for line in journal(g).splitlines()]
    with open(g.path("state/journal"), "wb") as file:
        for line in lines:
            if line.startswith(b"put spawn/"):
                line = re.sub(rb'("(?:sent|until)":)(\d+)', older, line)
            file.write(line_of(line))


def test_f35_tombstone():
    """F35: what no list shows until timeouts.spawn + 60 s is forgotten by its key, not by the gateway: it is destroyed for 7 days."""
    with started({"alice": [], "root": ["admin: true"]}) as (server, g), lost(server, silent=True) as fault:
        sock = send(g, key="k")
        fault.wait()
        g.process.kill()
        g.process.wait()
        sock.close()
        age(g, 361000)
        g.log_file.close()
        g.start()
        wait_for("it is given up", lambda: unclaimed(g)["lost"] == 1)
        assert own_spawns(g) == []
        server.active_faults.remove(fault)
        second = spawn(g, key="k")
        assert second.status == 201, second
        g.crash()
        first, = fault.store()
        g.crash()
        wait_for("it is destroyed", lambda: server.destroyed == [first])
        assert server.alive("alice") == [second.json()["id"]]
        g.crash()
        assert spawn(g, key="k").json() == second.json()
        server.active_faults.append(fault)


def test_f35_tombstone_ends():
    """F35: after 7 days it is forgotten."""
    with started({"alice": [], "root": ["admin: true"]}) as (server, g), lost(server, silent=True) as fault:
        sock = send(g)
        fault.wait()
        for by in (361000, 7 * 86400000):
            g.process.kill()
            g.process.wait()
            age(g, by)
            g.log_file.close()
            g.start()
            wait_for("it is taken up", lambda: unclaimed(g)["restored"] == 1)
        wait_for("it is forgotten", lambda: b" drop spawn/" in journal(g))
        g.crash()
        assert unclaimed(g)["restored"] == 0
        sock.close()


def test_f35_bad_journal():
    """F35: records that nobody has written so are passed over, or lead to nothing: above all no sandbox of others' is touched."""
    with started({"alice": [], "root": ["admin: true"]}) as (server, g), lost(server, silent=True) as fault:
        sock = send(g, key="k")
        fault.wait()
        lasting = server.add("bob")
        g.process.kill()
        g.process.wait()
        sock.close()
        record = next(json.loads(line.split(b" ", 3)[3]) for line in journal(g).splitlines() if b" put spawn/" in line)
        key = next(json.loads(line.split(b" ", 3)[3]) for line in journal(g).splitlines() if b" put idem/" in line)
        spoilt = [{**record, "state": "kept"}, {**record, "state": "kept", "id": "../x"}, {**record, "state": 7}, {**record, "user": ""},
                  {**record, "sent": -1, "until": -(1 << 62)}, {**record, "sent": 1 << 62, "until": 1 << 62}, {**record, "keep_ms": -1},
                  {**record, "upstream": ["main"]}, {**record, "credential": "other"}, [], None, {}]
        lines = [f"put spawn/{i:08d}-0000-0000-0000-000000000000 {json.dumps(r)}" for i, r in enumerate(spoilt)]
        lines += [f"put idem/{i} {json.dumps(r)}" for i, r in enumerate(
            [{**key, "token": "short"}, {**key, "key": "a b"}, {**key, "user": ""}, {**key, "key": "l", "id": "/"}, {**key, "key": "m", "body": "zz"}, [], {}])]
        lines += ["put spawn/short {}", "put spawn/ {}", "put idem/ {}", "put other/x y", "put spawn/%s {" % ("0" * 36)]
        with open(g.path("state/journal"), "ab") as file:
            for line in lines:
                file.write(line_of(line.replace("%", "%25").encode()))
        for _ in range(2):
            g.log_file.close()
            g.start()
            assert unclaimed(g)["restored"] >= 1
            wait_for("the list has been read", lambda: server.since(0, "GET", API + "/sandboxes"))
            assert g.api("bob" if "bob" in g.rules else "root", "GET", "/sandboxes").status == 200
            g.process.kill()
            g.process.wait()
        sandbox, = fault.store()
        g.log_file.close()
        g.start()
        answer = spawn(g, key="k")
        assert answer.status == 201 and answer.json()["id"] == sandbox, (answer, g.log()[-3000:])
        assert lasting in server.alive() and not server.destroyed and not server.since(0, "DELETE")


def store(fault):
    if isinstance(fault, Lost):
        fault.store()


def answered(sock, mine, key):
    """What the client got before the gateway was killed is his."""
    try:
        got = read_all(sock)
    except ConnectionError:
        return
    if got.startswith(b"HTTP/1.1 201 "):
        mine[key] = json.loads(got.split(b"\r\n\r\n", 1)[1])["id"]


def test_f35_killed_at_random():
    """F35: client, connection and gateway are killed again and again: each key has one sandbox, and there is no other."""
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    with started() as (server, g):
        mine, sent = {}, 0
        for n in range(30):
            key = f"k{n}" if dice.random() < 0.7 else None
            killed = dice.random() < 0.6
            ways = [Lost]
            if key or killed:  # without a key a client that has its answer before it is killed has a sandbox until its ttl
                ways.append(lambda: cut(dice.choice(("before", "head", "behind head", "body"))))
            if killed:  # else the answer is waited for until timeouts.spawn
                ways.append(lambda: Lost(True))
            how = dice.choice(ways)()
            sent = len(posts(server))
            with server.fault("POST", "/sandboxes", how) as fault:
                sock = send(g, key=key)
                if key is None or dice.random() < 0.8:
                    fault.wait()
                if (key or killed) and dice.random() < 0.5:
                    store(fault)
                if killed:
                    g.crash()
                    answered(sock, mine, f"answered {n}" if key is None else key)
                else:
                    sock.close()
            later = Later(lambda: spawn(g, key=key)) if key else None  # pylint: disable=cell-var-from-loop
            if later:
                # It may have been sent just before the kill, and come to the server just now.
                wait_for("the retry is answered", lambda f=fault, a=later: store(f) or a.answer)
                answer = later.get()
                assert answer.status == 201, (seed, n, answer, g.log()[-3000:])
                assert mine.setdefault(key, answer.json()["id"]) == answer.json()["id"], (seed, n)
            else:
                store(fault)
            wait_for(f"only what the keys have is left (seed {seed}, round {n})",
                     lambda: sorted(server.alive("alice")) == sorted(mine.values()))
            assert len(posts(server)) <= sent + 1, (seed, n)
        for key, sandbox in mine.items():
            if not key.startswith("answered"):
                assert spawn(g, key=key).json()["id"] == sandbox, (seed, key)
        wait_for("nothing is under way", lambda: own_spawns(g) == [])


def test_f35_upstream_no_longer_configured():
    """F35: what belongs to an upstream that is gone is said in the log and kept for the start at which it is there again."""
    with started() as (server, g), lost(server, silent=True) as fault:
        sock = send(g)
        fault.wait()
        g.process.kill()
        g.process.wait()
        with open(g.config, encoding="utf-8") as file:
            good = file.read()
        with open(g.config, "w", encoding="utf-8") as file:
            file.write(good.replace("  main:", "  other:").replace("upstream: main", "upstream: other"))
        g.log_file.close()
        g.start()
        assert "cannot be looked for" in g.log()
        with open(g.config, "w", encoding="utf-8") as file:
            file.write(good)
        fault.store()
        g.crash()
        nothing_left(server)
        sock.close()


# --- keys -----------------------------------------------------------------------------------------------------------------

def test_idempotency_key_replay():
    """A key answers again what it has made, to its owner and for the same body, and is not sent on."""
    with started() as (server, g):
        first = spawn(g, key="k")
        assert first.status == 201
        assert all(not r.all("idempotency-key") for r in server.requests)
        for _ in range(3):
            again = spawn(g, key="k")
            assert (again.status, again.body) == (201, first.body), again
        expect_error(spawn(g, key="k", body={"image": "other"}), 409, "CONFLICT", "another body")
        expect_error(g.api("alice", "POST", "/templates/t/spawn", BODY, keyed("k")), 409, "CONFLICT", "another body")
        bobs = spawn(g, "bob", key="k", body={"image": "other"})
        assert bobs.status == 201 and bobs.json()["id"] != first.json()["id"]
        assert spawn(g, key="K").json()["id"] != first.json()["id"], "a key is told by its bytes"
        assert len(posts(server)) == 3
        g.restart()
        again = spawn(g, key="k")
        assert again.status == 201 and again.json()["id"] == first.json()["id"], again
        expect_error(spawn(g, key="k", body={"image": "other"}), 409, "CONFLICT", "another body")
        g.crash()
        assert spawn(g, key="k").json()["id"] == first.json()["id"]
        assert len(posts(server)) == 3


def test_idempotency_key_of_a_template():
    """A template spawn may be repeated as well; the template's name is part of what is compared."""
    with started() as (server, g):
        for name in ("t", "u"):
            server.templates[name] = {"name": name, "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        first = g.api("alice", "POST", "/templates/t/spawn", {}, keyed("k"))
        assert first.status == 201, first
        assert g.api("alice", "POST", "/templates/t/spawn", {}, keyed("k")).body == first.body
        expect_error(g.api("alice", "POST", "/templates/u/spawn", {}, keyed("k")), 409, "CONFLICT", "another body")
        expect_one_post(server)


def test_idempotency_key_gone():
    """A key whose sandbox is gone says so, before and after a restart; it makes no second one."""
    with started() as (server, g):
        s = spawn(g, key="k").json()["id"]
        assert g.api("alice", "DELETE", "/sandboxes/" + s).status == 200
        for _ in range(2):
            expect_error(spawn(g, key="k"), 409, "CONFLICT", "is gone")
            g.restart()
        expect_one_post(server)


def test_idempotency_key_server_down():
    """What a key has made is answered as well while the server cannot be asked whether it is still there."""
    with started() as (server, g):
        first = spawn(g, key="k")
        with server.fault("GET", "/sandboxes/.*", status(500)):
            assert spawn(g, key="k").body == first.body
            g.crash()  # now there is only the record
            assert spawn(g, key="k").status == 500
        assert spawn(g, key="k").json()["id"] == first.json()["id"]
        expect_one_post(server)


def test_idempotency_key_malformed():
    """A key is 1 to 255 characters of visible ASCII."""
    with started() as (server, g):
        for key in ("", "a b", "\u00e4", "x" * 256, "a\tb"):
            expect_error(spawn(g, headers=keyed(key.encode("latin-1"))), 400, "BAD_REQUEST", "Idempotency-Key")
        assert not posts(server)
        for key in ("x" * 255, "!", "~", '"q"\\'):
            first = spawn(g, key=key)
            assert first.status == 201, (key, first)
            assert spawn(g, key=key).body == first.body


def test_idempotency_key_waits():
    """Whoever comes while the first runs waits for it and gets the same, a refusal included; another body is 409 at once."""
    with started() as (server, g):
        with server.hold("POST", "/sandboxes") as hold:
            later = [Later(lambda: spawn(g, key="k")) for _ in range(5)]
            hold.wait()
            expect_error(spawn(g, key="k", body={"image": "other"}), 409, "CONFLICT", "another body")
            wait_for("all are there", lambda: own_connections(g) >= 6)
            hold.release()
        answers = [a.get() for a in later]
        assert {(a.status, a.body) for a in answers} == {(201, answers[0].body)}, answers
        expect_one_post(server)


def test_idempotency_key_waits_for_a_refusal():
    """What is answered otherwise than by a sandbox is answered to all who wait, and frees the key."""
    with started() as (server, g):
        steps = Steps("POST", "/sandboxes")
        with server.fault("POST", "/sandboxes", steps), server.fault("POST", "/sandboxes", status(503)):
            later = [Later(lambda: spawn(g, key="k")) for _ in range(3)]
            steps.wait()
            wait_for("both others wait", lambda: own_connections(g) >= 4)
            steps.go(0)
            answers = [a.get() for a in later]
        assert [a.status for a in answers] == [503] * 3, answers
        expect_one_post(server)
        assert spawn(g, key="k").status == 201


def own_connections(g):
    """The one that asks included."""
    return g.ask("alice", target="/gateway/v1/status").json()["own"]["connections"]


def test_idempotency_key_first_leaves():
    """The first leaves before or after sending while a second waits: the second gets the sandbox of the only POST."""
    for before in (True, False):
        with started() as (server, g):
            steps = Steps("POST", "/sandboxes")
            with server.fault("POST", "/sandboxes", steps):
                others = [send(g, key=f"other{i}") for i in range(2 if before else 0)]
                steps.wait(len(others))
                first = send(g, key="k")
                wait_for("it waits or is sent", lambda: len(own_spawns(g)) == len(others) + 1)
                if not before:
                    steps.wait()
                second = Later(lambda: spawn(g, key="k"))
                wait_for("the second is there", lambda n=len(others): own_connections(g) >= n + 3)
                first.close()
                wait_for("the gateway knows", lambda n=len(others): own_connections(g) == n + 2)
                assert len(own_spawns(g)) == len(others) + 1
                for i in range(len(others)):
                    steps.go(i)
                steps.wait(len(others) + 1)
                steps.go(len(others))
                answer = second.get()
            assert answer.status == 201, (answer, g.log()[-3000:])
            assert len(posts(server)) == len(others) + 1
            assert spawn(g, key="k").json()["id"] == answer.json()["id"]
            for sock in others:
                sock.close()


def test_idempotency_key_client_killed():
    """The client is killed at each step and comes again: it gets the one sandbox."""
    with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
        sock = send(g, key="sent")
        hold.wait()
        left(sock, g)
        assert [s["state"] for s in own_spawns(g)] == ["sent"]
        later = Later(lambda: spawn(g, key="sent"))
        wait_for("it waits", lambda: own_spawns(g)[0].get("deadline"))
        hold.release()
        retry_gets(g, server, "sent", later.get().json()["id"])
    with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
        sock = send(g, key="answered")
        hold.wait()
        left(sock, g)
        hold.release()
        wait_for("it is kept", lambda: [s["state"] for s in own_spawns(g)] == ["kept"])
        sandbox, = server.alive("alice")
        retry_gets(g, server, "answered", sandbox)
        assert own_spawns(g) == []
    with started() as (server, g), lost(server) as fault:
        sock = send(g, key="lost")
        wait_for("it is looked for", lambda: [s["state"] for s in own_spawns(g)] == ["watched"])
        left(sock, g)
        sandbox, = fault.store()
        wait_for("it is kept", lambda: [s["state"] for s in own_spawns(g)] == ["kept"])
        g.crash()
        assert [s["state"] for s in own_spawns(g)] == ["kept"]
        retry_gets(g, server, "lost", sandbox)
        g.crash()
        assert own_spawns(g) == [] and server.alive("alice") == [sandbox]


def test_idempotency_key_leaves_while_looked_at():
    """Retries that leave while the kept sandbox is looked at, one after the other: it is kept for the next."""
    with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
        sock = send(g, key="k")
        hold.wait()
        left(sock, g)
        hold.release()
        wait_for("it is kept", lambda: [s["state"] for s in own_spawns(g)] == ["kept"])
        with server.hold("GET", "/sandboxes/.*") as looks:
            for i in range(3):
                sock = send(g, key="k")
                looks.wait(i + 1)
                left(sock, g, i + 2)
            looks.release()
        sandbox, = server.alive("alice")
        with server.fault("GET", "/sandboxes/.*", status(500)):
            expect_error(spawn(g, key="k"), 502, "CONNECTION_ERROR")
        retry_gets(g, server, "k", sandbox)


def test_idempotency_key_after_504():
    """After 504 the key stays with the spawn that may still appear: the retry looks for that, and sends none."""
    with started(upstream=["timeouts: { spawn: 1s }"]) as (server, g), lost(server) as fault:
        expect_error(spawn(g, key="k"), 504, "UPSTREAM_TIMEOUT", "retry")
        expect_error(spawn(g, key="k"), 504, "UPSTREAM_TIMEOUT", "retry")
        sandbox, = fault.store()
        retry_gets(g, server, "k", sandbox)


def test_idempotency_key_kept_for_its_ttl():
    """What nobody comes back for is destroyed after its ttl, and the key is free."""
    with started() as (server, g):
        with server.hold("POST", "/sandboxes") as hold:
            sock = send(g, key="k", body={"image": "x", "ttl": "1s"})
            hold.wait()
            left(sock, g)
            hold.release()
            wait_for("it is made", lambda: server.alive("alice"))
        sandbox, = server.alive("alice")
        wait_for("it is destroyed", lambda: server.destroyed == [sandbox])
        wait_for("it is told no more", lambda: own_spawns(g) == [])
        again = spawn(g, key="k", body={"image": "y"})
        assert again.status == 201 and server.alive("alice") == [again.json()["id"]], again


def test_idempotency_key_kept_is_destroyed():
    """A kept sandbox that somebody destroyed: the retry is told, and the next one makes another."""
    with started() as (server, g), server.hold("POST", "/sandboxes") as hold:
        sock = send(g, key="k")
        hold.wait()
        left(sock, g)
        hold.release()
        wait_for("it is kept", lambda: [s["state"] for s in own_spawns(g)] == ["kept"])
        server.kill(server.alive("alice")[0])
        expect_error(spawn(g, key="k"), 409, "CONFLICT", "is gone")
        assert own_spawns(g) == []
        assert spawn(g, key="k").status == 201


# --- limits and turns -----------------------------------------------------------------------------------------------------

def test_f35_c17_limit_counts_what_is_looked_for():
    """F35, C17: limits.sandboxes counts what is under way and what is looked for, also after a restart."""
    with started({"alice": ["limits: { sandboxes: 1 }"], "bob": []}) as (server, g):
        with lost(server) as fault:
            expect_error(spawn(g, headers={"Stacygate-Timeout": "300ms"}), 504, "UPSTREAM_TIMEOUT")
            expect_error(spawn(g), 429, "RESOURCE_LIMIT", "limits.sandboxes")
            g.crash()
            expect_error(spawn(g), 429, "RESOURCE_LIMIT", "limits.sandboxes")
            expect_one_post(server)
            fault.store()
        nothing_left(server)
        wait_for("there is room", lambda: spawn(g).status == 201)
        expect_error(spawn(g), 429, "RESOURCE_LIMIT", "limits.sandboxes")


def test_c17_one_that_ends_while_is_counted():
    """C17: a spawn that ends while another of its owner counts is counted once."""
    with started({"alice": ["limits: { sandboxes: 2 }"], "bob": []}) as (server, g):
        lists, spawning = Steps("GET", "/sandboxes"), Steps("POST", "/sandboxes")
        with server.fault("GET", "/sandboxes", lists), server.fault("POST", "/sandboxes", spawning):
            first = Later(lambda: spawn(g))
            lists.wait()
            lists.go(0)
            spawning.wait()
            second = Later(lambda: spawn(g))
            lists.wait(2)
            spawning.go(0)
            assert first.get().status == 201
            lists.go(1)
            lists.wait(3)
            lists.go(2)
            spawning.wait(2)
            spawning.go(1)
            assert second.get().status == 201
        expect_error(spawn(g), 429, "RESOURCE_LIMIT", "limits.sandboxes")
        assert len(server.alive("alice")) == 2


def test_f35_watched_at_most_16():
    """F35: with 16 of an owner's looked for no further one of his is sent; others are not concerned."""
    with started({"alice": [], "bob": []}) as (server, g), lost(server) as fault:
        for _ in range(8):
            parallel([lambda: expect_error(spawn(g, headers={"Stacygate-Timeout": "300ms"}), 504, "UPSTREAM_TIMEOUT")] * 2)
        expect_error(spawn(g), 429, "RESOURCE_LIMIT", "16 spawns of yours")
        assert len(posts(server)) == 16
        expect_error(spawn(g, "bob", headers={"Stacygate-Timeout": "300ms"}), 504, "UPSTREAM_TIMEOUT")
        fault.store()
        nothing_left(server)
        nothing_left(server, "bob")
        wait_for("all are destroyed", lambda: len(server.destroyed) == 17 and own_spawns(g) == [])
        server.active_faults.remove(fault)
        assert spawn(g).status == 201
        server.active_faults.append(fault)


def test_spawn_turns_are_fair():
    """One owner's many do not hold up the others; position and deadline are visible, to the owner and to the admin."""
    with started({n: [] for n in ("alice", "bob", "carol")} | {"root": ["admin: true"]}) as (server, g):
        steps = Steps("POST", "/sandboxes")
        with server.fault("POST", "/sandboxes", steps):
            later = [Later(lambda: spawn(g)) for _ in range(6)]
            steps.wait(2)
            wait_for("the others wait", lambda: len(own_spawns(g)) == 6)
            mine = own_spawns(g)
            assert [s["state"] for s in mine].count("sent") == 2, "an owner has half of the turns at most"
            assert sorted(s["position"] for s in mine if s["state"] == "waiting") == [0, 1, 2, 3], mine
            for s in mine:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", s["deadline"]) and s["upstream"] == "main", s
            later += [Later(lambda: spawn(g, "bob")) for _ in range(3)]
            steps.wait(4)
            later += [Later(lambda: spawn(g, "carol")) for _ in range(2)]
            wait_for("all are known", lambda: len(g.ask("root", target="/gateway/v1/status").json()["spawns"]) == 11)
            every = g.ask("root", target="/gateway/v1/status").json()["spawns"]
            assert {s["user_id"] for s in every} == {"alice", "bob", "carol"}
            assert len(own_spawns(g, "carol")) == 2 and {s["state"] for s in own_spawns(g, "carol")} == {"waiting"}
            assert own_spawns(g, "root") == []
            assert steps.users[:4] == ["alice"] * 2 + ["bob"] * 2, steps.users
            # Whoever has none under way is next; then turns go round by the time that was used.
            steps.go(0)
            steps.wait(5)
            assert steps.users[4] == "carol", steps.users
            steps.go(1)
            steps.wait(6)
            for n in range(2, 11):
                steps.go(n)
                steps.wait(n + 5 if n < 4 else min(n + 2, 11))
            assert [a.get().status for a in later] == [201] * 11
            assert steps.users[5] in ("alice", "carol") and steps.users.count("alice") == 6, steps.users
            assert "carol" in steps.users[5:8], steps.users
        assert own_spawns(g) == []


def test_spawn_queue_is_full():
    """pool.max_waiting bounds who waits for a turn, a quarter of it for one owner; beyond that 503."""
    with started({n: [] for n in ("alice", "bob", "carol")}, upstream=["pool: { max_waiting: 8 }"]) as (server, g):
        with server.hold("POST", "/sandboxes") as hold:
            socks = [send(g) for _ in range(4)]
            hold.wait(2)
            wait_for("two wait", lambda: [s["state"] for s in own_spawns(g)].count("waiting") == 2)
            expect_error(spawn(g), 503, "UNAVAILABLE", "max_waiting")
            expect_error(spawn(g, key="k"), 503, "UNAVAILABLE", "max_waiting")
            bobs = Later(lambda: spawn(g, "bob"))
            hold.wait(3)
            hold.release()
            assert bobs.get().status == 201
            for sock in socks:
                assert sock.recv(12) == b"HTTP/1.1 201"
                sock.close()
        assert spawn(g, key="k").status == 201


def test_spawn_turn_does_not_come():
    """A spawn whose turn does not come within timeouts.spawn is refused, and was never sent."""
    with started(upstream=["timeouts: { spawn: 1s }"]) as (server, g), lost(server, silent=True):
        answers = parallel([lambda: spawn(g)] * 8)
        refused = [a for a in answers if a.status == 503]
        assert len(refused) >= 4 and len(posts(server)) == 8 - len(refused), answers
        for a in refused:
            expect_error(a, 503, "UNAVAILABLE", "did not have its turn in time")
        assert {a.status for a in answers} == {503, 504}, answers


if __name__ == "__main__":
    run(globals())
