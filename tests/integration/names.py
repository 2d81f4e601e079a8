# SPDX-License-Identifier: Apache-2.0
"""
F28: upstreams by name, with a name server that never answers, refuses, or changes its mind. All of it runs in a network of
its own, whose name server is this script; that needs root.
"""
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

INSIDE = "SG_NAMES_INSIDE"
# A loop that waits for a resolver waits for seconds; a machine that is busy stops for some tens of milliseconds.
STALL = 0.05
LONG_STALL = 0.5


def enter():
    """Runs this script again in a network namespace with a name server of our own, or says why not and exits 77."""
    directory = tempfile.mkdtemp(prefix="sg-names.")
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: files dns\n"),
                       ("hosts", "127.0.0.1 localhost\n")):
        with open(os.path.join(directory, name), "w", encoding="ascii") as file:
            file.write(text)
    mounts = " && ".join(f'mount --bind "$0/{name}" /etc/{name}' for name in ("resolv.conf", "nsswitch.conf", "hosts"))
    words = ["unshare", "-n", "-m", "sh", "-c", f'ip link set lo up && {mounts} && exec "$@"', directory]
    probe = subprocess.run([*words, "true"], capture_output=True, text=True)
    if probe.returncode:
        print(f"SKIPPED, needs root, unshare and ip: a name server of our own: {probe.stderr.strip()}")
        sys.exit(77)
    done = subprocess.run([*words, sys.executable, *sys.argv], env={**os.environ, INSIDE: "1"})
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))
    os.rmdir(directory)
    sys.exit(done.returncode)


if INSIDE not in os.environ:
    enter()

from tls_lib import Gateway, Upstream, main, wait_for  # noqa: E402  (after enter: it starts nothing, but is not needed there)


class Names:
    """The name server: answers from a table; None there is silence, a number an error, a list addresses."""

    def __init__(self):
        self.table, self.asked = {}, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, peer = self.socket.recvfrom(4096)
            answer = self.answer(query)
            if answer:
                self.socket.sendto(answer, peer)

    def answer(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question, kind = query[12:at + 5], struct.unpack("!H", query[at + 1:at + 3])[0]
        name = ".".join(labels).lower()
        self.asked.append(name)
        what = self.table.get(name, 3)
        if what is None:
            return None
        code, addresses = (what, []) if isinstance(what, int) else (0, what if kind == 1 else [])
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(a) for a in addresses)
        return query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(addresses), 0, 0) + question + records


NAMES = Names()


def named(name, port, *settings):
    return [f"url: http://{name}:{port}", "allow_plaintext: true", "timeouts: { connect: 1s }", *settings]


class Others:
    """Asks another upstream all the time, and notes how long each answer took."""

    def __init__(self, gateway):
        self.gateway, self.took, self.fault, self.going = gateway, [], None, True
        self.thread = threading.Thread(target=self.run)

    def run(self):
        connection = self.gateway.connect("other")
        try:
            while self.going:
                begin = time.monotonic()
                answer = connection.ask("GET", "/api/v1/x")
                self.took.append(time.monotonic() - begin)
                assert answer.status == 200, answer
                time.sleep(0.002)  # the pace of the questions
        except Exception as fault:  # for the test's thread
            self.fault = repr(fault)
        connection.close()

    def __enter__(self):
        self.thread.start()
        wait_for("the first is answered", lambda: self.took)
        return self

    def __exit__(self, *what):
        self.going = False
        self.thread.join()
        assert not self.fault, self.fault
        slow = sorted(t for t in self.took if t > STALL)
        print(f"  {len(self.took)} others meanwhile, the slowest {max(self.took) * 1000:.1f} ms", flush=True)
        assert len(self.took) > 50, "others were not served meanwhile"
        assert len(slow) <= len(self.took) // 100 + 1 and max(self.took) < LONG_STALL, f"the loop stood still: {slow}"


def test_f28_never_answers():
    """504 at the end of timeouts.connect, for everybody who waits; the end of the dial holds up nobody either."""
    NAMES.table["silent.test"] = None
    with Gateway({"named": named("silent.test", 80), "other": [f"url: http://127.0.0.1:{Upstream().port}"]}) as g:
        answers = []

        def ask():
            begin = time.monotonic()
            answer = g.ask("named", "POST", "/api/v1/x", b"{}")
            answers.append((answer, time.monotonic() - begin))
        with Others(g):
            threads = [threading.Thread(target=ask) for _ in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            # The resolver's own patience is longer than the dial's.
            done = len(g.log())
            wait_for("more is served", lambda: g.log().count('"GET /api/v1/x"', done) > 100)
        for answer, took in answers:
            assert answer.status == 504 and answer.json()["code"] == "UPSTREAM_TIMEOUT", answer
            assert 0.5 < took < 2.5, took
        assert "silent.test" in NAMES.asked
        assert not g.health("named")["healthy"]


def test_f28_client_leaves():
    """Who waits for the dial leaves: that is noticed, and neither he nor the dial holds up anybody."""
    NAMES.table["silent.test"] = None
    with Gateway({"named": named("silent.test", 80), "other": [f"url: http://127.0.0.1:{Upstream().port}"]}) as g:
        with Others(g):
            for n in range(5):
                connection = g.connect("named")
                connection.request("GET", f"/api/v1/left/{n}")
                wait_for("it waits", lambda: g.pool("named")["waiting"] == 1)
                connection.close()
                wait_for("it is known to be gone", lambda: g.pool("named")["waiting"] == 0, 0.9)
            wait_for("the dial is over", lambda: g.pool("named")["connections"] == 0)


def test_f28_cancelled_by_a_reload():
    """A reload takes the upstream away while its dial hangs: whoever waits is answered, and nobody else waits for it."""
    NAMES.table["silent.test"] = None
    other = [f"url: http://127.0.0.1:{Upstream().port}"]
    with Gateway({"named": named("silent.test", 80), "other": other}) as g:
        with Others(g):
            answers = []
            thread = threading.Thread(target=lambda: answers.append(g.ask("named")))
            thread.start()
            wait_for("it waits", lambda: g.pool("named")["waiting"] == 1)
            g.configure({"named": named("silent.test", 81), "other": other})
            g.reload()
            thread.join()
            done = len(g.log())
            wait_for("more is served", lambda: g.log().count('"GET /api/v1/x"', done) > 100)
        assert answers[0].status in (502, 504), answers


def test_f28_stop_while_it_hangs():
    """The daemon stops in time although a resolver still waits."""
    NAMES.table["silent.test"] = None
    with Gateway({"named": named("silent.test", 80)}) as g:
        connection = g.connect("named")
        connection.request("GET", "/api/v1/x")
        wait_for("it waits", lambda: g.pool("named")["waiting"] == 1)
        begin = time.monotonic()
    assert time.monotonic() - begin < 4, "the stop waited for the resolver"
    connection.close()


def test_f28_fails():
    """No such name, and a server that fails: 502 at once."""
    NAMES.table.update({"none.test": 3, "broken.test": 2})
    with Gateway({"none": named("none.test", 80), "broken": named("broken.test", 80),
                  "other": [f"url: http://127.0.0.1:{Upstream().port}"]}) as g:
        with Others(g):
            for name in ("none", "broken"):
                begin = time.monotonic()
                answer = g.ask(name, "POST", "/api/v1/x", b"{}")
                assert answer.status == 502 and "resolve" in answer.json()["message"], answer
                assert time.monotonic() - begin < 0.9
            done = len(g.log())
            wait_for("more is served", lambda: g.log().count('"GET /api/v1/x"', done) > 100)


def test_f28_changes():
    """The name moves to another address: new connections go there, soon and without a reload."""
    first, second = Upstream(), None
    NAMES.table["moves.test"] = ["127.0.0.1"]
    with Gateway({"named": named("moves.test", first.port, "pool: { max_idle: 0 }")}) as g:
        g.get("named")
        assert len(first.requests) == 1
        second = Upstream(host="127.0.0.2", port=first.port)
        NAMES.table["moves.test"] = ["127.0.0.2"]
        wait_for("the new address is used", lambda: g.get("named") and second.requests, 5)
        first.close()
        g.get("named")
        # And one of several that does not answer is passed over.
        NAMES.table["moves.test"] = ["127.0.0.3", "127.0.0.2"]
        seen = len(NAMES.asked)
        wait_for("it was asked for again", lambda: g.get("named") and len(NAMES.asked) > seen, 5)
        g.get("named")


if __name__ == "__main__":
    main([test_f28_never_answers, test_f28_client_leaves, test_f28_cancelled_by_a_reload, test_f28_stop_while_it_hangs,
          test_f28_fails, test_f28_changes])
