# SPDX-License-Identifier: Apache-2.0
"""Start, load, violent ends and clean ones: what the gateway uses upstream, and what it leaves behind."""
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

MARK = "sgmark" + secrets.token_hex(8)
POOL = f"""
upstreams:
  main: {{ url: local, pool: {{ max_connections: 4, max_per_identity: 4 }} }}
clients:
  - {{ name: me, match: {{ uid: {os.getuid()} }}, upstream: main, user_id: "me", admin: true }}
"""


class Started(sg.Started):
    """Not judged when the test itself has ended it."""

    def __init__(self, config=None):
        super().__init__(sg.Gateway(config))

    def judge(self):
        if self.g.process.poll() is None:
            super().judge()
            raise

    def __exit__(self, kind, *_):
        try:
            if kind is None and self.g.process.poll() is None:
                left = self.g.stop()
                assert not left, f"left behind: {left}"
        finally:
            self.g.remove()


def pool(g):
    answer = g.request("GET", "/gateway/v1/status")
    assert answer.status == 200, answer.body
    return answer.json["upstreams"][0]["pool"]


def host_processes(word):
    return [pid for pid, (_, state, line) in sg.processes().items() if word in line and state not in "ZX"]


def background(g, sandbox, mark):
    g.exec(sandbox, f"sh -c 'while :; do sleep 600; done' {mark} >/dev/null 2>&1 &\n"
                    f"setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 600; done' {mark} >/dev/null 2>&1 &")
    sg.wait_until(lambda: len(host_processes(mark)) >= 2, "the background processes run")


class Parallel:
    """Requests in threads of their own; answers in their order, an exception as itself."""

    def __init__(self, functions):
        self.answers = [None] * len(functions)
        self.threads = [threading.Thread(target=self.one, args=(i, f)) for i, f in enumerate(functions)]
        for t in self.threads:
            t.start()

    def one(self, i, function):
        try:
            self.answers[i] = function()
        except (OSError, http.client.HTTPException) as e:
            self.answers[i] = e

    def finish(self, seconds=120):
        for t in self.threads:
            t.join(seconds)
            assert not t.is_alive(), "a request has no end"
        return self.answers


def test_the_socket_is_for_its_owner_only():
    with Started() as g:
        mode = os.stat(g.socket)
        assert stat.S_ISSOCK(mode.st_mode) and stat.S_IMODE(mode.st_mode) == 0o600 and mode.st_uid == os.getuid()


def test_200_sequential_requests_use_at_most_two_connections():
    with Started() as g:
        before = pool(g)
        connection = sg.UnixConnection(g.socket)
        for i in range(200):
            # Half over one connection, half over one each.
            answer = g.request("GET", "/api/v1/sandboxes", connection=connection if i % 2 else None)
            assert answer.status == 200 and answer.json == [], answer.body
        connection.close()
        after = pool(g)
        assert after["leases"] - before["leases"] == 200, (before, after)
        assert after["dials"] <= 2 and after["peak"] <= 2 and after["connections"] <= 2, (before, after)


def test_64_parallel_requests_never_exceed_the_pool():
    with Started(POOL) as g:
        assert pool(g)["max_connections"] == 4
        sandbox = g.spawn()
        peak = []
        done = threading.Event()

        def watch():
            while not done.is_set():
                p = pool(g)
                peak.append((p["connections"], p["leased"]))
        watcher = threading.Thread(target=watch)
        watcher.start()
        answers = Parallel([lambda i=i: g.request("POST", f"/api/v1/sandboxes/{sandbox}/exec", {"command": f"sleep 0.1; echo {i}"})
                            for i in range(64)]).finish()
        done.set()
        watcher.join()
        assert [a.json["stdout"] for a in answers] == [f"{i}\n" for i in range(64)], answers
        p = pool(g)
        assert p["peak"] == 4 and max(c for c, _ in peak) <= 4 and max(n for _, n in peak) <= 4, (p, max(peak))
        assert g.request("DELETE", f"/api/v1/sandboxes/{sandbox}").status == 200


def test_stop_leaves_nothing():
    with Started() as g:
        sandboxes = [g.spawn() for _ in range(3)]
        for s in sandboxes:
            background(g, s, MARK + s)
            g.exec(s, "mkdir /workspace/d; echo x >/workspace/d/f; chmod 0 /workspace/d")
        left = g.stop()
        assert not left, left
        assert host_processes(MARK) == [] and sg.mounts_below(g.dir) == []


def test_a_request_under_way_is_answered_before_the_stop():
    with Started() as g:
        s = g.spawn()
        run = Parallel([lambda: g.request("POST", f"/api/v1/sandboxes/{s}/exec", {"command": f"sleep 1; echo answered {MARK}"})])
        sg.wait_until(lambda: host_processes(f"answered {MARK}"), "the command runs")
        g.process.send_signal(signal.SIGTERM)
        (answer,) = run.finish(60)
        assert not isinstance(answer, Exception) and answer.json["stdout"] == f"answered {MARK}\n", answer
        assert g.process.wait(30) == 0, g.log()[-2000:]
        sg.check_clean(g.log(), "stacygated")


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def gone_within_two_seconds(family, g):
    sg.wait_until(lambda: not sg.alive(family), "every process has gone", 2)
    sg.wait_until(lambda: host_processes(MARK) == [], "every command has gone", 2)
    assert sg.mounts_below(g.dir) == [], sg.mounts_below(g.dir)


def busy(g, mark):
    """Sandboxes with background processes, a plain exec and a stream under way, the stream's head with the client."""
    sandboxes = [g.spawn() for _ in range(2)]
    background(g, sandboxes[0], mark)
    path = f"/api/v1/sandboxes/{sandboxes[1]}/exec"
    head_is_here = threading.Event()

    def stream():
        c = sg.UnixConnection(g.socket)
        c.request("POST", path, body=json.dumps({"command": loop + "stream", "stream": True}))
        r = c.getresponse()
        head_is_here.set()
        return sg.Answer(r.status, r.headers, r.read())
    loop = f"sh -c 'while :; do sleep 600; done' {mark}"
    run = Parallel([lambda: g.request("POST", path, {"command": loop + "plain"}), stream])
    for kind in ("plain", "stream"):
        sg.wait_until(lambda: host_processes(mark + kind), "the commands run")
    assert head_is_here.wait(30)
    return sandboxes, run


def test_kill_9_of_the_gateway_leaves_nothing():
    with Started() as g:
        _, run = busy(g, MARK + "gw")
        family = g.family()
        assert len(family) > 4, family
        g.process.kill()
        g.process.wait()
        gone_within_two_seconds(family, g)
        run.finish(30)
        again(g)


def again(g):
    """The next start on the same directories works, and the sandboxes' directories have gone."""
    g.start()
    assert g.sandboxes() == []
    s = g.spawn()
    assert g.exec(s, "echo again")["stdout"] == "again\n"
    assert g.request("DELETE", f"/api/v1/sandboxes/{s}").status == 200
    left = g.stop()
    assert not left, f"left behind: {left}"


def test_kill_9_of_gateway_and_server_leaves_nothing():
    with Started() as g:
        _, run = busy(g, MARK + "both")
        family = g.family()
        kill(g.local_server())
        g.process.kill()
        g.process.wait()
        gone_within_two_seconds(family, g)
        run.finish(30)
        again(g)


def test_kill_9_of_everything_but_the_sandboxes_leaves_nothing():
    with Started() as g:
        _, run = busy(g, MARK + "all")
        family = g.family()
        for pid in [g.process.pid, *(p for p in family if "stacygate" in sg.processes().get(p, (0, "", ""))[2])]:
            kill(pid)
        g.process.wait()
        gone_within_two_seconds(family, g)
        run.finish(30)
        again(g)


def test_kill_9_of_the_local_server_is_502_and_recovers():
    with Started() as g:
        sandboxes, run = busy(g, MARK + "local")
        family = [p for p in g.family() if p != g.process.pid]
        server = g.local_server()
        inside = [server, *sg.descendants(server)]
        kill(server)
        plain, stream = run.finish(30)
        assert plain.status == 502 and plain.json["code"] == "CONNECTION_ERROR", (plain.status, plain.body)
        assert plain.headers["Stacygate-Error"] == "CONNECTION_ERROR", plain.headers
        # Its head was out: it must look cut.
        assert isinstance(stream, http.client.IncompleteRead), (stream.status, stream.headers, stream.body)
        sg.wait_until(lambda: not sg.alive(inside), "the sandboxes go with their server", 2)
        assert host_processes(MARK) == [] and family
        seen = set()

        def works():
            answer = g.request("POST", "/api/v1/sandboxes", {})
            seen.add(answer.status)
            assert answer.status == 201 or answer.json["code"] == "CONNECTION_ERROR", answer.body
            return answer.status == 201 and answer.json["id"]
        s = sg.wait_until(works, "the server is started again", 30)
        assert seen <= {201, 502}, seen
        assert g.exec(s, "echo back")["stdout"] == "back\n"
        assert g.request("GET", f"/api/v1/sandboxes/{sandboxes[0]}").status == 404
        assert g.sandboxes() == [s]


def killed_at(moment, whom):
    """Spawn, exec, copy and destroy are under way all the time; after `moment` seconds of that somebody is killed."""
    forever = f"sh -c 'while :; do sleep 600; done' {MARK}"
    with Started() as g:
        # stderr goes nowhere: what these say about a gateway that dies is not the question.
        clients = [subprocess.Popen([sg.program("stacygate"), "run", "--file", f"{__file__}:/app/f", "--", "sh", "-c",
                                     f"{forever}{n} & cat /app/f; setsid {forever}s{n} & exit 3"], env=g.env, stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for n in range(2)]
        time.sleep(moment)
        family = g.family()
        server = g.local_server()
        if "server" in whom and server:
            kill(server)
        if "gateway" in whom:
            g.process.kill()
            g.process.wait()
            gone_within_two_seconds(family, g)
        elif server:
            inside = sg.descendants(server)
            sg.wait_until(lambda: not sg.alive([server, *inside]), "everything of the server has gone", 2)
        for c in clients:
            # 3: it was through; 1: it was told of the end; 255: the sandbox went under the command.
            assert c.wait(30) in (1, 3, 255), c.returncode
        if "gateway" in whom:
            again(g)
        else:
            sg.wait_until(lambda: g.request("GET", "/api/v1/health").status == 200, "it recovers", 30)
            assert g.sandboxes() == [] and host_processes(MARK) == []


def test_b6_kills_at_many_moments_leave_nothing():
    # The moments are swept over the length of one run of the clients; SG_LONG=1 sweeps in finer steps.
    steps = 60 if os.environ.get("SG_LONG") else 6
    for i in range(steps):
        for whom in (("gateway",), ("server",), ("server", "gateway")):
            killed_at(0.12 * i / steps, whom)


def test_a_server_killed_again_and_again_recovers_each_time():
    with Started() as g:
        for _ in range(3):
            server = sg.wait_until(g.local_server, "a server runs", 30)
            kill(server)
            sg.wait_until(lambda: g.local_server() not in (None, server), "another server runs", 30)
            sg.wait_until(lambda: g.request("GET", "/api/v1/health").status == 200, "it answers", 30)


def test_a_second_gateway_on_the_same_state_is_refused():
    with Started() as g:
        env = {**g.env, "RUNTIME_DIRECTORY": os.path.join(g.dir, "home")}
        done = subprocess.run(g.argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        sg.check_clean(done.stderr, "stacygated")
        assert done.returncode == 3, (done.returncode, done.stderr)
        assert os.listdir(env["RUNTIME_DIRECTORY"]) == []
        assert g.request("GET", "/api/v1/health").status == 200


def test_the_key_is_nowhere_to_be_seen():
    with Started() as g:
        server = g.local_server()
        for pid in (g.process.pid, server):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    environ = f.read()
            except PermissionError:
                # Undumpable: not even the same user may look. Root may, and finds nothing.
                assert os.getuid() != 0
                environ = b""
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
            # Its keys are 64 hexadecimal digits each.
            assert not re.search(rb"[0-9a-f]{64}", environ), environ
            # A file or descriptor may be named, a key may not.
            assert all(w.startswith((b"--", b"/", b"unix:")) or len(w) < 16 for w in words[1:]), words
        # The server demands a key: without one its own socket answers 401, and the gateway's clients never see one.
        sockets = [os.path.join(folder, n) for folder, _, files in os.walk(g.dir) for n in files
                   if stat.S_ISSOCK(os.lstat(os.path.join(folder, n)).st_mode) and os.path.join(folder, n) != g.socket]
        assert len(sockets) == 1, sockets
        assert stat.S_IMODE(os.stat(sockets[0]).st_mode) == 0o600
        answer = sg.request(sockets[0], "GET", "/api/v1/health")
        assert answer.status == 401 and answer.json["code"] == "UNAUTHORIZED", answer.body
        for headers in ({"X-API-Key": "wrong"}, {"Connection": "X-API-Key"}, {"Authorization": "Bearer x", "X-Admin-API-Key": "y"}):
            answer = g.request("GET", "/api/v1/health", headers=headers)
            assert answer.status == 200 and "x-api-key" not in {k.lower() for k in answer.headers}, answer.body


def test_programs_and_state_below_a_directory_that_only_root_can_enter():
    if os.getuid() != 0:
        raise sg.Skip("only root can make such a directory")
    folder = tempfile.mkdtemp(prefix="sg-bin.", dir="/tmp")
    try:
        for name in ("stacygated", "stacygate-local"):
            shutil.copy2(sg.program(name), folder)
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        g = sg.Gateway()
        try:
            assert stat.S_IMODE(os.stat(g.dir).st_mode) == 0o700
            g.argv[0] = os.path.join(folder, "stacygated")
            g.start()
            for pid, name in ((g.process.pid, "stacygated"), (g.local_server(), "stacygate-local")):
                assert os.readlink(f"/proc/{pid}/exe") == os.path.join(folder, name), name
            s = g.spawn()
            assert g.exec(s, "id -u; echo x >/workspace/f; cat /workspace/f")["stdout"].endswith("\nx\n")
            background(g, s, MARK + "root")
            with open(f"/proc/{host_processes(MARK + 'root')[0]}/status", encoding="ascii") as f:
                uids = next(line for line in f if line.startswith("Uid:")).split()[1:]
            assert "0" not in uids, uids
            assert g.stop() == []
        finally:
            g.remove()
    finally:
        shutil.rmtree(folder)


def test_a_start_and_a_stop_take_little_time():
    with Started() as g:
        began = time.monotonic()
        assert g.stop() == []
        assert time.monotonic() - began < 10


if __name__ == "__main__":
    sg.need_user_namespaces()
    sys.exit(sg.main(dict(globals())))
