# SPDX-License-Identifier: Apache-2.0
"""
M4, X11, X12: each allocation made for a preview fails once. It is answered 502, 503 or 504, or closed, or it did not matter; never
does anything of ours reach a sandbox, is a stranger let in or another host asked; the next request is served.
"""
import owners_no_memory
from owners_lib import UPGRADE, expect_error, expect_not_found, raw, read_all, run
from preview_lib import SECRETS, Front, Gateway, echo_socket


class Sweep(owners_no_memory.Sweep):
    def make(self, env):
        self.front = Front()
        return Gateway(self.server, {"alice": [], "bob": []}, front=self.front.url, level="info", env=env)

    def __exit__(self, kind, *what):
        super().__exit__(kind, *what)
        if kind is None:
            self.front.clean()


def test_m4_x11_traffic():
    """A preview that is asked for first, with a body: it arrives whole and clean, or not."""
    with Sweep() as s:
        def ask():
            mine = s.server.add("alice", preview_domain="preview.example")
            return s.gateway.preview("alice", f"80-{mine}.localhost", "POST", "/../x", iter([b"part", b"part"]), SECRETS)
        s.each(ask, lambda a: a.status == 200 or a.json())
        assert s.front.requests
        for r in s.front.requests:
            assert r.target == "/../x" and r.body == b"partpart" and len(r.all("host")) == 1, (r.headers, r.body)
            assert r.all("host")[0].endswith(".preview.example") and r.all("connection") == ["close"], r.headers


def test_m4_x12_strangers():
    """A stranger's, and a name that is somebody else's: never connected."""
    with Sweep() as s:
        made = []

        def ask():
            made.append(s.server.add("alice"))
            return s.gateway.preview("bob", f"80-{made[-1]}.localhost")
        s.each(ask, lambda a: expect_not_found(a, made[-1]))
        s.each(lambda: s.gateway.preview("alice", f"80-{made[0]}.evil.test"), lambda a: expect_error(a, 421, "BAD_REQUEST"))
        assert s.front.connections == 0
        assert s.gateway.preview("alice", f"80-{made[0]}.localhost").status == 200


def test_m4_url():
    """The URL is right, or there is none."""
    with Sweep() as s:
        made = []

        def ask():
            made.append(s.server.add("alice"))
            return s.gateway.url_of("alice", made[-1], 80)

        def judge(answer):
            assert answer.status == 200 and answer.json() == {"url": f"http://80-{made[-1]}.localhost"}, answer
        s.each(ask, judge)
        s.each(lambda: s.gateway.url_of("alice", made[-1], 80), judge)


def test_m4_websocket():
    """A WebSocket echoes all, or ends."""
    with Sweep() as s:
        s.front.program = echo_socket
        mine = s.server.add("alice")
        head = f"GET / HTTP/1.1\r\nHost: 80-{mine}.localhost\r\n" + "".join(f"{k}: {v}\r\n" for k, v in UPGRADE.items()) + "\r\n"
        for n in range(1, owners_no_memory.MOST, owners_no_memory.STEP):
            s.plan.arm(n)
            got = b""
            try:
                sock = raw(s.gateway, "alice", head.encode())
                got = sock.recv(65536)
                if got.startswith(b"HTTP/1.1 101 "):
                    sock.sendall(b"hello")
                    sock.shutdown(1)
                    got += read_all(sock)
                sock.close()
            except ConnectionError:
                pass  # closed before all was said
            failed = s.plan.disarm()
            assert got == b"" or got.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 502 ", b"HTTP/1.1 503 ", b"HTTP/1.1 504 ")), got
            if not failed:
                assert got.endswith(b"hello"), got
                return
        raise AssertionError("no end of allocations")


if __name__ == "__main__":
    run(globals())
