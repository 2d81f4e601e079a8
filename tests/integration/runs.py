# SPDX-License-Identifier: Apache-2.0
"""
POST /gateway/v1/run in front of a stand-in whose commands really run: what it answers, and that no sandbox is left, whichever party
ends at whichever step.
"""
import base64
import json
import os
import subprocess
import tempfile
import threading

from owners_lib import Later, expect_error, headers_of, raw, run, started
from tls_lib import wait_for
from vm_lib import API, cut, status

RUN = "/gateway/v1/run"


def really(server, connection, request):
    """Runs the command of an exec; the file that a wrapped command leaves its status in is the sandbox's."""
    sandbox = request.path.split("/")[2]
    fields = json.loads(request.body)
    server.found(sandbox)
    argv = [fields["command"], *fields.get("args", [])] if fields.get("mode") == "argv" else \
        ["sh", "-c", " ".join([fields["command"], *("'" + a.replace("'", "'\"'\"'") + "'" for a in fields.get("args", []))])]
    with tempfile.TemporaryDirectory(prefix="sg-run.") as directory:
        left = [a for a in argv if a.startswith("/workspace/.stacygate-")]
        for (owner, path), content in server.files.items():
            if owner == sandbox and path.startswith("/workspace/") and "/" not in path[11:]:
                with open(os.path.join(directory, path[11:]), "wb") as file:
                    file.write(content)
        done = subprocess.run([a.replace("/workspace/", directory + "/") for a in argv], capture_output=True, timeout=60,
                              env={**os.environ, **fields.get("env", {})}, cwd=directory)
        for name in os.listdir(directory):
            with open(os.path.join(directory, name), "rb") as file:
                server.files[(sandbox, "/workspace/" + name)] = file.read()
        assert len(left) <= 1
    if not fields.get("stream"):
        server.send_json(connection, request, 200, {"exit_code": done.returncode, "stdout": done.stdout.decode("utf-8", "replace"),
                                                    "stderr": done.stderr.decode("utf-8", "replace"), "duration": "1ms"})
        return "answered"
    parts = []
    for stream, data in (("stdout", done.stdout), ("stderr", done.stderr)):
        for line in data.decode("utf-8", "replace").splitlines(True):
            record = json.dumps({"stream": stream, "data": line}).encode() + b"\n"
            parts.append(b"%x\r\n%b\r\n" % (len(record), record))
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n\r\n")
    return "answered"


def begun(rules=None, **more):
    return started(rules or {"alice": [], "bob": []}, **more)


def commands(server):
    return server.fault("POST", "/sandboxes/[^/]+/exec", really)


def nothing_left(server, made=None):
    wait_for("no sandbox is left", lambda: not server.alive())
    if made is not None:
        spawns = server.since(0, "POST", API + "/sandboxes")
        assert len(spawns) == made, len(spawns)


def records(answer):
    return [json.loads(line) for line in answer.body.splitlines()]


def test_answers():
    """Spawn, files, exec, destroy; the answer is exec's, and the sandbox is gone before its last byte."""
    with begun() as (server, g), commands(server):
        answer = g.ask("alice", "POST", RUN, json.dumps({
            "image": "python:3.12", "ttl": "5m", "metadata": {"a": "b"}, "command": "cat a 'b c'; echo $X; exit 3", "env": {"X": "é"},
            "files": [{"path": "/workspace/a", "content": "hällo\n"},
                      {"path": "/workspace/b c", "content": base64.b64encode("text ü\n".encode()).decode(), "encoding": "base64"}]}))
        assert answer.status == 200 and not server.alive(), answer
        assert answer.json()["exit_code"] == 3 and answer.json()["stdout"] == "hällo\ntext ü\né\n", answer
        sent = json.loads(server.since(0, "POST", API + "/sandboxes")[0].body)
        assert sent["image"] == "python:3.12" and sent["ttl"] == "2m0s" and sent["metadata"]["a"] == "b", sent
        assert sent["metadata"]["stacygate.owner"] == "alice" and "command" not in sent, sent
        nothing_left(server, 1)
        assert json.loads(g.ask("alice", "GET", "/gateway/v1/leases").body) == []


def test_bytes():
    """What is no text goes as base64 and is made of it inside, with its mode."""
    data = bytes(range(256)) * 8
    with begun() as (server, g), commands(server):
        answer = g.ask("alice", "POST", RUN, json.dumps({
            "command": "base64 -w0 bin; stat -c %a bin; ls -A",
            "files": [{"path": "/workspace/bin", "content": base64.b64encode(data).decode(), "encoding": "base64", "mode": "750"}]}))
        lines = answer.json()["stdout"]
        assert answer.status == 200 and lines.startswith(base64.b64encode(data).decode()), answer
        assert [r.query.get("path") for r in server.since(0, "DELETE")] in ([], [None]), "only the sandbox is deleted"


def test_streams():
    """NDJSON, ending in the exit code and the time, although the server's streams carry neither."""
    with begun() as (server, g), commands(server):
        for body, code in (({"command": "echo out; echo err >&2; exit 7"}, 7), ({"command": "true"}, 0),
                           ({"command": "printf", "args": ["%s|", "a b", "it's", "$HOME"], "mode": "argv"}, 0),
                           ({"command": "printf '%s|'", "args": ["a b", "it's", "$HOME"]}, 0),
                           ({"command": "nosuchprogram"}, 127)):
            answer = g.ask("alice", "POST", RUN, json.dumps({**body, "stream": True}))
            assert answer.status == 200 and answer.whole and headers_of(answer, "content-type") == ["application/x-ndjson"], answer
            *output, last = records(answer)
            assert last["exit_code"] == code and last["duration"].endswith("s") and list(last) == ["exit_code", "duration"], last
            if "args" in body:
                assert "".join(r["data"] for r in output) == "a b|it's|$HOME|", output
            assert not server.alive()
        nothing_left(server, 5)


def test_status_unreadable():
    """A status that nobody wrote is null, with the reason."""
    with begun() as (server, g), commands(server):
        answer = g.ask("alice", "POST", RUN, json.dumps({"command": "kill -9 $PPID; sleep 1", "stream": True}))
        last = records(answer)[-1]
        assert last["exit_code"] is None and "status" in last["error"], last
        nothing_left(server, 1)


def test_bad_bodies():
    """What run cannot do is 400 and nothing reaches the server."""
    with begun() as (server, g):
        for body in ("", "[]", "{", '{"command":1}', "{}", '{"command":"x","command":"y"}', '{"command":"x","nosuch":1}',
                     '{"command":"x","files":[{"path":"/a"}]}', '{"command":"x","files":[{"path":"/a","content":"!","encoding":"base64"}]}',
                     '{"command":"x","files":[{"path":"/a","content":"","encoding":"rot13"}]}', '{"command":"x","mode":"raw"}',
                     '{"command":"x","files":[{"path":"/a","content":"","mode":"u+x"}]}', '{"command":"x","max_output":"0"}',
                     '{"command":"x","args":[1]}', '{"command":"x","env":{"a":1}}', '{"command":"x"} y', '{"command":"x","memory_mb":"1"}'):
            expect_error(g.ask("alice", "POST", RUN, body), 400, "BAD_REQUEST")
        assert not server.since(0, "POST")
        answer = g.ask("alice", "POST", RUN, json.dumps({"command": "x", "metadata": {"stacygate.owner": "bob"}}))
        expect_error(answer, 400, "BAD_REQUEST")
        expect_error(g.ask("alice", "POST", RUN, json.dumps({"command": "x" * 3000000})), 413, "TOO_LARGE")
        assert not server.since(0, "POST")


def test_denied():
    """The class is `run`; limits of spawns hold for it."""
    rules = {"alice": ["limits: { max_ttl: 1m, images: [x] }"], "bob": ["allow: [sandboxes]"]}
    with begun(rules) as (server, g), commands(server):
        expect_error(g.ask("bob", "POST", RUN, '{"command":"true"}'), 403, "FORBIDDEN", "run")
        expect_error(g.ask("alice", "POST", RUN, '{"command":"true","image":"y"}'), 403, "FORBIDDEN", "images")
        answer = g.ask("alice", "POST", RUN, '{"command":"true","image":"x","ttl":"1h"}')
        assert answer.status == 200 and headers_of(answer, "stacygate-clamped") == ["ttl"], answer
        assert json.loads(server.since(0, "POST", API + "/sandboxes")[0].body)["ttl"] == "1m0s"
        nothing_left(server, 1)


def test_errors_of_the_server():
    """Each step's error is the answer, and the sandbox is gone before it."""
    with begun() as (server, g):
        with server.fault("POST", "/sandboxes", status(429)):
            answer = g.ask("alice", "POST", RUN, '{"command":"true"}')
            assert answer.status == 429 and not headers_of(answer, "stacygate-error"), answer
        body = json.dumps({"command": "true", "files": [{"path": "/a", "content": "x"}]})
        for pattern in ("/sandboxes/[^/]+/files", "/sandboxes/[^/]+/exec"):
            for act, code in ((status(500), 500), (cut("before"), 502), (cut("body"), 502)):
                with server.fault("POST", pattern, act):
                    answer = g.ask("alice", "POST", RUN, body)
                    assert answer.status == code and answer.whole and not server.alive(), (pattern, code, answer)
        nothing_left(server)


def test_a_stream_that_is_cut():
    """A stream that the server breaks off says so in its last record and breaks off too."""
    def half(server, connection, request):
        line = b'{"stream":"stdout","data":"a"}\n{"stream":"std'
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(line), line))
        connection.close()
        return "closed"
    with begun() as (server, g), server.fault("POST", "/sandboxes/[^/]+/exec", half):
        answer = g.ask("alice", "POST", RUN, '{"command":"true","stream":true}')
        assert answer.status == 200 and not answer.whole, answer
        last = json.loads(answer.body.splitlines()[-1])
        assert last["exit_code"] is None and last["error"] and not server.alive(), last
        nothing_left(server, 1)


def test_heartbeat():
    """A silent stream gets a blank line, between whole lines only."""
    def silent(server, connection, request):
        line = b'{"stream":"stdout","data":"a"}\n'
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(line), line))
        assert go_on.wait(60)
        connection.send(b"0\r\n\r\n")
        return "answered"
    go_on = threading.Event()
    with begun({"alice": ["heartbeat: 100ms"], "bob": []}) as (server, g), server.fault("POST", "/sandboxes/[^/]+/exec", silent):
        body = b'{"command":"true","stream":true}'
        sock = raw(g, "alice", request_bytes(body))
        got = b""
        while b"\n\r\n1\r\n\n\r\n1\r\n\n\r\n" not in got:
            piece = sock.recv(65536)
            assert piece, got
            got += piece
        go_on.set()
        while b'"exit_code":null' not in got:
            got += sock.recv(65536)
        sock.close()
        nothing_left(server, 1)


def test_output_limit():
    """More output than max_output ends the run: 413, or a record that says so."""
    with begun() as (server, g), commands(server):
        body = {"command": "head -c 100000 /dev/zero | tr '\\0' x | fold -w 100", "max_output": "20KiB"}
        expect_error(g.ask("alice", "POST", RUN, json.dumps(body)), 413, "TOO_LARGE", "max_output")
        answer = g.ask("alice", "POST", RUN, json.dumps({**body, "stream": True}))
        last = json.loads(answer.body.splitlines()[-1])
        assert not answer.whole and last["exit_code"] is None and "max_output" in last["error"], last
        nothing_left(server, 2)


def test_timeouts():
    """Stacygate-Timeout and the ttl that was asked for end a run at whatever step; the sandbox goes before the answer."""
    body = json.dumps({"command": "true", "files": [{"path": "/a", "content": "x"}]})
    with begun() as (server, g):
        for pattern in ("/sandboxes/[^/]+/files", "/sandboxes/[^/]+/exec"):
            with server.hold("POST", pattern):
                answer = g.ask("alice", "POST", RUN, body, {"Stacygate-Timeout": "300ms"})
                expect_error(answer, 504, "UPSTREAM_TIMEOUT", "Stacygate-Timeout")
                assert not server.alive()
        with server.hold("POST", "/sandboxes/[^/]+/exec"):
            expect_error(g.ask("alice", "POST", RUN, '{"command":"true","ttl":"300ms"}'), 504, "UPSTREAM_TIMEOUT", "ttl")
            assert not server.alive()
        with server.hold("POST", "/sandboxes") as hold:
            expect_error(g.ask("alice", "POST", RUN, body, {"Stacygate-Timeout": "300ms"}), 504, "UPSTREAM_TIMEOUT")
            hold.release()
            nothing_left(server)


STEPS = (("POST", "/sandboxes"), ("POST", "/sandboxes/[^/]+/files"), ("POST", "/sandboxes/[^/]+/exec"), ("GET", "/sandboxes/[^/]+/files"),
         ("DELETE", "/sandboxes/[^/]+"))
BODY = json.dumps({"command": "true", "stream": True, "files": [{"path": "/workspace/a", "content": "x"}]}).encode()


def request_bytes(body=BODY):
    return b"POST " + RUN.encode() + b" HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_the_client_leaves_at_each_step():
    """The sandbox is destroyed, and nothing was spawned twice."""
    for method, pattern in STEPS:
        with begun() as (server, g), server.hold(method, pattern) as hold, commands(server):
            sock = raw(g, "alice", request_bytes())
            hold.wait()
            sock.close()
            wait_for("the gateway knows", lambda: "closed: client-gone" in g.log())  # noqa: B023
            hold.release()
            nothing_left(server, 1)


def test_the_gateway_is_killed_at_each_step():
    """kill -9, then a start: the sandbox is destroyed, and nothing was spawned twice."""
    for method, pattern in STEPS:
        with begun() as (server, g), server.hold(method, pattern) as hold, commands(server):
            sock = raw(g, "alice", request_bytes())
            hold.wait()
            g.process.kill()
            g.process.wait()
            hold.release()
            sock.close()
            g.start()
            nothing_left(server, 1)


def test_the_gateway_stops_at_each_step():
    """SIGTERM and the end of drain_timeout: the same."""
    for method, pattern in STEPS:
        with begun(drain="300ms") as (server, g), server.hold(method, pattern) as hold, commands(server):
            sock = raw(g, "alice", request_bytes())
            hold.wait()
            code = g.stop()
            assert code == 0, g.log()[-2000:]
            hold.release()
            sock.close()
            g.start()
            nothing_left(server, 1)


def test_the_connection_to_the_server_breaks_at_each_step():
    """The answer ends with an error, and the sandbox is destroyed."""
    for method, pattern in STEPS[:4]:
        for where in ("before", "head", "body"):
            with begun() as (server, g), server.fault(method, pattern, cut(where)), commands(server):
                answer = g.ask("alice", "POST", RUN, BODY)
                if pattern == "/sandboxes":
                    # Its sandbox is found by its token, so that the run goes on; what followed was cut nowhere.
                    assert answer.status == 200, answer
                else:
                    assert answer.status != 200 or records(answer)[-1]["exit_code"] is None, (pattern, where, answer)
                nothing_left(server, 1)


def test_destroying_is_repeated():
    """A DELETE that fails is tried again before the answer ends."""
    with begun() as (server, g), commands(server):
        left = [3]

        def fails(*args):
            left[0] -= 1
            return status(500)(*args) if left[0] >= 0 else None
        with server.fault("DELETE", "/sandboxes/[^/]+", fails):
            answer = g.ask("alice", "POST", RUN, BODY)
            assert answer.status == 200 and records(answer)[-1]["exit_code"] == 0 and not server.alive(), answer


def test_destroying_fails():
    """A server that does not destroy: the answer comes all the same, after a while, says so, and the gateway goes on trying."""
    with begun() as (server, g), commands(server):
        with server.fault("DELETE", "/sandboxes/[^/]+", status(500)) as fault:
            answer = g.ask("alice", "POST", RUN, '{"command":"exit 5"}')
            assert answer.status == 200 and answer.json()["exit_code"] == 5, answer
            assert headers_of(answer, "stacygate-undestroyed") == server.alive(), answer.headers
            assert "is not destroyed yet" in g.log()
            seen = fault.seen
            wait_for("it is tried on", lambda: fault.seen > seen)
        nothing_left(server, 1)


def test_many_at_once():
    """Runs of two owners at the same time."""
    with begun() as (server, g), commands(server):
        under_way = [Later(lambda i=i: g.ask("alice" if i % 2 else "bob", "POST", RUN, json.dumps({"command": f"exit {i}"}))) for i in range(12)]
        assert [u.get().json()["exit_code"] for u in under_way] == list(range(12))
        nothing_left(server, 12)


def test_curl():
    """The README's example."""
    with begun() as (server, g), commands(server):
        done = subprocess.run(["curl", "-sS", "--unix-socket", g.socket_of("alice"), "http://localhost" + RUN, "-d",
                               json.dumps({"image": "python:3.12", "command": "cat hello.txt", "files": [{"path": "/workspace/hello.txt", "content": "hi\n"}]})],
                              capture_output=True, timeout=60)
        assert json.loads(done.stdout)["stdout"] == "hi\n", done


if __name__ == "__main__":
    run(globals())
