# SPDX-License-Identifier: Apache-2.0
"""Runs on the embedded server with real commands: their exit codes, and that client, server and gateway may be killed within one."""
import json
import os
import signal
import socket
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

RUN = "/gateway/v1/run"


class Curl:
    """A run under way by curl, its sandbox there and its command begun."""

    def __init__(self, g, stream):
        body = {"command": "echo begun; touch /workspace/begun; exec sleep 600", "stream": stream}
        self.process = subprocess.Popen(["curl", "-sSN", "--unix-socket", g.socket, "http://localhost" + RUN, "-d", json.dumps(body)],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        sg.wait_until(lambda: len(g.sandboxes()) == 1, "the sandbox is there")
        self.sandbox, = g.sandboxes()
        sg.wait_until(lambda: b"begun" in g.request("GET", f"/api/v1/sandboxes/{self.sandbox}/files/list?path=/workspace").body,
                      "the command runs")


def test_exit_codes():
    """The command's own, in both forms, from the server's own record."""
    with sg.Started() as g:
        for code in (0, 1, 42, 255):
            answer = g.request("POST", RUN, {"command": f"echo out; echo err >&2; exit {code}"})
            assert answer.json["exit_code"] == code and answer.json["stdout"] == "out\n" and answer.json["stderr"] == "err\n", answer.body
            answer = g.request("POST", RUN, {"command": f"echo out; exit {code}", "stream": True})
            lines = [json.loads(line) for line in answer.body.splitlines()]
            assert lines[-1]["exit_code"] == code and lines[:-1] == [{"stream": "stdout", "data": "out\n"}], answer.body
            assert g.sandboxes() == []
        answer = g.request("POST", RUN, {"command": "kill -9 $$", "stream": True})
        assert json.loads(answer.body.splitlines()[-1])["exit_code"] == -1, answer.body


def test_client_killed():
    """The client is killed: the sandbox and all its processes are gone."""
    with sg.Started() as g:
        for stream in (True, False):
            curl = Curl(g, stream)
            curl.process.kill()
            curl.process.wait()
            sg.wait_until(lambda: g.sandboxes() == [], "it is destroyed", 5)


def test_server_killed():
    """The embedded server is killed: the client is told, and nothing is left."""
    with sg.Started() as g:
        for stream in (True, False):
            curl = Curl(g, stream)
            os.kill(g.local_server(), signal.SIGKILL)
            out, _ = curl.process.communicate(timeout=60)
            last = json.loads(out.splitlines()[-1])
            assert ("error" in last and last["exit_code"] is None) if stream else last["code"] == "CONNECTION_ERROR", out
            assert curl.process.returncode == (18 if stream else 0), curl.process.returncode
            sg.wait_until(lambda: g.sandboxes() == [], "the server is there again, without it")


def test_gateway_killed():
    """The gateway is killed with -9, and its server ends with it; the next start has nothing of it."""
    for stream in (True, False):
        with sg.Started() as g:
            curl = Curl(g, stream)
            family = g.family()
            g.process.kill()
            g.process.wait()
            sg.wait_until(lambda: not sg.alive(family), "all have gone")
            curl.process.communicate(timeout=60)
            assert curl.process.returncode in (18, 52, 56), curl.process.returncode
            g.start()
            assert g.sandboxes() == []
            sg.wait_until(lambda: g.request("GET", "/gateway/v1/leases").json == [], "its lease is forgotten")


def test_killed_at_random_moments():
    """Clients that are killed at any moment of a run leave nothing."""
    with sg.Started() as g:
        def one(delay):
            done = subprocess.Popen(["curl", "-sS", "--unix-socket", g.socket, "http://localhost" + RUN, "-d",
                                     json.dumps({"command": "true", "files": [{"path": "/a/b", "content": "x"}]})],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                done.wait(delay)
            except subprocess.TimeoutExpired:
                done.kill()
                done.wait()
        threads = [threading.Thread(target=one, args=(i * 0.002,)) for i in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        sg.wait_until(lambda: g.sandboxes() == [] and g.request("GET", "/gateway/v1/status").json["own"]["spawns"] == [], "nothing is left")


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    sg.need_user_namespaces()
    sys.exit(sg.main(dict(globals())))
