# SPDX-License-Identifier: Apache-2.0
"""Spawns on the embedded server: client, server and gateway are killed while one is under way; no sandbox is left, none is made twice."""
import os
import signal
import socket
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

TARGET = "/api/v1/sandboxes"


class Under:
    """A spawn with the key K, or without one, that is under way at a server which has been stopped."""

    def __init__(self, g, key="K"):
        self.g, self.answer = g, None
        self.server = g.local_server()
        os.kill(self.server, signal.SIGSTOP)
        self.connection = sg.UnixConnection(g.socket)
        self.thread = threading.Thread(target=self.run, args=({"Idempotency-Key": key} if key else {},), daemon=True)
        self.thread.start()
        sg.wait_until(lambda: [s["state"] for s in own(g)] == ["sent"], "it is under way")

    def run(self, headers):
        try:
            self.answer = sg.request(None, "POST", TARGET, {}, headers, self.connection)
        except OSError:
            self.answer = "broken"

    def go_on(self):
        os.kill(self.server, signal.SIGCONT)

    def leave(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        sg.wait_until(lambda: "the client of a spawn has left" in self.g.log(), "the gateway knows")

    def get(self):
        self.thread.join(40)
        assert self.answer is not None, f"no answer: {self.g.log()[-3000:]}"
        return self.answer


def own(g):
    return g.request("GET", "/gateway/v1/status").json["own"]["spawns"]


def retry(g, key="K"):
    return g.request("POST", TARGET, {}, {"Idempotency-Key": key})


def one_for_the_key(g):
    first = retry(g)
    assert first.status == 201, first.body
    assert retry(g).json["id"] == first.json["id"]
    assert g.sandboxes() == [first.json["id"]], g.sandboxes()
    assert own(g) == []
    assert g.exec(first.json["id"], "echo lives")["stdout"] == "lives\n"


def test_f35_server_killed():
    """F35: the server is killed: 502 when it is there again, not at the spawn timeout; the retry makes the one sandbox."""
    for key in ("K", None):
        with sg.Started() as g:
            spawn = Under(g, key)
            os.kill(spawn.server, signal.SIGKILL)
            answer = spawn.get()
            assert answer.status == 502 and answer.json["code"] == "CONNECTION_ERROR", answer.body
            assert "embedded server" in answer.json["message"], answer.body
            assert g.sandboxes() == [] and own(g) == []
            one_for_the_key(g)


def test_f35_gateway_killed():
    """F35: the gateway is killed, and its server with it: the next start has no sandbox, and the retry makes the one."""
    with sg.Started() as g:
        spawn = Under(g)
        family = g.family()
        g.process.kill()
        g.process.wait()
        sg.wait_until(lambda: not sg.alive(family), "all have gone")
        assert spawn.get() == "broken"
        g.start()
        assert g.sandboxes() == [] and own(g) == []
        one_for_the_key(g)


def test_f35_client_killed():
    """F35: the client is killed: what is made is destroyed without a key, and kept for the retry with one."""
    with sg.Started() as g:
        spawn = Under(g, None)
        spawn.leave()
        spawn.go_on()
        sg.wait_until(lambda: own(g) == [] and g.sandboxes() == [], "it is destroyed")
        assert "which nobody waits for, is destroyed" in g.log()
    with sg.Started() as g:
        spawn = Under(g)
        spawn.leave()
        spawn.go_on()
        sg.wait_until(lambda: [s["state"] for s in own(g)] == ["kept"], "it is kept")
        kept, = g.sandboxes()
        one_for_the_key(g)
        assert g.sandboxes() == [kept]


def test_f35_kept_and_server_killed():
    """F35: what was kept for the retry goes with the server: the retry makes another. What a client was given is gone: 409."""
    with sg.Started() as g:
        spawn = Under(g)
        spawn.leave()
        spawn.go_on()
        sg.wait_until(lambda: [s["state"] for s in own(g)] == ["kept"], "it is kept")
        os.kill(g.local_server(), signal.SIGKILL)
        sg.wait_until(lambda: own(g) == [], "the gateway knows")
        one_for_the_key(g)
        os.kill(g.local_server(), signal.SIGKILL)
        sg.wait_until(lambda: retry(g).status == 409, "the key says that it is gone")
        assert g.sandboxes() == []


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    sg.need_user_namespaces()
    sys.exit(sg.main(dict(globals())))
