# SPDX-License-Identifier: Apache-2.0
"""The client against a scripted stand-in: what it says, does and leaves behind when something goes wrong."""
import base64
import http.server
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

STATUS_FILE = re.compile(r"echo \$s >(/tmp/\.stacygate-[0-9a-f]{32});")


def posix_cksum(data):
    done = subprocess.run(["cksum"], input=data, capture_output=True, check=True)
    return done.stdout.decode()


class StandIn(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Sandboxes that are dictionaries of files; each test replaces what it wants to go wrong."""
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path):
        self.live = {}               # id -> {path: bytes}
        self.modes = {}
        self.destroyed = []
        self.seen = []               # (method, target, body bytes)
        self.heads = []              # of the same requests
        self.count = 0
        self.status = b"0\n"         # what the command leaves behind; None: nothing
        self.on_spawn = None         # handler -> True when it has answered
        self.on_stream = None        # (handler, id, body): writes the records
        self.on_plain = None         # (handler, id, body) -> True when it has answered
        self.on_file = None          # (handler, id, method, path) -> True when it has answered
        self.on_destroy = None
        self.extra = {}              # target -> (status, object)
        super().__init__(path, Handler)

    def handle_error(self, request, client_address):
        """A client that leaves is what many of these tests are about."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"

    def answer(self, status, value, headers=()):
        body = value if isinstance(value, bytes) else (json.dumps(value) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, code, message, headers=()):
        self.answer(status, {"code": code, "message": message}, headers)

    def begin_stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def record(self, stream, data):
        self.chunk((json.dumps({"stream": stream, "data": data}) + "\n").encode())

    def cut(self):
        """Breaks the connection off without an end."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def handle_all(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlsplit(self.path)
        self.server.seen.append((self.command, self.path, body))
        self.server.heads.append(self.headers)
        if url.path in self.server.extra:
            return self.answer(*self.server.extra[url.path])
        if url.path == "/api/v1/sandboxes" and self.command == "POST":
            return self.spawn()
        match = re.fullmatch(r"/api/v1/sandboxes/([^/]+)(/.*)?", url.path)
        if not match or match[1] not in self.server.live:
            return self.refuse(404, "NOT_FOUND", "sandbox not found: " + (match[1] if match else "?"))
        return self.sandbox(match[1], match[2] or "", urllib.parse.parse_qs(url.query), body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_all

    def spawn(self):
        if self.server.on_spawn and self.server.on_spawn(self):
            return
        self.server.count += 1
        name = f"sb-{self.server.count:08x}"
        self.server.live[name] = {}
        self.answer(201, {"id": name, "state": "running"})

    def sandbox(self, name, tail, query, body):
        if tail == "" and self.command == "DELETE":
            if self.server.on_destroy and self.server.on_destroy(self, name):
                return
            self.server.destroyed.append(name)
            del self.server.live[name]
            self.answer(200, {"status": "destroyed"})
        elif tail == "/exec":
            self.exec(name, json.loads(body))
        else:
            self.file(name, tail, query, body)

    def exec(self, name, body):
        files = self.server.live[name]
        if body.get("stream"):
            path = STATUS_FILE.search(body["command"])[1]
            self.begin_stream()
            if self.server.on_stream:
                self.server.on_stream(self, name, body)
            if self.close_connection:
                return
            if self.server.status is not None:
                files[path] = self.server.status
            self.chunk(b"")
            return
        if self.server.on_plain and self.server.on_plain(self, name, body):
            return
        code, out = self.plain(files, body["command"])
        self.answer(200, {"exit_code": code, "stdout": out, "stderr": "" if code == 0 else "it failed\n", "duration": "1ms"})

    def plain(self, files, command):
        """The few scripts that the client sends, done on the dictionary."""
        names = re.findall(r"'([^']*)'", command)
        if command.startswith("umask 077; base64 -d") and names[0] in files:
            files[names[1]] = files.get(names[1], b"") + base64.b64decode(files[names[0]])
            return 0, ""
        if command.startswith("cksum"):
            return 0, posix_cksum(files[names[0]])
        if command.startswith("rm -f "):
            files.pop(names[0], None)
            files[names[3]] = files.pop(names[1])
            self.server.modes[names[3]] = re.search(r"chmod (\d+)", command)[1]
            return 0, ""
        return 1, ""

    def file(self, name, tail, query, body):
        files = self.server.live[name]
        data = json.loads(body) if body else {}
        path = data.get("path") or data.get("old_path") or query.get("path", [""])[0]
        if self.server.on_file and self.server.on_file(self, name, tail, path):
            return
        if tail == "/files" and self.command == "POST":
            files[path] = data["content"].encode()
            self.server.modes[path] = data["mode"]
            self.answer(200, {"status": "written"})
        elif tail == "/files/move":
            files[data["new_path"]] = files.pop(path)
            self.server.modes[data["new_path"]] = self.server.modes.pop(path)
            self.answer(200, {"status": "moved"})
        elif self.command == "DELETE":
            files.pop(path, None)
            self.answer(200, {"status": "deleted"})
        elif path not in files:
            self.refuse(500, "INTERNAL_ERROR", f"no such file: {path}")
        elif tail == "/files/stat":
            self.answer(200, {"path": path, "size": len(files[path]), "is_dir": False,
                              "mode": self.server.modes.get(path, "644")})
        else:
            self.answer(200, files[path])


class Scene:
    """One stand-in with a scratch directory, and the client run against it."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="sg-cli.", dir="/tmp")
        self.socket = os.path.join(self.dir, "s.sock")
        self.server = StandIn(self.socket)
        self.env = {**os.environ, "STACYGATE_SOCKET": self.socket}
        threading.Thread(target=self.server.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, data, mode=0o644):
        with open(self.path(name), "wb") as f:
            f.write(data)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def start(self, *words, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": self.env, **options}
        return subprocess.Popen([sg.program("stacygate"), *words], stdin=subprocess.DEVNULL, **options)

    def finish(self, process, timeout=60):
        out, err = process.communicate(timeout=timeout)
        err = err.decode()
        sg.check_clean(err, "stacygate")
        return process.returncode, out, err

    def run(self, *words, **options):
        return self.finish(self.start(*words, **options))

    def commands(self):
        return [json.loads(body)["command"] for _, target, body in self.server.seen if target.endswith("/exec")]


class Terminal:
    """A pseudo terminal: `side` goes to the client."""

    def __enter__(self):
        self.master, self.side = os.openpty()
        return self

    def __exit__(self, *_):
        os.close(self.master)
        os.close(self.side)

    def read_until(self, end):
        shown = b""
        while not shown.endswith(end):
            shown += os.read(self.master, 1000)
        return shown


def said(*records):
    def stream(handler, _name, _body):
        for kind, data in records:
            handler.record(kind, data)
    return stream


# ---- run and exec -----------------------------------------------------------

def test_run_streams_and_ends_with_the_commands_code():
    with Scene() as s:
        s.server.on_stream = said(("stdout", "out\0\n"), ("stderr", "err\n"), ("stdout", "more\n"))
        s.server.status = b"7\n"
        code, out, err = s.run("run", "--image", "x", "--env", "A=1", "--workdir", "/w", "--timeout", "5s", "--memory", "64",
                               "--vcpus", "2", "--ttl", "1m", "--metadata", "k=v", "--provider", "p", "--", "prog", "it's")
        assert (code, out, err) == (7, b"out\0\nmore\n", "err\n"), (code, out, err)
        assert s.server.destroyed == ["sb-00000001"] and not s.server.live
        spawn = json.loads(s.server.seen[0][2])
        assert spawn == {"image": "x", "provider": "p", "memory_mb": 64, "vcpus": 2, "ttl": "1m", "metadata": {"k": "v"}}
        body = json.loads(s.server.seen[1][2])
        assert body["command"].startswith("(exec 'prog' 'it'\\''s');"), body
        assert (body["env"], body["workdir"], body["timeout"], body["stream"]) == ({"A": "1"}, "/w", "5s", True)


def test_output_is_shown_as_it_arrives():
    with Scene() as s:
        seen = threading.Event()

        def stream(handler, _name, _body):
            handler.chunk(b"\n")
            handler.chunk(b'{"stream":"stdout",')
            handler.chunk(b'"data":"first\\n"}\n')
            assert seen.wait(30)
            handler.record("stdout", "second\n")

        s.server.on_stream = stream
        p = s.start("run", "--", "x")
        assert p.stdout.readline() == b"first\n"
        seen.set()
        assert s.finish(p)[:2] == (0, b"second\n")


def test_json_output_of_run():
    with Scene() as s:
        s.server.on_stream = said(("stdout", "o\n"), ("stderr", "\x1b e"))
        s.server.status = b"3\n"
        code, out, err = s.run("run", "--json", "--", "x")
        lines = [json.loads(line) for line in out.splitlines()]
        assert code == 3 and err == "", (code, err)
        assert lines[:2] == [{"stream": "stdout", "data": "o\n"}, {"stream": "stderr", "data": "\x1b e"}]
        assert lines[2]["exit_code"] == 3 and lines[2]["duration"].endswith("s") and len(lines) == 3


def test_a_cut_stream_is_an_error_and_the_sandbox_goes():
    with Scene() as s:
        def stream(handler, _name, _body):
            handler.record("stdout", "part\n")
            handler.cut()
        s.server.on_stream = stream
        code, out, err = s.run("run", "--", "x")
        assert code == 1 and out == b"part\n" and "CONNECTION_ERROR" in err, (code, out, err)
        assert s.server.destroyed == ["sb-00000001"]


def test_a_line_that_is_no_record_is_an_error():
    for junk in (b"junk\n", b"[1]\n", b'"x"\n', b"null\n"):
        with Scene() as s:
            s.server.on_stream = lambda handler, *_: handler.chunk(junk)
            code, _, err = s.run("run", "--", "x")
            assert code == 1 and "BAD_ANSWER" in err, (junk, code, err)
            assert s.server.destroyed == ["sb-00000001"]


def test_no_status_is_255_and_said():
    for status in (None, b"", b"x\n", b"12", b"256\n"):
        with Scene() as s:
            s.server.status = status
            code, _, err = s.run("run", "--", "x")
            assert code == 255 and "no exit status" in err, (status, code, err)
            code, out, err = s.run("run", "--json", "--", "x")
            end = json.loads(out.splitlines()[-1])
            assert code == 255 and end["exit_code"] is None and end["error"], end


def test_status_by_a_command_where_the_file_api_sees_other_files():
    with Scene() as s:
        s.server.status = None

        def plain(handler, _name, body):
            if not body["command"].startswith("read -r s <"):
                return False
            handler.answer(200, {"exit_code": 0, "stdout": "9\n", "stderr": "", "duration": "1ms"})
            return True
        s.server.on_plain = plain
        assert s.run("run", "--", "x")[0] == 9


def test_timeout_is_124():
    with Scene() as s:
        s.server.status = None
        s.server.on_stream = said(("stdout", "x"), ("stderr", "exec timeout: sb-00000001"), ("stderr", "exec timeout: sb-00000001"))
        code, out, err = s.run("run", "--timeout", "1s", "--", "x")
        assert code == 124 and out == b"x" and err == "stacygate: TIMEOUT: exec timeout: sb-00000001\n", (code, out, err)


def test_a_program_that_prints_the_timeout_text_is_not_misread():
    with Scene() as s:
        s.server.on_stream = said(("stderr", "exec timeout: sb-00000001"))
        code, _, err = s.run("run", "--", "x")
        assert code == 0 and err == "exec timeout: sb-00000001", (code, err)
    with Scene() as s:
        s.server.on_stream = said(("stderr", "exec timeout: sb-00000001"), ("stderr", " more\n"))
        s.server.status = None
        code, _, err = s.run("run", "--", "x")
        assert code == 255 and err.startswith("exec timeout: sb-00000001 more\n"), (code, err)


def ends_by_signal(sig, **options):
    with Scene() as s:
        started = threading.Event()

        def stream(handler, _name, _body):
            handler.record("stdout", "begun\n")
            started.set()
            # Ends when the client closes.
            while handler.connection.recv(1):
                pass
            handler.close_connection = True
        s.server.on_stream = stream
        p = s.start("run", "--", "x", **options)
        assert p.stdout.readline() == b"begun\n" and started.wait(30)
        p.send_signal(sig)
        code, _, err = s.finish(p)
        assert code == -sig and err == "", (code, err)
        assert s.server.destroyed == ["sb-00000001"]


def test_interrupted_run_destroys_and_ends_by_the_signal():
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        ends_by_signal(sig)


def test_a_signal_during_the_spawn_waits_for_the_sandbox_and_destroys_it():
    with Scene() as s:
        arrived, go_on = threading.Event(), threading.Event()

        def spawn(_handler):
            arrived.set()
            assert go_on.wait(30)
            return False
        s.server.on_spawn = spawn
        p = s.start("run", "--", "x")
        assert arrived.wait(30)
        p.send_signal(signal.SIGINT)
        # The signal has been taken when it is no longer pending.
        sg.wait_until(lambda: pending_signals(p.pid) == 0, "the signal is delivered")
        go_on.set()
        code, _, _ = s.finish(p)
        assert code == -signal.SIGINT and s.server.destroyed == ["sb-00000001"], code
        assert not s.commands()


def pending_signals(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        fields = dict(line.split(":\t", 1) for line in f if ":\t" in line)
    return int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)


def test_an_ignored_hangup_stays_ignored():
    with Scene() as s:
        started, go_on = threading.Event(), threading.Event()

        def stream(handler, _name, _body):
            started.set()
            assert go_on.wait(30)
            handler.record("stdout", "survived\n")
        s.server.on_stream = stream
        p = s.start("run", "--", "x", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        assert started.wait(30)
        p.send_signal(signal.SIGHUP)
        go_on.set()
        assert s.finish(p)[:2] == (0, b"survived\n")


def test_a_reader_that_has_gone_ends_the_run():
    with Scene() as s:
        def stream(handler, _name, _body):
            try:
                while True:
                    handler.record("stdout", "y\n" * 1000)
            except OSError:
                handler.close_connection = True
        s.server.on_stream = stream
        p = s.start("run", "--", "yes")
        assert p.stdout.read(2) == b"y\n"
        p.stdout.close()
        p.stdout = None
        code = p.wait(60)
        sg.check_clean(p.stderr.read().decode(), "stacygate")
        assert code == -signal.SIGPIPE and s.server.destroyed == ["sb-00000001"], code


def test_a_refused_spawn():
    with Scene() as s:
        s.server.on_spawn = lambda h: h.refuse(429, "RESOURCE_LIMIT", "too \x1b[31mmany\n", [("Stacygate-Error", "RESOURCE_LIMIT")]) or True
        code, out, err = s.run("run", "--", "x")
        assert (code, out) == (1, b"")
        assert err == "stacygate: RESOURCE_LIMIT: too \\x1b[31mmany\\x0a (said by the gateway)\n", err
        code, _, err = s.run("spawn", "--json")
        fault = json.loads(err)
        assert code == 1 and (fault["code"], fault["status"]) == ("RESOURCE_LIMIT", 429), err


def test_an_error_that_is_not_json():
    with Scene() as s:
        s.server.on_spawn = lambda h: h.answer(502, b"<html>bad gateway</html>") or True
        code, _, err = s.run("spawn")
        assert code == 1 and err == "stacygate: HTTP_ERROR: HTTP status 502\n", err


def test_a_spawn_answer_without_an_id():
    for answer in ({}, {"id": "../x"}, {"id": 5}, [1]):
        with Scene() as s:
            s.server.on_spawn = lambda h: h.answer(201, answer) or True
            code, _, err = s.run("run", "--", "x")
            assert code == 1 and "BAD_ANSWER" in err, err


def test_a_destroy_that_fails_is_said_and_keeps_the_code():
    with Scene() as s:
        s.server.status = b"5\n"
        s.server.on_destroy = lambda h, _: h.refuse(503, "UNAVAILABLE", "later") or True
        code, _, err = s.run("run", "--", "x")
        assert code == 5 and "sb-00000001" in err and "UNAVAILABLE" in err, (code, err)


def test_files_are_copied_before_the_command_and_a_failed_copy_ends_it():
    with Scene() as s:
        local = s.write("a.py", b"print(1)\n", 0o755)
        contents = {}
        s.server.on_stream = lambda h, name, _: contents.update(s.server.live[name])
        code, _, err = s.run("run", "--file", f"{local}:/app/a.py", "--", "x")
        assert code == 0 and contents == {"/app/a.py": b"print(1)\n"}, (code, err, contents)
        assert s.server.modes["/app/a.py"] == "0755"
        code, _, err = s.run("run", "--file", f"{local}:/app/a.py", "--file", f"{local}.none:/x", "--", "x")
        assert code == 1 and "No such file" in err, err
        assert len(s.server.destroyed) == 2 and len([c for c in s.commands() if "(exec" in c]) == 1


def test_exec_leaves_no_status_file():
    with Scene() as s:
        s.server.live["sb-1"] = {}
        s.server.status = b"4\n"
        code, _, _ = s.run("exec", "sb-1", "--", "x")
        assert code == 4 and s.server.live["sb-1"] == {}
        code, _, err = s.run("exec", "sb-2", "--", "x")
        assert code == 1 and "NOT_FOUND: sandbox not found: sb-2" in err, err


def test_control_bytes_reach_a_pipe_but_no_terminal():
    with Scene() as s:
        s.server.on_stream = said(("stdout", "a\x1b[2Jb\n"))
        assert s.run("run", "--", "x")[1] == b"a\x1b[2Jb\n"
        terminal, side = os.openpty()
        p = s.start("run", "--", "x", stdout=side)
        os.close(side)
        shown = b""
        while b"\n" not in shown:
            shown += os.read(terminal, 1000)
        p.communicate(timeout=60)
        os.close(terminal)
        assert shown == b"a\\x1b[2Jb\r\n", shown


# ---- progress ---------------------------------------------------------------

def is_blank(text):
    """Whether a terminal's line is empty after this."""
    line = []
    at = 0
    for c in text.decode():
        if c == "\r":
            at = 0
        else:
            line[at:at + 1] = [c]
            at += 1
    return at == 0 and not "".join(line).strip()


def test_a_slow_spawn_is_told_on_a_terminal_and_leaves_nothing_there():
    with Scene() as s, Terminal() as t:
        go_on = threading.Event()
        s.server.on_spawn = lambda _: not go_on.wait(60)
        p = s.start("spawn", stderr=t.side)
        shown = t.read_until(b" s")
        assert re.fullmatch(rb"\rspawning \.\.\. \d+ s", shown), shown
        go_on.set()
        out, _ = p.communicate(timeout=60)
        assert p.returncode == 0 and out == b"sb-00000001\n", out
        os.write(t.side, b"!")
        shown += t.read_until(b"!")[:-1]
        assert is_blank(shown), shown


def test_a_copy_is_told_on_a_terminal_and_leaves_nothing_there():
    data = os.urandom(4 << 20)
    with Scene() as s, Terminal() as t:
        s.server.live["sb-1"] = {"/f": data}
        go_on = threading.Event()

        def plain(_handler, _name, body):
            if body["command"].startswith("umask 077; base64") and len(s.commands()) == 3:
                assert go_on.wait(60)
            return False
        s.server.on_plain = plain
        p = s.start("cp", s.write("f", data), "sb-1:/t", stderr=t.side)
        shown = t.read_until(b"copying ... 1.5 MiB of 4.0 MiB, 37 %")
        go_on.set()
        assert p.communicate(timeout=60)[0] == b"" and p.returncode == 0
        os.write(t.side, b"!")
        shown += t.read_until(b"!")[:-1]
        assert is_blank(shown), shown
        go_on.clear()

        def half(handler, _name, tail, _path):
            if (tail, handler.command) != ("/files", "GET"):
                return False
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:1 << 20])
            assert go_on.wait(60)
            handler.wfile.write(data[1 << 20:])
            return True
        s.server.on_file = half
        s.server.on_plain = lambda h, n, b: h.answer(200, {"exit_code": 0, "stdout": posix_cksum(data), "stderr": ""}) or True
        p = s.start("cp", "sb-1:/f", s.path("down"), stderr=t.side)
        shown = t.read_until(b"copying ... 1.0 MiB of 4.0 MiB, 25 %")
        go_on.set()
        assert p.communicate(timeout=60)[0] == b"" and p.returncode == 0
        os.write(t.side, b"!")
        shown += t.read_until(b"!")[:-1]
        assert is_blank(shown), shown


def test_a_fault_comes_after_the_line_of_progress_is_gone():
    with Scene() as s, Terminal() as t:
        go_on = threading.Event()
        s.server.on_spawn = lambda h: go_on.wait(60) and not h.refuse(503, "UNAVAILABLE", "later")
        p = s.start("spawn", stderr=t.side)
        shown = t.read_until(b" s")
        go_on.set()
        p.communicate(timeout=60)
        shown += t.read_until(b"later\r\n")
        before, _, fault = shown.partition(b"stacygate: ")
        assert is_blank(before) and fault == b"UNAVAILABLE: later\r\n", shown


# ---- connection -------------------------------------------------------------

def test_no_gateway():
    with Scene() as s:
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(s.path("dead.sock"))
        dead.close()
        for path in (s.path("dead.sock"), s.path("none.sock")):
            code, out, err = s.run("ls", env={**s.env, "STACYGATE_SOCKET": path})
            assert code == 1 and out == b"" and "CONNECTION_ERROR" in err and path in err, err


def test_the_environment_steers_nothing():
    with Scene() as s:
        s.server.extra["/api/v1/sandboxes"] = (200, [])
        home = s.path("home")
        os.mkdir(home)
        with open(os.path.join(home, ".netrc"), "w", encoding="ascii") as f:
            f.write("machine localhost login a password SEKRET\n")
        steer = {"http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9", "HOME": home, "CURL_HOME": home}
        code, _, err = s.run("ls", env={**s.env, **steer})
        assert code == 0, err


def test_an_answer_that_is_cut():
    with Scene() as s:
        def spawn(handler):
            handler.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"id\":\"sb-1\"}")
            handler.cut()
            return True
        s.server.on_spawn = spawn
        code, _, err = s.run("spawn")
        assert code == 1 and "CONNECTION_ERROR" in err, err


# ---- ls, kill, whoami, health -----------------------------------------------

def test_ls():
    with Scene() as s:
        s.server.extra["/api/v1/sandboxes"] = (200, [{"id": "sb-1", "state": "running", "image": "a\x1b[1m", "vcpus": 1}])
        code, out, _ = s.run("ls")
        assert code == 0 and out.startswith(b"ID    STATE") and b"a\\x1b[1m" in out and b"\x1b" not in out, out
        code, out, _ = s.run("ls", "--json")
        assert json.loads(out)[0]["image"] == "a\x1b[1m"


def test_kill_goes_on_after_a_failure():
    with Scene() as s:
        s.server.live.update({"sb-1": {}, "sb-3": {}})
        code, out, err = s.run("kill", "sb-1", "sb-2", "sb-3")
        assert code == 1 and out == b"sb-1\nsb-3\n" and "sb-2" in err, (code, out, err)
        assert not s.server.live
        s.server.live["sb-4"] = {}
        code, out, _ = s.run("kill", "--json", "sb-4")
        assert code == 0 and json.loads(out) == [{"id": "sb-4", "status": "destroyed"}]


def test_whoami_and_health():
    with Scene() as s:
        s.server.extra["/gateway/v1/whoami"] = (200, {"uid": 5, "groups": [1, 2], "rule": "r\x07"})
        assert s.run("whoami")[:2] == (0, b"uid: 5\ngroups: 1, 2\nrule: r\\x07\n")
        s.server.extra["/gateway/v1/health"] = (200, {"status": "ok", "upstreams": [{"name": "main", "healthy": True}]})
        assert s.run("health")[:2] == (0, b"status: ok\nupstreams[0].name: main\nupstreams[0].healthy: true\n")
        s.server.extra["/gateway/v1/health"] = (200, {"status": "degraded"})
        assert s.run("health", "--json")[:2] == (1, b'{"status":"degraded"}\n')


# ---- get, logs, extend, prune, templates, leases, preview, status ------------

def answers(target, value, *words, status=200):
    """Runs the command on a stand-in that knows this one target: the result, and what it was asked."""
    with Scene() as s:
        s.server.extra[target] = (status, value)
        done = s.run(*words)
        method, seen, body = s.server.seen[-1]
        return done, (method, seen, json.loads(body) if body else None), s.server.heads[-1]


def test_get_extend_and_prune():
    box = {"id": "sb-1", "image": "a\x1b", "metadata": {"k": "v"}, "expires_at": "2020-01-01T00:00:00+01:00"}
    done, asked, _ = answers("/api/v1/sandboxes/sb-1", box, "get", "sb-1")
    assert done == (0, b"id: sb-1\nimage: a\\x1b\nmetadata.k: v\nexpires_at: 2020-01-01T00:00:00+01:00\n", ""), done
    assert asked == ("GET", "/api/v1/sandboxes/sb-1", None)
    for words, ttl in ((("sb-1",), "30m"), (("sb-1", "90s"), "90s")):
        done, asked, _ = answers("/api/v1/sandboxes/sb-1/extend", box, "extend", *words)
        assert done[0] == 0 and re.fullmatch(rb"sb-1 expires \d+d ago\n", done[1]), done
        assert asked == ("POST", "/api/v1/sandboxes/sb-1/extend", {"ttl": ttl}), asked
    done, asked, _ = answers("/api/v1/sandboxes", {"pruned": 3}, "prune")
    assert (done, asked) == ((0, b"pruned: 3\n", ""), ("DELETE", "/api/v1/sandboxes", None)), (done, asked)
    done, _, _ = answers("/api/v1/sandboxes", {"pruned": 3}, "prune", "--json")
    assert done[1] == b'{"pruned":3}\n', done
    done, _, _ = answers("/api/v1/sandboxes/sb-1", {"code": "NOT_FOUND", "message": "gone"}, "get", "sb-1", status=404)
    assert done == (1, b"", "stacygate: NOT_FOUND: gone\n"), done


def test_logs_are_raw_in_a_pipe_and_harmless_on_a_terminal():
    lines = ["one\x1b[2J", "two\tx"]
    done, asked, _ = answers("/api/v1/sandboxes/sb-1/logs", lines, "logs", "sb-1", "--lines", "2")
    assert done == (0, b"one\x1b[2J\ntwo\tx\n", "") and asked[1] == "/api/v1/sandboxes/sb-1/logs?lines=2", (done, asked)
    _, asked, _ = answers("/api/v1/sandboxes/sb-1/logs", lines, "logs", "sb-1")
    assert asked[1] == "/api/v1/sandboxes/sb-1/logs", asked
    with Scene() as s:
        s.server.extra["/api/v1/sandboxes/sb-1/logs"] = (200, lines)
        with Terminal() as t:
            p = s.start("logs", "sb-1", stdout=t.side)
            shown = t.read_until(b"two\tx\r\n")
            assert s.finish(p)[0] == 0 and shown == b"one\\x1b[2J\r\ntwo\tx\r\n", shown


def test_templates():
    record = {"name": "t", "image": "i", "vcpus": 2, "memory_mb": 64, "ttl": "1h"}
    done, asked, _ = answers("/api/v1/templates", [record], "template", "ls")
    assert done[0] == 0 and done[1].splitlines()[1].split() == [b"t", b"i", b"2", b"64", b"MB", b"1h", b"-", b"-"], done
    done, asked, _ = answers("/api/v1/templates/t%20x", record, "template", "get", "t x")
    assert done[1].startswith(b"name: t\nimage: i\n") and asked[:2] == ("GET", "/api/v1/templates/t%20x"), (done, asked)
    done, asked, _ = answers("/api/v1/templates", record, "template", "save", "t", "--image", "i", "--memory", "64", "--vcpus", "2",
                             "--ttl", "1h", "--provider", "p", "--metadata", "a=b", "--metadata", "c=", status=201)
    assert done == (0, b"t\n", "") and asked == ("POST", "/api/v1/templates", {
        "name": "t", "image": "i", "memory_mb": 64, "vcpus": 2, "ttl": "1h", "provider": "p",
        "metadata": {"a": "b", "c": ""}}), (done, asked)
    done, asked, _ = answers("/api/v1/templates/t", {"status": "deleted"}, "template", "rm", "t")
    assert (done, asked) == ((0, b"t\n", ""), ("DELETE", "/api/v1/templates/t", None)), (done, asked)
    done, _, _ = answers("/api/v1/templates/t", {"status": "deleted"}, "template", "rm", "t", "--json")
    assert done[1] == b'{"status":"deleted"}\n', done
    done, asked, head = answers("/api/v1/templates/t/spawn", {"id": "sb-9"}, "template", "spawn", "t", "--ttl", "5m", "--provider", "p",
                                "--memory", "32", "--vcpus", "1", "--metadata", "k=v", "--lease", "90s", status=201)
    assert done == (0, b"sb-9\n", "") and asked == ("POST", "/api/v1/templates/t/spawn", {
        "ttl": "5m", "provider": "p", "memory_mb": 32, "vcpus": 1, "metadata": {"k": "v"}}), (done, asked)
    assert head["Stacygate-Lease"] == "90s", head


def test_leases():
    target = "/gateway/v1/leases"
    listed = [{"sandbox": "sb-1", "kind": "process", "pid": 7, "owner": "u\x07", "state": "held"}]
    done, asked, _ = answers(target, listed, "leases")
    assert done[0] == 0 and done[1].splitlines()[1].split() == [b"sb-1", b"process", b"7", b"held", b"u\\x07", b"-"], done
    done, _, _ = answers(target, listed, "leases", "--json")
    assert json.loads(done[1]) == listed, done
    for words, body in (((), {}), (("90s",), {"lease": "90s"}), (("process=12",), {"lease": "process=12"})):
        done, asked, _ = answers(target + "/sb-1", listed[0], "leases", "renew", "sb-1", *words)
        assert (done, asked) == ((0, b"sb-1\n", ""), ("PUT", target + "/sb-1", body)), (done, asked)
    done, asked, _ = answers(target + "/sb-1", b"", "leases", "release", "sb-1", status=204)
    assert (done, asked) == ((0, b"sb-1\n", ""), ("DELETE", target + "/sb-1", None)), (done, asked)
    for lease in ("connection", "process", "process=4711", "1h30m"):
        done, _, head = answers("/api/v1/sandboxes", {"id": "sb-2"}, "spawn", "--lease", lease, status=201)
        assert done[:2] == (0, b"sb-2\n") and head["Stacygate-Lease"] == lease, (done, head)
    _, _, head = answers("/api/v1/sandboxes", {"id": "sb-2"}, "spawn", status=201)
    assert head["Stacygate-Lease"] is None, head


def test_preview_prints_the_url():
    target = "/gateway/v1/sandboxes/sb-1/preview/3000"
    url = b"http://3000-sb-1.localhost"
    done, asked, head = answers(target, url + b"\n", "preview", "sb-1", "3000")
    assert (done, asked) == ((0, url + b"\n", ""), ("GET", target, None)) and head["Accept"] == "text/plain", (done, asked)
    done, _, _ = answers(target, url, "preview", "--json", "sb-1", "3000")
    assert json.loads(done[1]) == {"url": url.decode()}, done
    for bad in (b"", b"javascript:alert(1)", b"http://x\x1b[1m", b"http://x\nhttp://y", b"{}"):
        done, _, _ = answers(target, bad, "preview", "sb-1", "3000")
        assert done[0] == 1 and done[1] == b"" and "BAD_ANSWER" in done[2], (bad, done)


def test_what_the_gateway_changed_is_said():
    with Scene() as s:
        notes = [("Stacygate-Clamped", "ttl, memory_mb\x1b[1m"), ("Stacygate-Ignored", "metadata")]
        s.server.on_spawn = lambda h: h.answer(201, {"id": "sb-1"}, notes) or True
        code, out, err = s.run("spawn", "--ttl", "9h")
        assert (code, out) == (0, b"sb-1\n"), (code, out)
        assert err == ("stacygate: lowered by the gateway: ttl, memory_mb\\x1b[1m\n"
                       "stacygate: not stored by the server: metadata\n"), err
        code, out, err = s.run("spawn", "--json", "--ttl", "9h")
        assert (code, json.loads(out), err) == (0, {"id": "sb-1"}, ""), (code, out, err)


def test_status():
    value = {"version": "1", "own": {"connections": 2, "user_id": "u\x1b"}}
    done, asked, _ = answers("/gateway/v1/status", value, "status")
    assert done == (0, b"version: 1\nown.connections: 2\nown.user_id: u\\x1b\n", "") and asked[0] == "GET", done
    done, _, _ = answers("/gateway/v1/status", value, "status", "--json")
    assert json.loads(done[1]) == value, done


# ---- cp ---------------------------------------------------------------------

BINARY = bytes(range(256)) * 4


def test_cp_up_text_and_bytes():
    texts = {"empty": b"", "text": "h\u00e9llo\n".encode()}
    for name, data in {**texts, "nul": b"a\0b", "binary": BINARY, "latin1": b"\xe9"}.items():
        with Scene() as s:
            s.server.live["sb-1"] = {}
            local = s.write("it's " + name, data, 0o640)
            code, out, err = s.run("cp", local, "sb-1:/dir/target")
            assert (code, out, err) == (0, b"", ""), (name, code, out, err)
            assert s.server.live["sb-1"] == {"/dir/target": data}, name
            assert s.server.modes["/dir/target"] == "0640"
            assert bool(s.commands()) == (name not in texts), name


def test_cp_up_in_bounded_pieces():
    with Scene() as s:
        s.server.live["sb-1"] = {}
        data = os.urandom(5 << 20)
        code, out, err = s.run("cp", "--json", s.write("big", data), "sb-1:big")
        assert code == 0 and json.loads(out) == {"bytes": len(data)}, err
        assert s.server.live["sb-1"] == {"/workspace/big": data}
        assert max(len(body) for _, _, body in s.server.seen) < (1 << 20) + 1000


def test_cp_up_from_standard_input():
    with Scene() as s:
        s.server.live["sb-1"] = {}
        done = subprocess.run([sg.program("stacygate"), "cp", "-", "sb-1:/t"], env=s.env, input=BINARY, timeout=60, check=True)
        assert done.returncode == 0 and s.server.live["sb-1"] == {"/t": BINARY}


def fails_and_leaves(s, before, *words, text="COPY_FAILED"):
    code, _, err = s.run(*words)
    assert code == 1 and text in err, (code, err)
    assert s.server.live["sb-1"] == before, s.server.live["sb-1"].keys()


def test_cp_up_faults_leave_the_target_as_it_was():
    before = {"/t": b"old"}
    with Scene() as s:
        local = s.write("f", BINARY)
        words = ("cp", local, "sb-1:/t")

        def answer(code, out="", err=""):
            return {"exit_code": code, "stdout": out, "stderr": err, "duration": "1ms"}

        def on(prefix, value):
            def plain(handler, _name, body):
                if not body["command"].startswith(prefix):
                    return False
                handler.answer(200, value)
                return True
            return plain
        s.server.live["sb-1"] = dict(before)
        s.server.on_plain = on("umask 077; base64", answer(127, err="sh: 1: base64: not found\n"))
        fails_and_leaves(s, before, *words, text="base64: not found")
        s.server.on_plain = on("cksum", answer(0, f"1 {len(BINARY)}\n"))
        fails_and_leaves(s, before, *words)
        s.server.on_plain = on("cksum", answer(0, f"- {len(BINARY) - 1}\n"))
        fails_and_leaves(s, before, *words)
        s.server.on_plain = on("cksum", answer(1))
        fails_and_leaves(s, before, *words)
        s.server.on_plain = on("cksum", answer(0, "nonsense"))
        fails_and_leaves(s, before, *words)
        s.server.on_plain = on("rm -f", answer(1, err="mv: no\n"))
        fails_and_leaves(s, before, *words, text="mv: no")
        s.server.on_plain = on("cksum", answer(0, f"- {len(BINARY)}\n"))
        assert s.run(*words)[0] == 0 and s.server.live["sb-1"] == {"/t": BINARY}


def test_cp_up_file_api_faults():
    before = {"/t": b"old"}

    def refuse(tail, method):
        def on_file(handler, _name, seen_tail, path):
            if (seen_tail, handler.command) != (tail, method) or path == "/t" and tail == "/files/stat":
                return False
            handler.refuse(500, "INTERNAL_ERROR", "disk full")
            return True
        return on_file
    for data in (b"text", BINARY):
        for tail, method in (("/files", "POST"), ("/files", "GET"), ("/files/move", "POST")):
            if data == BINARY and method != "POST" or data == BINARY and tail == "/files/move":
                continue
            with Scene() as s:
                s.server.live["sb-1"] = dict(before)
                s.server.on_file = refuse(tail, method)
                fails_and_leaves(s, before, "cp", s.write("f", data), "sb-1:/t", text="disk full")


def test_cp_up_text_that_arrives_changed():
    with Scene() as s:
        s.server.live["sb-1"] = {}

        def on_file(handler, _name, tail, _path):
            if (tail, handler.command) != ("/files", "GET"):
                return False
            handler.answer(200, arrived)
            return True
        s.server.on_file = on_file
        for arrived in (b"teXt", b"tex", b"", b"text and more"):
            fails_and_leaves(s, {}, "cp", s.write("f", b"text"), "sb-1:/t")


def test_cp_up_wrong_sources():
    with Scene() as s:
        s.server.live["sb-1"] = {}
        os.mkfifo(s.path("fifo"))
        for name, text in (("none", "No such file"), ("", "directory"), ("fifo", "not a regular file")):
            fails_and_leaves(s, {}, "cp", s.path(name), "sb-1:/t", text=text)


def test_cp_down():
    with Scene() as s:
        s.server.live["sb-1"] = {"/dir/f": BINARY}
        s.server.modes["/dir/f"] = "750"
        s.server.on_plain = lambda h, n, b: h.answer(200, {"exit_code": 0, "stdout": posix_cksum(BINARY), "stderr": ""}) or True
        os.mkdir(s.path("in"))
        for target, found in (("plain", "plain"), ("in", "in/f"), ("in/", "in/f")):
            code, out, err = s.run("cp", "sb-1:/dir/f", s.path(target))
            assert (code, out, err) == (0, b"", ""), (code, err)
            with open(s.path(found), "rb") as f:
                assert f.read() == BINARY
            assert os.stat(s.path(found)).st_mode & 0o7777 == 0o750
        assert s.run("cp", "sb-1:/dir/f", "-")[1] == BINARY
        assert sorted(os.listdir(s.path("in"))) == ["f"]


def test_cp_down_faults_leave_no_file():
    def short(handler, *_):
        if handler.path.split("?")[0].endswith("/files"):
            handler.answer(200, BINARY[:-1])
            return True
        return False

    def cut(handler, *_):
        if handler.path.split("?")[0].endswith("/files"):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(BINARY)))
            handler.end_headers()
            handler.wfile.write(BINARY[:100])
            handler.cut()
            return True
        return False

    def flipped(handler, *_):
        if handler.path.split("?")[0].endswith("/files"):
            handler.answer(200, b"x" + BINARY[1:])
            return True
        return False
    for fault, text in ((short, "COPY_FAILED"), (cut, "CONNECTION_ERROR"), (flipped, "COPY_FAILED")):
        with Scene() as s:
            s.server.live["sb-1"] = {"/f": BINARY}
            s.server.on_file = fault
            os.mkdir(s.path("in"))
            code, _, err = s.run("cp", "sb-1:/f", s.path("in"))
            assert code == 1 and text in err and os.listdir(s.path("in")) == [], (code, err)


def test_cp_down_spares_what_is_no_regular_file():
    with Scene() as s:
        s.server.live["sb-1"] = {"/f": BINARY}
        os.mkfifo(s.path("fifo"))
        code, _, err = s.run("cp", "sb-1:/f", s.path("fifo"))
        assert code == 1 and "not a regular file" in err and os.path.exists(s.path("fifo")), err
        s.write("real", b"old")
        os.symlink(s.path("real"), s.path("link"))
        assert s.run("cp", "sb-1:/f", s.path("link"))[0] == 0
        with open(s.path("real"), "rb") as f:
            assert os.path.islink(s.path("link")) and f.read() == BINARY


def test_an_interrupted_copy_leaves_nothing():
    with Scene() as s:
        s.server.live["sb-1"] = {}
        reached, go_on = threading.Event(), threading.Event()

        def plain(_handler, _name, body):
            if body["command"].startswith("umask 077; base64") and len(s.commands()) == 2:
                reached.set()
                assert go_on.wait(30)
            return False
        s.server.on_plain = plain
        p = s.start("cp", s.write("f", os.urandom(3 << 20)), "sb-1:/t")
        assert reached.wait(30)
        p.send_signal(signal.SIGTERM)
        sg.wait_until(lambda: any(m == "DELETE" for m, _, _ in s.server.seen), "the client cleans up")
        code, _, _ = s.finish(p)
        go_on.set()
        assert code == -signal.SIGTERM, code
        deleted = [t for m, t, _ in s.server.seen if m == "DELETE"]
        assert len(deleted) == 2 and all(".t.stacygate-" in t for t in deleted), deleted


if __name__ == "__main__":
    sys.exit(sg.main(dict(globals())))
