# SPDX-License-Identifier: Apache-2.0
"""The HTTP front and the API of stacygate-local on sandboxes that exist only in memory, faults included."""
import json
import os
import signal
import socket
import subprocess
import time

from local_lib import BASE, BUILD, DEADLINE, KEY, Server, main, wait_for

FAKE = "stacygate-local-fake"


def fake(**more):
    return Server(program=FAKE, **more)


def receive(sock, until=None, seconds=DEADLINE):
    """Bytes until `until` is among them, or to the end."""
    data = b""
    sock.settimeout(seconds)
    while until is None or until not in data:
        piece = sock.recv(65536)
        if not piece:
            break
        data += piece
    return data


def ended(sock, seconds=DEADLINE):
    """Whether the server closes within the time."""
    sock.settimeout(seconds)
    try:
        while sock.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except socket.timeout:
        return False


# --- connections ----------------------------------------------------------------------------------------------------

def keep_alive_and_pipelining():
    """Requests sent in one piece are answered in order on one connection, which stays open."""
    with fake() as s:
        sock = s.raw()
        sandbox = s.spawn()
        slow = json.dumps({"command": "stop 100; out slow"}).encode()
        sock.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", slow) + s.head("GET", "/live") + s.head("GET", "/pool/status"))
        data = receive(sock, b"enabled")
        assert data.index(b"slow") < data.index(b"alive") < data.index(b"enabled"), data
        sock.sendall(s.head("GET", "/snapshots"))
        assert b"[]\n" in receive(sock, b"[]")
        sock.close()


def many_pipelined_requests():
    """More pipelined requests than a turn handles are all answered."""
    with fake() as s:
        sock = s.raw()
        sock.sendall(s.head("GET", "/live") * 300)
        data = b""
        sock.settimeout(DEADLINE)
        while data.count(b"alive") < 300:
            data += sock.recv(65536)
        assert data.count(b"HTTP/1.1 200 OK") == 300
        sock.close()


def requests_in_pieces():
    """A request may come byte by byte."""
    with fake() as s:
        sock = s.raw()
        sandbox = s.spawn()
        body = b'{"command":"out x"}'
        for byte in s.head("POST", f"/sandboxes/{sandbox}/exec", body):
            sock.sendall(bytes([byte]))
        assert b'"stdout":"x\\n"' in receive(sock, b"duration")
        sock.close()


def half_closed_client_is_answered():
    """A client that sends its request and closes its sending side gets its answers, then the end."""
    with fake() as s:
        sock = s.raw()
        sock.sendall(s.head("GET", "/live") + s.head("GET", "/pool/status"))
        sock.shutdown(socket.SHUT_WR)
        data = receive(sock)
        assert b"alive" in data and b"enabled" in data, data
        sock.close()


def old_clients():
    """HTTP/1.0 works, with and without keep-alive; a stream is ended by the close."""
    with fake() as s:
        sandbox = s.spawn()
        sock = s.raw()
        sock.sendall(f"GET {BASE}/live HTTP/1.0\r\nX-API-Key: {KEY}\r\n\r\n".encode())
        data = receive(sock)
        assert b"200 OK" in data and b"Connection: close" in data, data
        sock = s.raw()
        keep = f"GET {BASE}/live HTTP/1.0\r\nX-API-Key: {KEY}\r\nConnection: keep-alive\r\n\r\n".encode()
        sock.sendall(keep)
        assert b"Connection: keep-alive" in receive(sock, b"uptime")
        sock.sendall(keep)
        assert b"alive" in receive(sock, b"uptime")
        sock.close()
        sock = s.raw()
        body = b'{"command":"out x","stream":true}'
        sock.sendall(f"POST {BASE}/sandboxes/{sandbox}/exec HTTP/1.0\r\nX-API-Key: {KEY}\r\nContent-Length: {len(body)}"
                     "\r\n\r\n".encode() + body)
        data = receive(sock)
        assert data.endswith(b'\r\n\r\n{"stream":"stdout","data":"x\\n"}\n') and b"chunked" not in data, data


def malformed_requests():
    """What is not HTTP is refused once, in the API's shape, and the connection ends."""
    cases = [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"GET /x HTTP/2.0\r\nHost: x\r\n\r\n", b"505"),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"GET /x HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40000 + b"\r\n\r\n", b"431"),
        (b"BREW /x HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
    ]
    with fake() as s:
        for request, status in cases:
            sock = s.raw()
            sock.sendall(request)
            data = receive(sock)
            assert data.startswith(b"HTTP/1.1 " + status), (request[:60], data)
            assert b"Connection: close" in data, data
            if status == b"405":
                assert b"Content-Length: 0" in data and b"Allow:" not in data, data
            else:
                assert b'"code":' in data, data
            sock.close()


def malformed_chunks():
    """A chunked body that is broken is 400; one that is well-formed is taken."""
    with fake() as s:
        sandbox = s.spawn()
        for body, status in ((b"13\r\n{\"command\":\"out x\"}\r\n0\r\n\r\n", b"200"), (b"zz\r\n", b"400"),
                             (b"5\nabcde", b"400")):
            sock = s.raw()
            sock.sendall(f"POST {BASE}/sandboxes/{sandbox}/exec HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n".encode() + body)
            data = receive(sock, b"}")
            assert data.startswith(b"HTTP/1.1 " + status), (body, data)
            sock.close()


def expect_continue():
    """A client that waits for 100 gets it only when its body is wanted."""
    with fake() as s:
        sandbox = s.spawn()
        sock = s.raw()
        body = b'{"command":"out x"}'
        head = s.head("POST", f"/sandboxes/{sandbox}/exec", body, [("Expect", "100-continue")])[:-len(body)]
        sock.sendall(head)
        assert receive(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert b"200 OK" in receive(sock, b"duration")
        sock.close()
        sock = s.raw()
        sock.sendall(s.head("POST", "/sandboxes", b"x" * 0, [("Expect", "100-continue")])
                     .replace(b"Content-Length: 0", b"Content-Length: 99999999"))
        data = receive(sock)
        assert data.startswith(b"HTTP/1.1 400") and b"100 Continue" not in data, data
        sock.close()


def body_bounds():
    """A body over its bound is refused before it is read: 400 for a spawn, 413 elsewhere; chunked ones too."""
    with fake() as s:
        sandbox = s.spawn()
        big = 3 << 20
        for path, status in (("/sandboxes", b"400"), (f"/sandboxes/{sandbox}/exec", b"413"), ("/templates", b"413")):
            sock = s.raw()
            sock.sendall(s.head("POST", path, b"").replace(b"Content-Length: 0", b"Content-Length: %d" % big))
            data = receive(sock)
            assert data.startswith(b"HTTP/1.1 " + status), data
            sock.close()
            sock = s.raw()
            sock.sendall(s.head("POST", path, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
            try:
                for _ in range(48):
                    sock.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            except ConnectionError:
                pass  # refused while sending
            assert receive(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 " + status)
            sock.close()
        content = "x" * (40 << 20)
        answer = s.post(f"/sandboxes/{sandbox}/files", {"path": "/f", "content": content})
        assert answer.status == 200, answer


def early_answers_keep_the_connection():
    """An answer that needs no body (401, 404) leaves the connection usable when the body is short."""
    with fake() as s:
        sock = s.raw()
        sock.sendall(s.head("POST", "/nosuch", b"x" * 5000) + s.head("GET", "/live"))
        data = receive(sock, b"alive")
        assert data.startswith(b"HTTP/1.1 404") and b"alive" in data, data
        sock.close()
        sock = s.raw()
        sock.sendall(s.head("POST", "/nosuch", b"").replace(b"Content-Length: 0", b"Content-Length: 90000000"))
        data = receive(sock)
        assert data.startswith(b"HTTP/1.1 404") and b"Connection: close" in data, data
        sock.close()


def request_ids():
    """X-Request-ID comes back as sent, else a UUID is made; also on errors."""
    with fake() as s:
        assert s.get("/health", headers={"X-Request-ID": "my-id_1"}).header("x-request-id") == "my-id_1"
        assert s.get("/nosuch", headers={"X-Request-ID": "e"}).header("x-request-id") == "e"
        ids = {s.get("/health").header("x-request-id") for _ in range(3)}
        assert len(ids) == 3 and all(len(i) == 36 and i[14] == "4" for i in ids), ids


# --- streams ----------------------------------------------------------------------------------------------------------

def back_pressure():
    """A client that does not read stops the command; when it reads on, everything arrives."""
    with fake() as s:
        sandbox = s.spawn()
        sock = s.raw()
        total = 64 << 20
        body = json.dumps({"command": f"flood {total >> 10}", "stream": True}).encode()
        sock.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", body))
        first = receive(sock, b"stdout")
        with open(f"/proc/{s.process.pid}/status", encoding="ascii") as file:
            before = rss(file.read())
        for _ in range(5):  # other requests go on, and nothing piles up meanwhile
            assert s.get("/live").status == 200
        with open(f"/proc/{s.process.pid}/status", encoding="ascii") as file:
            after = rss(file.read())
        assert after - before < 16 << 10, (before, after)
        data = first.split(b"\r\n\r\n", 1)[1].count(b"x")
        last = b""
        sock.settimeout(DEADLINE)
        while not last.endswith(b"0\r\n\r\n"):
            piece = sock.recv(1 << 20)
            assert piece, "cut"
            data += piece.count(b"x")
            last = (last + piece)[-8:]
        assert data == total, data
        sock.close()


def rss(status):
    return int(status.split("VmRSS:")[1].split()[0])


def read_back_pressure():
    """A file is not read faster than the client takes it."""
    with fake() as s:
        sandbox = s.spawn()
        sock = s.raw()
        size = 32 << 20
        sock.sendall(s.head("GET", f"/sandboxes/{sandbox}/files?path=/size/{size}"))
        data = receive(sock, b"\r\n\r\n")
        assert f"Content-Length: {size}".encode() in data, data
        body = len(data.split(b"\r\n\r\n", 1)[1])
        while body < size:
            piece = sock.recv(1 << 20)
            assert piece
            body += len(piece)
        assert body == size
        sock.close()


def short_file_is_cut():
    """A file that turns out shorter than it said is a cut answer, not a short one."""
    with fake() as s:
        sandbox = s.spawn()
        sock = s.raw()
        sock.sendall(s.head("GET", f"/sandboxes/{sandbox}/files?path=/short/100"))
        data = receive(sock)
        assert b"Content-Length: 100" in data and len(data.split(b"\r\n\r\n", 1)[1]) == 99, data
        sock.close()


def stream_head_at_once():
    """A silent command's head comes at once; a command that cannot start is an ordinary error."""
    with fake() as s:
        sandbox = s.spawn()
        sock = s.raw()
        body = b'{"command":"hang","stream":true}'
        began = time.monotonic()
        sock.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", body))
        data = receive(sock, b"\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 200") and b"application/x-ndjson" in data and b"no-cache" in data, data
        assert time.monotonic() - began < 5
        sock.close()
        answer = s.post(f"/sandboxes/{sandbox}/exec", {"command": "fail", "stream": True})
        assert answer.status == 500 and answer.json()["message"] == "exec: refused", answer


def characters_in_pieces():
    """A character that comes in pieces is whole in the stream; what never gets whole is U+FFFD."""
    with fake() as s:
        sandbox = s.spawn()
        answer = s.post(f"/sandboxes/{sandbox}/exec", {"command": "raw c3; raw a9e282; raw ac; raw c285; raw e2", "stream": True})
        lines = answer.body.decode().splitlines()
        assert [json.loads(line)["data"] for line in lines] == ["é", "€", "\u0085", "\ufffd"], answer
        assert b"\xc2\x85" not in answer.body and b"\\u0085" in answer.body, answer


def timeout_in_stream():
    """The last line of a stream that ran out of time says so; it ends cleanly and on time."""
    with fake() as s:
        sandbox = s.spawn()
        began = time.monotonic()
        answer = s.post(f"/sandboxes/{sandbox}/exec", {"command": "out a; hang", "stream": True, "timeout": "200ms"})
        assert 0.15 < time.monotonic() - began < 5
        lines = [json.loads(line) for line in answer.body.decode().splitlines()]
        assert lines == [{"stream": "stdout", "data": "a\n"}, {"stream": "stderr", "data": f"exec timeout: {sandbox}"}], lines


def exit_records():
    """Who asks for it gets the exit code as the stream's last record, however the command ends; nobody else does."""
    wanted = {"Accept": "application/x-ndjson; exit=1"}

    def lines(s, sandbox, headers, command, **fields):
        answer = s.post(f"/sandboxes/{sandbox}/exec", {"command": command, "stream": True, **fields}, headers=headers)
        assert answer.status == 200 and answer.header("Content-Type") == "application/x-ndjson", answer
        assert answer.header("Stacygate-Exit") == ("1" if headers == wanted else None), answer.headers
        assert answer.body.endswith(b"\n"), answer
        return [json.loads(line) for line in answer.body.decode().splitlines()]

    with fake() as s:
        sandbox = s.spawn()
        got = lines(s, sandbox, wanted, "out a; raw e2; exit 3")
        assert got[:-1] == [{"stream": "stdout", "data": "a\n"}, {"stream": "stdout", "data": "\ufffd"}], got
        assert list(got[-1]) == ["exit_code", "duration"] and got[-1]["exit_code"] == 3, got
        assert got[-1]["duration"].endswith("s"), got
        assert [list(x) for x in lines(s, sandbox, wanted, "exit 0")] == [["exit_code", "duration"]]
        got = lines(s, sandbox, wanted, "hang", timeout="50ms")
        assert got[0] == {"stream": "stderr", "data": f"exec timeout: {sandbox}"} and got[1]["exit_code"] == -1, got
        for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/x-ndjson"}, {"Accept": "application/json; exit=1"},
                       {"Accept": "application/x-ndjson; exit=10"}):
            assert lines(s, sandbox, accept, "out a; exit 3") == [{"stream": "stdout", "data": "a\n"}], accept
        plain = s.post(f"/sandboxes/{sandbox}/exec", {"command": "exit 3"}, headers=wanted)
        assert plain.json()["exit_code"] == 3 and not plain.header("Stacygate-Exit"), plain.headers
        refused = s.post(f"/sandboxes/{sandbox}/exec", {"command": "fail", "stream": True}, headers=wanted)
        assert refused.status == 500 and not refused.header("Stacygate-Exit"), refused
        got = lines(s, sandbox, wanted, "out a; die")
        assert got[0]["data"] == "a\n" and list(got[1]) == ["exit_code", "error", "duration"], got
        assert got[1]["exit_code"] is None and got[1]["error"], got


def exit_record_of_a_half_closed_client():
    """A client that closes its sending side is told that the command was killed."""
    with fake() as s:
        sandbox = s.spawn()
        sock = s.raw()
        sock.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", b'{"command":"hang","stream":true}',
                            [("Accept", "text/plain, application/x-ndjson;exit=1")]))
        receive(sock, b"\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        data = receive(sock)
        assert b'{"exit_code":-1,' in data and data.endswith(b"0\r\n\r\n"), data
        sock.close()


def template_spawns():
    """A template says everything that a spawn does not; a spawn from one may say it otherwise, and has an owner."""
    with fake() as s:
        os.mkdir(s.state)
        body = {"name": "t", "image": "i", "cpu_cores": 3, "ttl_seconds": 600, "memory_mb": 100, "provider": "local",
                "metadata": {"a": "1", "b": "2"}}
        saved = s.post("/templates", body)
        shown = saved.json()
        want = dict(body, vcpus=3, ttl="10m0s")
        assert saved.status == 201 and {k: shown.get(k) for k in want} == want, shown
        got = s.post("/templates/t/spawn").json()
        assert (got["image"], got["vcpus"], got["memory_mb"]) == ("i", 3, 100) and "owner_id" not in got, got
        assert got["metadata"] == {"a": "1", "b": "2", "template": "t"}, got
        got = s.post("/templates/t/spawn", {"ttl": "1h", "provider": "local", "memory_mb": 7, "vcpus": 2, "image": "other",
                                            "metadata": {"b": "3", "c": "4"}}, headers={"X-User-ID": " alice "}).json()
        assert (got["image"], got["vcpus"], got["memory_mb"], got["owner_id"]) == ("i", 2, 7, "alice"), got
        assert got["metadata"] == {"a": "1", "b": "3", "c": "4", "template": "t"}, got
        assert s.post("/templates/t/spawn", {"provider": "nope"}).status == 404
        assert s.post("/templates/t/spawn", {"ttl": "25h"}).status == 429
        refused = s.post("/templates/t/spawn", {}, headers={"X-User-ID": "a/b"})
        assert refused.status == 400 and "path separators" in refused.json()["message"], refused
        # A spawn that names it: the template's image stands in for the one that the SDKs always send.
        got = s.post("/sandboxes", {"image": "alpine:latest", "template": "t", "vcpus": 5}, headers={"X-User-ID": "bob"}).json()
        assert (got["image"], got["vcpus"], got["memory_mb"], got["owner_id"]) == ("i", 5, 100, "bob"), got
        assert s.post("/sandboxes", {"image": "mine", "template": "t"}).json()["image"] == "mine"
        # What it says of a provider holds as well.
        s.post("/templates", {"name": "elsewhere", "image": "i", "provider": "docker"})
        for answer in (s.post("/templates/elsewhere/spawn"), s.post("/sandboxes", {"template": "elsewhere"})):
            assert answer.status == 404 and answer.json()["message"] == "getting provider: provider not found: docker", answer
        assert s.post("/templates/elsewhere/spawn", {"provider": "local"}).status == 201
        # The documented spellings, through a replacement too; a part of a second is not cut off.
        put = s.request("PUT", "/templates/t", {"image": "j", "vcpus": 4, "ttl": "1500ms"}).json()
        assert (put["cpu_cores"], put["vcpus"], put["ttl_seconds"], put["ttl"]) == (4, 4, 2, "2s"), put
        assert s.request("PUT", "/templates/t", {"image": "j", "ttl": "soon"}).status == 400
        assert s.post("/templates", {"name": "bad", "image": "j", "metadata": {"a": 1}}).status == 400


def too_much_plain_output():
    """A plain exec keeps no more than its bound of output and says what to do."""
    with fake() as s:
        sandbox = s.spawn()
        answer = s.post(f"/sandboxes/{sandbox}/exec", {"command": "flood 17000"})
        assert answer.status == 500 and "16 MiB" in answer.json()["message"], answer
        assert len(s.run(sandbox, "flood 16000")["stdout"]) == 16000 << 10


# --- clients and sandboxes that go -------------------------------------------------------------------------------------

def client_gone(plain):
    with fake() as s:
        sandbox = s.spawn()
        for close in (socket.socket.close, lambda sock: sock.shutdown(socket.SHUT_WR)):
            sock = s.raw()
            body = json.dumps({"command": "hang", "stream": not plain}).encode()
            before = s.log().count("/exec")
            sock.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", body))
            if not plain:
                receive(sock, b"\r\n\r\n")
            close(sock)
            if sock.fileno() >= 0:
                data = receive(sock)
                assert (b'"exit_code":-1' in data) if plain else data.endswith(b"0\r\n\r\n"), data
                wait_for("the exec is over", lambda: s.log().count("/exec") > before)
                sock.close()
        assert s.delete(f"/sandboxes/{sandbox}").status == 200


def client_gone_plain():
    """A plain exec ends when its client goes; one that only half-closed is answered with -1."""
    client_gone(True)


def client_gone_streamed():
    """The same for a stream, which then ends cleanly."""
    client_gone(False)


def spawn_client_gone():
    """A sandbox whose spawn nobody waits for any more is not kept."""
    with fake() as s:
        sock = s.raw()
        sock.sendall(s.head("POST", "/sandboxes", b'{"memory_mb":14}'))
        wait_for("it is being created", lambda: s.get("/sandboxes").json())
        assert s.get("/sandboxes").json()[0]["state"] == "creating"
        sock.close()
        wait_for("it is gone", lambda: s.get("/sandboxes").json() == [])


def spawn_fails():
    """A start that fails is 500 with its reason, and leaves no record."""
    with fake() as s:
        answer = s.post("/sandboxes", {"memory_mb": 13})
        assert answer.status == 500 and answer.json() == {
            "code": "INTERNAL_ERROR", "message": "spawning sandbox: it was told to fail"}, answer
        wait_for("no record", lambda: s.get("/sandboxes").json() == [])


def creating_sandbox():
    """What is being created can be seen and destroyed, but not used; its spawn is told."""
    with fake() as s:
        sock = s.raw()
        sock.sendall(s.head("POST", "/sandboxes", b'{"memory_mb":14}'))
        sandbox = wait_for("it is being created", lambda: s.get("/sandboxes").json())[0]["id"]
        assert s.get(f"/sandboxes/{sandbox}").json()["state"] == "creating"
        assert s.post(f"/sandboxes/{sandbox}/exec", {"command": "out x"}).status == 409
        assert s.delete("/sandboxes").json() == {"pruned": 0}
        assert s.delete(f"/sandboxes/{sandbox}").status == 200
        assert b"HTTP/1.1 500" in receive(sock, b"}")
        sock.close()


def sandbox_dies():
    """A sandbox that ends by itself ends its execs with 404 and stays visible as an error until it is destroyed."""
    with fake() as s:
        sandbox = s.spawn()
        answer = s.post(f"/sandboxes/{sandbox}/exec", {"command": "out a; die"})
        assert answer.status == 404 and answer.json()["code"] == "NOT_FOUND", answer
        assert s.get(f"/sandboxes/{sandbox}").json()["state"] == "error"
        assert s.post(f"/sandboxes/{sandbox}/exec", {"command": "out a"}).status == 404
        assert s.get(f"/sandboxes/{sandbox}/logs").status == 404
        assert s.delete(f"/sandboxes/{sandbox}").status == 200
        assert s.get("/sandboxes").json() == []


def destroy_with_exec_under_way():
    """Destroying ends what runs: a plain exec is 404, a stream ends."""
    with fake() as s:
        sandbox = s.spawn()
        plain, stream = s.raw(), s.raw()
        plain.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", b'{"command":"hang"}'))
        stream.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", b'{"command":"out a; hang","stream":true}'))
        receive(stream, b"stdout")
        assert s.delete(f"/sandboxes/{sandbox}").status == 200
        assert f"sandbox destroyed: {sandbox}".encode() in receive(plain, b"}")
        assert receive(stream, b"0\r\n\r\n").endswith(b"0\r\n\r\n")
        plain.close()
        stream.close()


def many_destroy_and_prune():
    """Several deletes of one sandbox, and a prune, all wait for its end."""
    with fake() as s:
        ids = [s.spawn(ttl="0") for _ in range(5)]
        socks = [s.raw() for _ in range(4)]
        for sock in socks[:3]:
            sock.sendall(s.head("DELETE", f"/sandboxes/{ids[0]}"))
        socks[3].sendall(s.head("DELETE", "/sandboxes"))
        for sock in socks[:3]:
            assert b"destroyed" in receive(sock, b"}")
        pruned = receive(socks[3], b"pruned")
        assert b'{"pruned":4}' in pruned or b'{"pruned":5}' in pruned, pruned
        assert s.get("/sandboxes").json() == []
        gone = s.raw()
        s.spawn(ttl="0")
        gone.sendall(s.head("DELETE", "/sandboxes"))
        gone.close()
        wait_for("pruned although its client left", lambda: s.get("/sandboxes").json() == [])


# --- files ---------------------------------------------------------------------------------------------------------------

def listing():
    """Entries come sorted, with name and full path; a listing that fails is an error."""
    with fake() as s:
        sandbox = s.spawn()
        entries = s.get(f"/sandboxes/{sandbox}/files/list?path=/dir").json()
        assert [(e["name"], e["path"], e["mode"], e["is_dir"]) for e in entries] == [
            ("a", "/dir/a", "755", True), ("b", "/dir/b", "644", False)], entries
        assert entries[1]["mod_time"] == "1970-01-01T00:00:01Z"
        answer = s.get(f"/sandboxes/{sandbox}/files/list?path=/none")
        assert answer.status == 500 and answer.json()["message"] == "listing files: no such file", answer
        assert s.delete(f"/sandboxes/{sandbox}/files?path=/none").status == 500
        assert s.delete(f"/sandboxes/{sandbox}/files?path=/none&recursive=true").json() == {"status": "deleted"}
        assert s.get(f"/sandboxes/{sandbox}/logs?lines=3").json() == ["[INFO] sandbox ready", "late output", "last line"]


# --- keys, start and stop -------------------------------------------------------------------------------------------------

def tcp_port(s):
    return int(wait_for("the port", lambda: open(os.path.join(s.directory, "out"), encoding="ascii").read()
                        .strip().rpartition(":")[2]))


def tcp_and_web_pages():
    """Port 0 is announced; without a key a browser's page is refused, with one the key decides."""
    def ask(port, headers):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            sock.sendall(f"GET {BASE}/live HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode())
            return int(receive(sock).split()[1])

    with fake(key=False, args=["--listen", "127.0.0.1:0"]) as s:
        port = tcp_port(s)
        assert ask(port, f"Host: localhost:{port}\r\n") == 200
        assert ask(port, "Host: 127.0.0.1\r\n") == 200
        assert ask(port, f"Host: localhost:{port}\r\nOrigin: http://evil.example\r\n") == 403
        assert ask(port, "Host: evil.example\r\n") == 403
        assert ask(port, "Host: localhost.evil.example\r\n") == 403
        assert s.get("/live", headers={"Origin": "http://x"}).status == 200, "not on the Unix socket"
    with fake(args=["--listen", "127.0.0.1:0"]) as s:
        port = tcp_port(s)
        assert ask(port, "Host: evil.example\r\n") == 401
        assert ask(port, f"Host: evil.example\r\nX-API-Key: {KEY}\r\n") == 200


def usage_and_start_errors():
    """2 for usage, 1 for an unusable key, 3 when it cannot start."""
    def run(*args):
        done = subprocess.run([os.path.join(BUILD, FAKE), *args], capture_output=True, timeout=DEADLINE, check=False)
        assert b"Sanitizer" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    with fake() as s:
        bad_key = s.write("bad", "a b\n")
        state = os.path.join(s.directory, "other")
        assert run()[0] == 2
        assert run("--listen", "tcp:1", "--state", state)[0] == 2
        assert run("-h")[0] == 0 and b"usage" in run("-h")[1]
        assert run("-V")[0] == 0 and b"jansson" in run("-V")[1]
        status, text = run("--listen", f"unix:{s.directory}/x", "--state", state, "--api-key-file", bad_key)
        assert status == 1 and b"space or a control byte" in text, text
        os.mkdir(state)
        status, text = run("--listen", f"unix:{s.socket}", "--state", state)
        assert status == 3 and b"cannot listen" in text, text
        assert s.get("/live").status == 200, "the one that runs is left alone"
        status, text = run("--listen", f"unix:{s.directory}/key", "--state", state)
        assert status == 3, text
        status, text = run("--listen", f"unix:{s.directory}/x", "--state", state, "--life-fd", "77")
        assert status == 3 and b"--life-fd 77" in text, text


def stops():
    """SIGTERM and SIGINT destroy what runs, answer what waits, unlink the socket and end with 0."""
    for sig in (signal.SIGTERM, signal.SIGINT):
        s = fake()
        sandbox = s.spawn()
        sock = s.raw()
        sock.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", b'{"command":"hang"}'))
        idle = s.raw()
        idle.sendall(s.head("GET", "/live"))
        receive(idle, b"alive")
        s.process.send_signal(sig)
        assert b"sandbox destroyed" in receive(sock), "the exec was not answered"
        assert ended(idle)
        s.process.wait(DEADLINE)
        assert not os.path.exists(s.socket)
        s.stop()


def life_descriptor():
    """The end of the life descriptor stops it; bytes on it do not."""
    theirs, ours = socket.socketpair()
    s = fake(life=theirs.fileno())
    theirs.close()
    s.spawn()
    ours.sendall(b"anything")
    assert s.get("/live").status == 200
    ours.close()
    assert "life descriptor" in s.stop(sig=None)


def idle_server_costs_nothing():
    """A descriptor is not left behind by connections, requests and sandboxes that have gone."""
    with fake() as s:
        def descriptors():
            return len(os.listdir(f"/proc/{s.process.pid}/fd"))
        s.delete(f"/sandboxes/{s.spawn()}")
        before = wait_for("settled", lambda: descriptors())
        for _ in range(20):
            sandbox = s.spawn()
            s.run(sandbox, "out x")
            s.delete(f"/sandboxes/{sandbox}")
        wait_for("descriptors are given back", lambda: descriptors() <= before)


if __name__ == "__main__":
    main([keep_alive_and_pipelining, many_pipelined_requests, requests_in_pieces, half_closed_client_is_answered, old_clients,
          malformed_requests, malformed_chunks, expect_continue, body_bounds, early_answers_keep_the_connection, request_ids,
          back_pressure, read_back_pressure, short_file_is_cut, stream_head_at_once, characters_in_pieces,
          timeout_in_stream, exit_records, exit_record_of_a_half_closed_client,
          template_spawns, too_much_plain_output, client_gone_plain, client_gone_streamed, spawn_client_gone,
          spawn_fails, creating_sandbox, sandbox_dies, destroy_with_exec_under_way, many_destroy_and_prune, listing,
          tcp_and_web_pages, usage_and_start_errors, stops, life_descriptor, idle_server_costs_nothing])
