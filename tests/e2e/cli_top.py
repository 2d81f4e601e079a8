# SPDX-License-Identifier: Apache-2.0
"""`stacygate top` in a real terminal (tmux): over a real gateway with real sandboxes, and over a scripted one that says anything."""
import contextlib
import copy
import json
import os
import queue
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

TOP = sg.program("stacygate") + " top"
FOOTER = "q quit  h help"
# A server that nobody reaches.
GONE = ("upstreams:\n  main: { url: 'http://127.0.0.1:1' }\ncredentials:\n  team: { api_key: { env: TOP_KEY } }\n"
        "clients:\n  - name: everybody\n    match: {}\n    credential: team\n    user_id: somebody\n")
ADMIN = GONE + "    allow: [all]\n    isolation: none\n    admin: true\n"
WHOLE = {
    "version": "0.1.0", "uptime_ms": 61000, "draining": False, "config": {"file": "/etc/s.yaml", "generation": 1, "reloads_failed": 0},
    "clients": {"connections": 1, "owners": [{"uid": 1000, "user_id": "alice", "rule": "people", "connections": 1, "active": 1, "requests": 5}],
                "active": [{"uid": 1000, "user_id": "alice", "pid": 4, "method": "GET", "route": "/gateway/v1/status", "for_ms": 1000}]},
    "requests": {"total": 5, "by_status": {"none": 0, "4xx": 0, "5xx": 0}}, "rules": [], "leases": {"present": 0}, "errors": [],
    "upstreams": [{"name": "main", "healthy": True, "pool": {"leased": 1, "max_connections": 64}, "events": {}}]}


def need_sandboxes():
    try:
        sg.need_user_namespaces()
    except SystemExit:
        raise sg.Skip("there can be no sandboxes") from None


def changed(**members):
    return {**copy.deepcopy(WHOLE), **members}


class Scripted(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A gateway that says what it is told to: each connection's answers are taken out of one queue."""
    daemon_threads = True

    def __init__(self, path):
        self.says = queue.Queue()
        self.ticks = True        # the last document is said again every second
        self.refusal = None      # instead of a stream: (status line, object)
        self.sandboxes = []
        super().__init__(path, Handler)
        threading.Thread(target=self.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()

    def say(self, document):
        self.says.put(document)

    def end(self):
        """Ends the stream cleanly."""
        self.says.put(None)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            if head.startswith(b"GET /gateway/v1/status HTTP/1.1\r\n") and not self.server.refusal:
                assert b"\r\nAccept: text/event-stream\r\n" in head, head
                self.stream()
            else:
                self.answer(*(self.server.refusal or ("200 OK", self.server.sandboxes)))

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body))

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def stream(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.chunk(b"retry: 1000\n\n")
        document = None
        while True:
            try:
                document = self.server.says.get(timeout=1 if document and self.server.ticks else None)
            except queue.Empty:
                pass
            if document is None:
                self.chunk(b"")
                return
            data = b"data: " + json.dumps(document).encode() + b"\n\n"
            # However the bytes arrive.
            self.chunk(data[:len(data) // 2])
            self.chunk(data[len(data) // 2:] + b": a comment\n\n")


class Tmux:
    """A shell in a terminal of its own."""

    def __init__(self, env, columns=80, rows=24):
        self.dir = tempfile.mkdtemp(prefix="sg-tmux.", dir="/tmp")
        self.env = {k: v for k, v in env.items() if k not in ("TMUX", "NO_COLOR", "LINES", "COLUMNS")}
        self.env.update(LC_ALL="C.UTF-8")
        self.raw_path = os.path.join(self.dir, "raw")
        self.do("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh")
        self.do("pipe-pane", f"cat >'{self.raw_path}'")
        try:
            self.type(r"PS1=READY\>\ ; clear")
            self.until("READY>", without=("PS1",))
        except AssertionError:
            self.close()
            raise

    def do(self, *words):
        done = subprocess.run(["tmux", "-S", os.path.join(self.dir, "socket"), "-f", "/dev/null", *words], env=self.env,
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (words, done)
        return done.stdout

    def type(self, text):
        self.do("send-keys", "-l", text + "\n")

    def keys(self, *names):
        self.do("send-keys", *names)

    def screen(self):
        return self.do("capture-pane", "-p")

    def ask(self, variable):
        return self.do("display-message", "-p", "#{" + variable + "}").strip()

    def until(self, *texts, without=()):
        shown = [""]

        def there():
            shown[0] = self.screen()
            return all(t in shown[0] for t in texts) and not any(t in shown[0] for t in without)
        try:
            sg.wait_until(there, "the screen")
        except AssertionError:
            raise AssertionError(f"not shown: {texts} without {without}\n{shown[0]}") from None
        return shown[0]

    def raw(self):
        with open(self.raw_path, "rb") as f:
            return f.read()

    def restored(self, status, *texts):
        """The terminal is as it was, and the command has ended so; what it said stands there."""
        # What is typed before it has ended would be its own.
        self.until("READY>")
        self.type("echo ended=$?; stty -g >after; echo whole")
        shown = self.until("\nwhole", f"ended={status}\n", *texts)
        assert self.ask("alternate_on") == "0" and self.ask("cursor_flag") == "1" and self.ask("keypad_flag") == "0", shown
        with open(self.dir + "/before", encoding="utf-8") as before, open(self.dir + "/after", encoding="utf-8") as after:
            assert before.read() == after.read()
        sg.check_clean(shown, "stacygate")
        return shown

    def top(self, *words, texts=(FOOTER,), prefix=""):
        self.type(f"cd '{self.dir}'; stty -g >before; clear; {prefix}{' '.join([TOP, *words])}")
        return self.until(*texts)

    def close(self):
        # What still runs in it would be told to go on in the middle of its sanitizer's last look, and hang.
        left = sg.descendants(int(self.ask("pane_pid")))
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sg.wait_until(lambda: not sg.alive(left), "the terminal's programs have ended")
        self.do("kill-server")
        shutil.rmtree(self.dir)


class Scene:
    """A scripted gateway and a terminal whose shell knows it."""

    def __init__(self, columns=80, rows=24):
        self.dir = tempfile.mkdtemp(prefix="sg-top.", dir="/tmp")
        self.socket = os.path.join(self.dir, "s.sock")
        self.env = {**os.environ, "STACYGATE_SOCKET": self.socket}
        self.size = columns, rows

    def __enter__(self):
        self.tmux = Tmux(self.env, *self.size)
        self.gateway = Scripted(self.socket)
        return self

    def __exit__(self, *_):
        self.tmux.close()
        self.gateway.end()
        self.gateway.shutdown()
        self.gateway.server_close()
        shutil.rmtree(self.dir)

    def top(self, document=None, **more):
        self.gateway.say(WHOLE if document is None else document)
        return self.tmux.top(**more)

    def pid(self):
        """Of the client in the terminal."""
        shell = int(self.tmux.ask("pane_pid"))
        return next(p for p in sg.descendants(shell) if "stacygate" in sg.processes()[p][2])


class Real:
    """A real gateway and a terminal whose shell knows it."""

    def __init__(self, config=None):
        self.gateway = sg.Gateway(config)
        self.gateway.env["TOP_KEY"] = "SEKRET-top-key"

    def __enter__(self):
        try:
            self.gateway.start()
            self.tmux = Tmux(self.gateway.env)
        except BaseException:
            self.gateway.remove()
            raise
        return self

    def __exit__(self, kind, *_):
        self.tmux.close()
        if kind is None:
            self.gateway.stop()
        self.gateway.remove()


# ---- a real gateway ------------------------------------------------------------

def test_a_client_and_its_stream_are_shown():
    need_sandboxes()
    with Real() as r:
        box = r.gateway.spawn()
        owner = r.gateway.request("GET", "/gateway/v1/whoami").json["user_id"]
        client = subprocess.Popen([sg.program("stacygate"), "exec", box, "--", "sh", "-c", "echo on; sleep 600"], env=r.gateway.env,
                                  stdout=subprocess.PIPE)
        try:
            assert client.stdout.readline() == b"on\n"
            shown = r.tmux.top(texts=(FOOTER, box))
            for row in (rf"^stacygate \S+  ok  up \d+s  configuration 1$", rf"^local +ok +1/64 ", rf"^{re.escape(owner)} +{os.getuid()} +own-uid +2 +2 ",
                        rf"^POST /api/v1/sandboxes/\{{id\}}/exec +\d+s  {re.escape(owner)} +{client.pid}  {box}$",
                        r"^GET /gateway/v1/status +\d+s ", r"^1 OWNER ", r"^2 UNDER WAY ", r"^3 ERROR ", r"^4 RULE ", r"^own-uid +\d+ "):
                assert re.search(row, shown, re.M), (row, shown)
            # It goes on by itself: the rate of what comes in, and what has ended.
            r.gateway.request("GET", "/gateway/v1/health")
            sg.wait_until(lambda: r.gateway.request("GET", "/gateway/v1/health") and
                          re.search(r"^requests/s [1-9]", r.tmux.screen(), re.M), "a rate")
            client.send_signal(signal.SIGTERM)
            client.wait(60)
            r.tmux.until("under way 1", without=(box,))
        finally:
            client.kill()
            client.stdout.close()
            client.wait()
        r.tmux.keys("q")
        r.tmux.restored(0)


def test_a_restart_and_a_reload_are_lived_through():
    with Real(ADMIN) as r:
        r.tmux.top(texts=(FOOTER, "ok", "configuration 1"))
        assert r.gateway.request("GET", "/api/v1/sandboxes").status == 502
        r.tmux.until("degraded", "main: ")
        assert r.gateway.request("POST", "/gateway/v1/reload").status == 200
        r.tmux.until("another configuration is in force", "configuration 2", without=("disconnected",))
        r.gateway.stop()
        r.tmux.until("disconnected", "trying again every second: cannot connect to ")
        r.gateway.start()
        r.tmux.until("the gateway was started anew", "configuration 1", "ok", without=("disconnected", "degraded"))
        r.tmux.keys("C-c")
        r.tmux.restored(130)


def test_without_admin_it_is_the_own_part():
    with Real(GONE) as r:
        shown = r.tmux.top(texts=(FOOTER, "Your own part", "admin: true"))
        assert re.search(r"^stacygate \S+  connected  up ", shown) and "\nyou are somebody  connections 1  " in shown, shown
        assert "\n1 SPAWN " in shown and "\n2 LEASE " in shown and "UPSTREAM  " not in shown.split("\n1 SPAWN")[0], shown
        r.tmux.keys("q")
        r.tmux.restored(0)


@contextlib.contextmanager
def documents(env):
    """The client with --json; whatever comes of the test it does not stay."""
    client = subprocess.Popen([sg.program("stacygate"), "top", "--json"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


def lines_of(process, n):
    return [json.loads(process.stdout.readline()) for _ in range(n)]


def test_json_is_a_document_a_line_until_a_signal():
    with Real(ADMIN) as r:
        for sig in (signal.SIGINT, signal.SIGTERM):
            with documents(r.gateway.env) as client:
                first, second = lines_of(client, 2)
                assert first["clients"]["connections"] == 1 and second["uptime_ms"] > first["uptime_ms"], (first, second)
                client.send_signal(sig)
                err = client.stderr.read()
                assert (client.wait(60), err) == (-sig, b""), (client.returncode, err)
        done = subprocess.run(["bash", "-c", f"{TOP} --json | head -1; echo ${{PIPESTATUS[0]}}"], env=r.gateway.env, capture_output=True,
                              text=True, timeout=60, check=True)
        document, status = done.stdout.splitlines()
        assert json.loads(document)["config"]["generation"] == 1 and status == str(128 + signal.SIGPIPE) and done.stderr == "", done


# ---- a scripted one ------------------------------------------------------------

def test_json_goes_on_after_the_end_of_a_stream():
    with Scene() as s:
        s.gateway.ticks = False
        for n in (1, 2, 3):
            s.gateway.say({"n": n, "text": "\x1b[31m\u009b"})
            s.gateway.end()
        with documents(s.env) as client:
            assert [d["n"] for d in lines_of(client, 3)] == [1, 2, 3]
            s.gateway.refusal = ("403 Forbidden", {"code": "FORBIDDEN", "message": "no rule admits you"})
            s.gateway.end()
            out, err = client.stdout.read(), client.stderr.read()
            assert (client.wait(60), out) == (1, b""), (client.returncode, out, err)
            assert json.loads(err) == {"code": "FORBIDDEN", "message": "no rule admits you", "status": 403}, err


def test_without_a_terminal_it_says_what_to_use():
    done = subprocess.run([sg.program("stacygate"), "top"], env={**os.environ, "STACYGATE_SOCKET": "/nowhere"}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stdout == "" and "`stacygate status`" in done.stderr and "`stacygate top --json`" in done.stderr, done


def test_half_a_terminal_is_none():
    with Scene() as s:
        for words in (("</dev/null",), (">/dev/null",)):
            s.tmux.top(*words, texts=("`stacygate top --json`",))
            s.tmux.restored(2)


def test_a_first_connection_that_fails_is_an_error():
    with Scene() as s:
        s.tmux.top(prefix="STACYGATE_SOCKET=/nowhere ", texts=("cannot connect to /nowhere",))
        s.tmux.restored(1)
        s.gateway.refusal = ("403 Forbidden", {"code": "FORBIDDEN", "message": "no rule admits you \x1b[31m"})
        s.tmux.top(texts=("FORBIDDEN: no rule admits you \\x1b[31m",))
        s.tmux.restored(1)
        s.gateway.refusal = ("200 OK", {"version": "0.0.1"})
        s.tmux.top(texts=("BAD_ANSWER: the gateway has no stream of its status",))
        s.tmux.restored(1)


def test_whom_the_gateway_refuses_later_sees_why():
    with Scene() as s:
        s.top()
        # Anything else than 403 passes.
        s.gateway.refusal = ("503 Service Unavailable", {"code": "SHUTTING_DOWN", "message": "soon back"})
        s.gateway.end()
        s.tmux.until("disconnected", "trying again every second: soon back")
        s.gateway.refusal = None
        s.gateway.say(changed(uptime_ms=62000))
        s.tmux.until("up 1m 2s", without=("disconnected",))
        s.gateway.refusal = ("403 Forbidden", {"code": "FORBIDDEN", "message": "not any more"})
        s.gateway.end()
        s.tmux.until("FORBIDDEN: not any more")
        s.tmux.restored(1)


def test_a_document_that_is_none_is_an_error():
    with Scene() as s:
        s.top()
        s.gateway.say([1, 2])
        s.tmux.until("BAD_ANSWER: the stream holds a document that is no object")
        s.tmux.restored(1)


HOSTILE = "\x1b]0;PWNED\x07\x1b[2J\x1b[31m\u009b1m\x1b]52;c;UFdORUQ=\x07\x1bP\x00\r\n\t\x7f"


def test_x14_no_escape_of_others_reaches_the_terminal():
    with Scene(columns=200, rows=40) as s:
        title = s.tmux.ask("pane_title")
        evil = changed(version="0" + HOSTILE, config={"file": "file" + HOSTILE, "generation": 1})
        evil["clients"] = {"owners": [{"uid": 1, "user_id": "owner" + HOSTILE, "rule": "rule" + HOSTILE}],
                           "active": [{"method": "M" + HOSTILE, "route": "route" + HOSTILE, "user_id": "u" + HOSTILE, "sandbox": "box" + HOSTILE}]}
        evil["upstreams"] = [{"name": "up" + HOSTILE, "healthy": False, "error": "error" + HOSTILE}]
        evil["rules"] = [{"name": "name" + HOSTILE}]
        evil["errors"] = [{"text": "text" + HOSTILE, "level": "level" + HOSTILE, "time": "time" + HOSTILE, "count": 1}]
        shown = s.top(evil)
        for start in ("file", "owner", "error"):
            assert start + r"\x1b]0;PWNED\x07\x1b[2J\x1b[31m\xc2\x9b1m" in shown, shown
        assert r"text\x1b]0;PWNED\x07" in shown and r"M\x1b]0;PWNED" in shown and r"name\x1b]0;PWNED" in shown, shown
        s.gateway.refusal = ("503 Service Unavailable", {"code": "C", "message": "why" + HOSTILE.replace("\x00", "")})
        s.gateway.end()
        s.tmux.until(r"why\x1b]0;PWNED\x07", "disconnected")
        s.gateway.refusal = None
        s.tmux.keys("q")
        s.tmux.restored(0)
        s.gateway.sandboxes = [{"id": "sb-1", "state": "run" + HOSTILE, "image": "image" + HOSTILE, "owner_id": "owner" + HOSTILE}]
        s.tmux.type("clear; " + sg.program("stacygate") + " ls")
        s.tmux.until(r"image\x1b]0;PWNED\x07\x1b[2J\x1b[31m\xc2\x9b1m", r"owner\x1b]0;PWNED")
        raw = s.tmux.raw()
        assert s.tmux.ask("pane_title") == title != "PWNED"
        for bad in (b"\x1b]0;", b"\x1b]52", b"\x1bP", b"\xc2\x9b", b"\x9b", b"\x00", b"\x7f", b"\x07"):
            assert bad not in raw, bad


def test_x14_an_image_of_a_real_sandbox():
    need_sandboxes()
    with Real() as r:
        r.gateway.spawn(image="alpine\x1b]0;PWNED\x07", metadata={"label": HOSTILE.replace("\x00", "")})
        r.tmux.type("clear; " + sg.program("stacygate") + " ls")
        r.tmux.until(r"alpine\x1b]0;PWNED\x07")
        assert b"\x1b]0;" not in r.tmux.raw() and r.tmux.ask("pane_title") != "PWNED"


def crowd(n, uptime_ms=61000):
    document = changed(uptime_ms=uptime_ms)
    document["clients"]["owners"] = [{"uid": i, "user_id": f"user{i:02}", "active": n - i} for i in range(n)]
    document["clients"]["active"] *= n
    return document


def test_keys_scroll_and_choose():
    with Scene() as s:
        s.top(crowd(50))
        s.tmux.until("1 OWNER 1-", "\nuser00 ", without=("\nuser40 ",))
        for keys, there, gone in ((("Down", "j"), "1 OWNER 3-", "\nuser01 "), (("Up", "k"), "1 OWNER 1-", "\nuser40 "),
                                  (("NPage",), "\nuser12 ", "\nuser00 "), (("End",), "\nuser49 ", "\nuser01 "),
                                  (("Home",), "\nuser00 ", "\nuser49 "), (("G",), "\nuser49 ", "\nuser00 "), (("PPage",), "\nuser33 ", "\nuser49 "),
                                  (("h",), "q, Ctrl-C ", "1 OWNER"), (("h",), "1 OWNER", "q, Ctrl-C "), (("g",), "\nuser00 ", "\nuser49 ")):
            s.tmux.keys(*keys)
            s.tmux.until(there, without=(gone,))
        # The chosen one is told by its heading; each gets the room of the first when it is chosen.
        few = s.tmux.until("1 OWNER 1-")
        s.tmux.keys("2")
        s.tmux.until("1 OWNER 1-", without=(re.search(r"1 OWNER 1-\d+", few)[0],))
        s.tmux.keys("BTab")
        s.tmux.until(re.search(r"1 OWNER 1-\d+", few)[0])
        s.tmux.keys("q")
        s.tmux.restored(0)


def test_pause_holds_what_is_shown():
    with Scene() as s:
        s.top()
        s.tmux.keys("p")
        s.tmux.until("paused")
        s.gateway.say(changed(uptime_ms=3600000))
        s.gateway.say(changed(uptime_ms=3601000))
        sg.wait_until(s.gateway.says.empty, "both are sent")
        s.tmux.keys("h")
        s.tmux.until("up 1m 1s", "q, Ctrl-C")
        s.tmux.keys("h", "p")
        s.gateway.say(changed(uptime_ms=3602000))
        s.tmux.until("up 1h 0m", without=("paused",))


def test_every_size():
    with Scene() as s:
        s.top(crowd(50))
        for columns, rows in ((120, 50), (40, 12), (20, 3), (2, 1), (80, 24)):
            s.tmux.do("resize-window", "-x", str(columns), "-y", str(rows))
            if rows > 3:
                # The keys stand in the last line, wherever that is now.
                sg.wait_until(lambda: s.tmux.screen().rstrip("\n").split("\n")[-1].startswith(FOOTER[:columns]) and
                              len(s.tmux.screen().rstrip("\n").split("\n")) == rows, f"{columns}x{rows}\n{s.tmux.screen()}")
            else:
                s.tmux.until("stacygate 0.1.0"[:columns])
        s.tmux.until("\nuser00 ")
        s.tmux.keys("q")
        s.tmux.restored(0)


def test_wide_characters_keep_the_columns():
    document = changed()
    document["clients"]["owners"] = [{"uid": 77777, "user_id": "\u6f22\u5b57\u540d", "active": 2}, {"uid": 88888, "user_id": "plain", "active": 1},
                                     {"uid": 99999, "user_id": "e\u0301le\u0300ve"}]
    with Scene() as s:
        shown = s.top(document)
        rows = [line for line in shown.split("\n") if re.search(r"77777|88888|99999", line)]
        # A wide character stands for two columns, a combining one for none.
        columns = [line.index(uid) + line.count("\u6f22") * 3 - sum(line.count(c) for c in "\u0301\u0300")
                   for line, uid in zip(rows, ("77777", "88888", "99999"))]
        assert len(set(columns)) == 1 and "\u6f22\u5b57\u540d" in rows[0], (columns, shown)
    # Where the terminal's locale has no such characters nothing of them is sent.
    with Scene() as s:
        s.gateway.say(document)
        shown = s.tmux.top(prefix="LC_ALL=C ")
        assert r"\xe6\xbc\xa2\xe5\xad+" in shown or r"\xe6\xbc\xa2" in shown, shown
        assert s.tmux.raw().isascii()


def test_signals_leave_the_terminal_as_it_was():
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        with Scene() as s:
            s.top(prefix="ulimit -c 0; ")
            os.kill(s.pid(), sig)
            s.tmux.restored(128 + sig)


def test_stopped_and_continued():
    with Scene() as s:
        s.top()
        for _ in range(8):
            # While it draws, of which there is much.
            for n in range(200):
                s.gateway.say(crowd(50, 61000 + n % 2 * 1000))
            s.tmux.keys("C-z")
            s.tmux.until("READY>", without=(FOOTER,))
            assert s.tmux.ask("alternate_on") == "0"
            s.tmux.do("resize-window", "-x", "100", "-y", "30")
            s.tmux.type("clear; fg")
            s.tmux.until(FOOTER, "user00")
            assert s.tmux.ask("alternate_on") == "1"
            s.tmux.keys("1", "h")
            s.tmux.until("q, Ctrl-C")
            s.tmux.keys("1")
            s.tmux.until("1 OWNER")
        # One that nobody can refuse is lived through too.
        os.kill(s.pid(), signal.SIGSTOP)
        s.tmux.until("READY>")
        s.tmux.type("fg")
        s.tmux.until(FOOTER, "user00")
        s.tmux.keys("q")
        s.tmux.restored(0)


def test_a_gateway_that_falls_silent():
    with Scene() as s:
        s.gateway.ticks = False
        s.top()
        s.tmux.until("silent", "nothing has come for")
        s.gateway.say(changed(uptime_ms=65000))
        s.tmux.until("up 1m 5s", without=("silent", "nothing has come"))


def test_colours_only_where_they_are_wanted():
    for prefix, wanted in (("", True), ("NO_COLOR=1 ", False), ("NO_COLOR= ", True), ("TERM=vt100 ", False)):
        with Scene() as s:
            s.top(prefix=prefix, texts=(FOOTER, "ok"))
            assert bool(re.search(rb"\x1b\[[0-9;]*3[0-7]m", s.tmux.raw())) == wanted, (prefix, s.tmux.raw())
    for term in ("dumb", "no-such-terminal"):
        with Scene() as s:
            # ncurses itself leaks a little where it does not know the terminal.
            s.top(prefix=f"ASAN_OPTIONS=detect_leaks=0 TERM={term} ", texts=(f"TERM={term}: no terminal that text",))
            s.tmux.restored(1)


def test_a_terminal_that_goes_away():
    """With SIGHUP ignored it is not told; it must end, and not spin."""
    with Scene() as s:
        s.gateway.say(WHOLE)
        master, side = os.openpty()
        client = subprocess.Popen([sg.program("stacygate"), "top"], env={**s.env, "TERM": "xterm"}, stdin=side, stdout=side,
                                  stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        os.close(side)
        try:
            shown = b""
            while b"q quit" not in shown:
                shown += os.read(master, 65536)
            os.close(master)
            _, err = client.communicate(timeout=60)
        finally:
            client.kill()
        assert client.returncode == 1 and b"the terminal has gone" in err, (client.returncode, err)


if __name__ == "__main__":
    if not shutil.which("tmux"):
        sg.skip("tmux is not installed")
    sys.exit(sg.main(dict(globals())))
