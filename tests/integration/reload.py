# SPDX-License-Identifier: Apache-2.0
"""POST /gateway/v1/reload, stacygate reload and PUT /gateway/v1/log: all of the new configuration or all of the old one, and who
asked is told which."""
import json
import os
import signal
import stat
import subprocess
import sys
import threading

from owners_lib import Events, LEAN, Later, expect_error, headers_of, raw, read_all, run, started
from tls_lib import BUILD, KEY, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from sg import free_ports  # noqa: E402

RELOAD = "/gateway/v1/reload"
ADMIN = ["admin: true", "isolation: none", "allow: [all]"]
RULES = {"alice": [], "root": ADMIN}


def read(g):
    with open(g.config, encoding="utf-8") as file:
        return file.read()


def write(g, text):
    with open(g.config, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def reload(g, name="root"):
    return g.ask(name, "POST", RELOAD)


def config_of(g):
    return g.ask("root", target="/gateway/v1/status").json()["config"]


def client(g, *words):
    return subprocess.run([os.path.join(BUILD, "stacygate"), *words], env={**g.environment, "STACYGATE_SOCKET": g.socket_of("root")},
                          capture_output=True, text=True, timeout=60)


def test_it_is_in_force_when_it_is_answered():
    with started(RULES) as (server, g):
        before = config_of(g)["generation"]
        for i in range(1, 6):
            g.rules["alice"] = [f"user_id: alice-{i}"]
            g.configure()
            answer = reload(g)
            assert answer.status == 200 and answer.json()["generation"] == before + i, answer
            mark = server.mark()
            assert g.api("alice", "GET", "/health").status == 200
            assert [r.all("x-user-id") for r in server.since(mark)] == [[f"alice-{i}"]]
        done = client(g, "reload")
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(f"generation: {before + 6}\n"), done
        done = client(g, "reload", "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["generation"] == before + 7, done


def test_warnings_are_answered():
    with started(RULES) as (_, g):
        warnings = reload(g).json()["warnings"]
        assert any("admin_api_key" in line for line in warnings) and all(line in g.log() for line in warnings), warnings
        lines = client(g, "reload").stdout.splitlines()
        assert [f"warnings[{i}]: {line}" for i, line in enumerate(warnings)] == lines[1:], lines


def test_only_an_operator_may():
    with started({"alice": ["allow: [all]"], "root": ADMIN}) as (_, g):
        before = config_of(g)
        expect_error(reload(g, "alice"), 403, "FORBIDDEN", "admin: true")
        expect_error(g.ask("alice", "PUT", "/gateway/v1/log", '{"level":"error"}'), 403, "FORBIDDEN", "admin: true")
        assert config_of(g) == before
        for method in ("GET", "PUT", "DELETE"):
            answer = g.ask("root", method, RELOAD)
            assert answer.status == 405 and headers_of(answer, "allow") == ["POST, OPTIONS"], answer
        for path, allow in (("/gateway/v1/log", "PUT, OPTIONS"), ("/gateway/v1/cache", "DELETE, OPTIONS"), ("/gateway/v1/run", "POST, OPTIONS"),
                            ("/gateway/v1/leases", "GET, HEAD, OPTIONS"), ("/gateway/v1/leases/x", "PUT, DELETE, OPTIONS"), ("/gateway/v1/", "GET, HEAD, OPTIONS")):
            answer = g.ask("alice", "PATCH", path)
            assert headers_of(answer, "allow") == [allow] and allow in expect_error(answer, 405, "BAD_REQUEST"), answer
        assert config_of(g) == before


def faulty(g):
    """Texts of files that are refused, each with what its fault says."""
    good = read(g)
    alias = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [" + ",".join(["*" + chr(97 + i)] * 9) + "]\n" for i in range(8))
    listener = f"  - {{ path: {g.path('new.sock')}, name: new }}\n"
    broken = good.replace("listen:\n", "listen:\n" + listener, 1)
    yield "syntax", broken + "x: [\n", ":"
    yield "no rules", "clients: []\n", "clients"
    yield "empty", "", f"{g.config}:1:1: there is nothing in it"
    yield "nothing but comments", "# all of it\n# was taken out\n", f"{g.config}:1:1: there is nothing in it"
    yield "unknown key", broken + "oops: 1\n", f"{g.config}:{broken.count(chr(10)) + 1}:1: unknown key \"oops\""
    yield "aliases", alias + broken, f"{g.config}:"
    yield "rule twice", broken.replace("name: root\n    match", "name: alice\n    match"), "used twice"
    yield "no bytes of text", b"\xff\xfe\x00", f"{g.config}:"
    yield "password in a URL", broken.replace("url: http://", f"url: http://user:{KEY}@", 1), "password, which may not stand in it"
    yield "key file missing", broken.replace(g.path("key"), g.path("none")), place_of(g, broken, "{ api_key:", 'credential "team": ' + g.path("none"))
    os.chmod(g.path("key"), 0o644)
    yield "key file for everybody", broken, place_of(g, broken, "{ api_key:", 'credential "team": ')
    os.chmod(g.path("key"), 0o600)
    yield "listener in a file's place", broken.replace(listener, listener.replace("new.sock", "key")), f"{g.config}:{broken.split(listener)[0].count(chr(10)) + 1}:5: listener new: {g.path('key')}"


def place_of(g, text, word, what):
    """The fault as it is said of the key at that word."""
    before = text[:text.index(word)]
    return f"{g.config}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: {what}"


def test_l2_faulty_ones_change_nothing():
    """L2: for each faulty file who asked is answered 400 with the faults, the old configuration is in force and nothing of the
    new one is."""
    with started(RULES) as (_, g):
        good, before, tried = read(g), config_of(g), 0
        for what, text, fault in faulty(g):
            write(g, text)
            answer = reload(g)
            message = expect_error(answer, 400, "BAD_REQUEST", fault)
            assert KEY not in message and KEY not in g.log(), what
            assert all(line in g.log() for line in message.split("\n")), (what, message)
            done = client(g, "reload")
            assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("stacygate: BAD_REQUEST: "), (what, done)
            assert fault in done.stderr and "\\x0a" not in done.stderr, (what, done.stderr)
            tried += 2
            now = config_of(g)
            assert now["last_reload"]["ok"] is False and fault in now["last_reload"]["error"], (what, now)
            assert now["last_reload"]["error"] == message.split("\n")[0], (what, now)
            health = g.ask("alice", target="/gateway/v1/health").json()
            assert health["status"] == "degraded" and health["reload_failed"] is True and g.config not in json.dumps(health), health
            assert (now["generation"], now["reloads_failed"]) == (before["generation"], before["reloads_failed"] + tried), (what, now)
            assert not os.path.exists(g.path("new.sock")), what
            assert g.api("alice", "GET", "/health").status == 200, what
            assert KEY not in message + done.stderr, what
            write(g, good)
        assert "last_reload" not in before and reload(g).json()["generation"] == before["generation"] + 1
        assert config_of(g)["last_reload"]["ok"] is True and "error" not in config_of(g)["last_reload"]
        assert g.ask("alice", target="/gateway/v1/health").json()["status"] == "ok"


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_listener_that_stays_takes_over_its_name_and_mode():
    """Its connections too: they are judged by the new name from their next request on, and the socket is the same one."""
    with started(RULES) as (server, g):
        path, text = g.socket_of("alice"), read(g)
        inode = os.stat(path).st_ino
        kept = g.connect("alice")
        assert kept.ask("GET", "/api/v1/health").status == 200
        text = text.replace(f"{{ path: {path}, name: alice }}", f'{{ path: {path}, name: front-door, mode: "0666" }}')
        write(g, text.replace("listener: alice", "listener: front-door").replace("user_id: alice", "user_id: renamed"))
        answer = reload(g)
        assert answer.status == 200, answer
        assert (mode_of(path), os.stat(path).st_ino) == (0o666, inode)
        mark = server.mark()
        assert kept.ask("GET", "/api/v1/health").status == 200
        assert g.api("alice", "GET", "/health").status == 200
        assert [r.all("x-user-id") for r in server.since(mark)] == [["renamed"], ["renamed"]]
        assert g.ask("alice", target="/gateway/v1/whoami").json()["listener"] == "front-door"
        # Two that change names with each other, and a narrower mode.
        other = g.socket_of("root")
        swapped = text.replace("name: front-door", "name: X").replace(f"{{ path: {other}, name: root }}", f'{{ path: {other}, name: alice, mode: "0640" }}')
        write(g, swapped.replace("name: X", "name: root"))
        assert g.ask("root", "POST", RELOAD).status == 200
        assert g.ask("alice", target="/gateway/v1/whoami").json()["rule"] == "root" and mode_of(other) == 0o640
        assert g.ask("root", target="/gateway/v1/whoami").json()["rule"] == "alice"
        assert kept.ask("GET", "/gateway/v1/whoami").json()["rule"] == "root"
        # All or nothing here as well.
        write(g, swapped.replace("name: X", "name: root").replace('"0666"', '"0600"') + "oops: 1\n")
        assert g.ask("alice", "POST", RELOAD).status == 400 and mode_of(path) == 0o666
        kept.close()


def test_regress_a_name_that_is_used_again():
    """A connection whose listener went is none of the listener that has its name now; and a reload that failed gives no names."""
    with started(RULES) as (_, g):
        alice, root, text = g.socket_of("alice"), g.socket_of("root"), read(g)
        kept = g.connect("alice")
        assert kept.ask("GET", "/gateway/v1/whoami").json()["rule"] == "alice"
        gone = text.replace(f"  - {{ path: {alice}, name: alice }}\n", "").replace("name: alice\n    match: { listener: alice }", "name: alice\n    match: { uid: 1 }")
        write(g, gone.replace(f"{root}, name: root", f"{root}, name: alice").replace("match: { listener: root }", "match: { listener: alice }"))
        assert reload(g).status == 200
        assert g.ask("root", target="/gateway/v1/whoami").json()["listener"] == "alice"
        assert expect_error(kept.ask("GET", "/gateway/v1/whoami"), 403, "FORBIDDEN")
        kept.close()
    with started(RULES) as (_, g):
        alice, root, text = g.socket_of("alice"), g.socket_of("root"), read(g)
        kept = g.connect("alice")
        assert kept.ask("GET", "/gateway/v1/whoami").json()["rule"] == "alice"
        # Called ops, by a reload that fails because of another listener.
        failing = text.replace(f"{alice}, name: alice }}", f"{alice}, name: ops }}\n  - {{ path: {g.path('key')}, name: bad }}")
        write(g, failing.replace("listener: alice", "listener: ops"))
        assert reload(g).status == 400
        assert g.ask("root", target="/gateway/v1/health").json()["status"] == "degraded" and "listener_error" not in g.ask("root", target="/gateway/v1/health").json()
        gone = text.replace(f"  - {{ path: {alice}, name: alice }}\n", "").replace("name: alice\n    match: { listener: alice }", "name: alice\n    match: { uid: 1 }")
        write(g, gone.replace(f"{root}, name: root", f"{root}, name: ops").replace("match: { listener: root }", "match: { listener: ops }"))
        assert reload(g).status == 200
        assert expect_error(kept.ask("GET", "/gateway/v1/whoami"), 403, "FORBIDDEN")
        kept.close()


def test_a_tcp_listener_that_stays_may_be_renamed():
    with started(RULES) as (_, g):
        [port] = free_ports(1)
        text = read(g).replace("listen:\n", f"listen:\n  - {{ tcp: 127.0.0.1:{port}, name: one }}\n", 1)
        write(g, text)
        assert reload(g).status == 200
        write(g, text.replace("name: one", "name: two"))
        answer = reload(g)
        assert answer.status == 200, answer
        assert "listener one is called two now" in g.log()


def test_many_faults_are_lines():
    """All of them are answered, whole lines up to 16 KiB."""
    with started(RULES) as (_, g):
        good = read(g)
        write(g, good + "one: 1\ntwo: 2\n")
        message = reload(g).json()["message"]
        assert len(message.split("\n")) == 2 and all(line.startswith(g.config + ":") for line in message.split("\n")), message
        write(g, good + "".join(f"key{i}: 1\n" for i in range(500)))
        message = reload(g).json()["message"]
        assert 1000 < len(message) <= 16384 and all(line.startswith(g.config + ":") for line in message.split("\n")), len(message)
        done = client(g, "reload", "--json")
        assert done.returncode == 1 and json.loads(done.stderr)["code"] == "BAD_REQUEST", done
        write(g, good)


def test_l1_under_load():
    """L1: requests and a stream go on while the configuration is replaced again and again, by good files and by faulty ones."""
    with started({"alice": [], "bob": [], "root": ADMIN}) as (server, g):
        good, stop, faults, served = read(g), threading.Event(), [], [0, 0, 0]

        def ask_on(i):
            connection = g.connect(("alice", "bob", "alice")[i])
            while not stop.is_set():
                answer = connection.ask("GET", "/api/v1/health")
                if answer.status != 200 or not answer.whole:
                    faults.append(answer)
                served[i] += 1
            connection.close()
        events = Events(server, g, "bob")
        threads = [threading.Thread(target=ask_on, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()
        generation = config_of(g)["generation"]
        for i in range(60):
            if i % 3 == 2:
                write(g, good + "oops: 1\n")
                assert reload(g).status == 400
            else:
                write(g, good + f"# {i}\n")
                generation += 1
                assert reload(g).json()["generation"] == generation
        write(g, good)
        stop.set()
        for t in threads:
            t.join()
        assert not faults and min(served) > 20, (faults[:3], served)
        sandbox = server.add("bob")
        server.publish("sandbox.created", sandbox)
        assert events.next()
        events.close()


def test_l3_a_thousand():
    """L3: neither memory nor descriptors grow."""
    with started(RULES, env=LEAN) as (_, g):
        def descriptors():
            return len(os.listdir(f"/proc/{g.process.pid}/fd"))
        connection = g.connect("root")

        def times(n):
            for _ in range(n):
                assert connection.ask("POST", RELOAD).status == 200
            return descriptors(), g.resident_kib()
        fds, kib = times(200)
        fds_after, kib_after = times(1000)
        assert fds_after == fds and kib_after < kib + 4096, (fds, fds_after, kib, kib_after)
        connection.close()


def test_at_the_same_time():
    """Several who ask at once are all answered, each with a configuration that was in force."""
    with started(RULES) as (_, g):
        before = config_of(g)["generation"]
        later = [Later(lambda: reload(g)) for _ in range(8)]
        assert sorted(x.get().json()["generation"] for x in later) == list(range(before + 1, before + 9))


def test_who_takes_away_his_own_way_in():
    """The listener and the rule by which it is asked are gone with it; the answer comes all the same."""
    with started({"alice": ["allow: [all]"], "root": ADMIN, "last": ADMIN}) as (_, g):
        connection = g.connect("last")
        assert connection.ask("GET", "/gateway/v1/health").status == 200
        g.rules = {"alice": [], "root": ADMIN}
        g.configure()
        answer = connection.ask("POST", RELOAD)
        assert answer.status == 200 and answer.whole, answer
        assert not os.path.exists(g.socket_of("last"))
        expect_error(connection.ask("POST", RELOAD), 403, "FORBIDDEN")
        connection.close()


def test_who_does_not_wait():
    """A client that leaves before the answer leaves a daemon that goes on."""
    with started(RULES) as (_, g):
        for _ in range(50):
            raw(g, "root", f"POST {RELOAD} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).close()
        before = config_of(g)["generation"]
        assert reload(g).json()["generation"] > before


def test_while_it_stops():
    """A reload whose request is read to its end while the daemon drains changes nothing, and is told so."""
    with started(RULES, drain="20s") as (_, g):
        sock = raw(g, "root", f"POST {RELOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{".encode())
        wait_for("its head is read", lambda: "head -> body" in g.log())
        g.process.send_signal(signal.SIGTERM)
        wait_for("it drains", lambda: "running -> draining" in g.log())
        sock.sendall(b"}")
        answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in answer and b"Connection: close" in answer, answer
        assert b'{"code":"UNAVAILABLE","message":"the daemon is stopping"}' in answer, answer
        assert "reloaded: " not in g.log() and "reload failed" not in g.log()


def test_bodies():
    """A body says nothing to a reload, small or large."""
    with started(RULES) as (_, g):
        for body in (b"", b"{}", b"\x00" * 1000, b"x" * 300000):
            assert g.ask("root", "POST", RELOAD, body).status == 200, len(body)


def test_the_audit_names_no_server():
    with started(RULES) as (_, g):
        assert reload(g).status == 200
        assert g.ask("root", "PUT", "/gateway/v1/log", '{"level":"info"}').status == 200

        def audited():
            with open(g.path("audit.log"), encoding="ascii") as file:
                return [json.loads(line) for line in file]
        wait_for("both are written", lambda: len(audited()) == 2)
        lines = audited()
        assert [(x["kind"], x["route"], x["rule"], x["status"], x.get("upstream")) for x in lines] == [
            ("change", RELOAD, "root", 200, None), ("change", "/gateway/v1/log", "root", 200, None)], lines


def set_level(g, body):
    return g.ask("root", "PUT", "/gateway/v1/log", body if isinstance(body, (bytes, str)) else json.dumps(body))


def test_log_level():
    """It holds until the next reload, which sets what the configuration says."""
    with started(RULES) as (_, g):
        def says_debug():
            before = g.log().count(" debug stacygated: ")
            assert g.ask("root", target="/gateway/v1/health").status == 200
            return g.log().count(" debug stacygated: ") > before
        assert says_debug()
        for level, debug in (("error", False), ("debug", True), ("warn", False), ("info", False), ("debug", True)):
            answer = set_level(g, {"level": level})
            assert answer.status == 200 and answer.json() == {"level": level}, answer
            assert says_debug() == debug, level
        assert "the level of the log is debug until the next reload, by uid" in g.log()
        assert set_level(g, {"level": "error"}).status == 200
        assert reload(g).status == 200
        wait_for("it is the configuration's again", says_debug)


def test_bad_levels():
    with started(RULES) as (_, g):
        for body in ("", "{}", "[]", '"debug"', '{"level":"loud"}', '{"level":"DEBUG"}', '{"level":""}', '{"level":1}', '{"level":null}', '{"level":"warning"}',
                     '{"level":"info","x":1}', '{"level":"info","level":"debug"}', '{"level":"info"} x', '{"level":"info\\u0000"}', b"\xff", "{"):
            message = expect_error(set_level(g, body), 400, "BAD_REQUEST")
            assert body == b"\xff" or "level" in message, (body, message)
        answer = g.ask("root", "PUT", "/gateway/v1/log", "x" * (3 << 20))
        assert answer.status == 413 and headers_of(answer, "stacygate-error") == ["TOO_LARGE"], answer


def test_the_client_prints_metrics():
    with started(RULES) as (_, g):
        done = client(g, "metrics")
        assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("# HELP stacygate_"), done
        again = json.loads(client(g, "metrics", "--json").stdout)
        assert list(again) == ["metrics"] and again["metrics"].startswith("# HELP stacygate_"), again
        assert client(g, "metrics", "x").returncode == 2


if __name__ == "__main__":
    run(globals())
