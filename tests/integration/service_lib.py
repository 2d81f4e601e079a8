# SPDX-License-Identifier: Apache-2.0
"""
What a service manager is to stacygated: it binds sockets and passes them on, listens on a notify socket, keeps descriptors
that are stored with it, stops and starts.
"""
import array
import os
import shutil
import signal
import socket
import tempfile
import time

from tls_lib import BUILD, DEADLINE, UnixConnection, wait_for

KEY = "SEKRET-service-key"


def free_port():
    """A port that is free on both loopback addresses, and the two sockets that hold it."""
    for _ in range(64):
        four = socket.socket(socket.AF_INET)
        six = socket.socket(socket.AF_INET6)
        try:
            four.bind(("127.0.0.1", 0))
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            six.bind(("::1", four.getsockname()[1]))
            four.listen(128)
            six.listen(128)
            return four.getsockname()[1], four, six
        except OSError:
            four.close()
            six.close()
    raise AssertionError("no port is free on both loopback addresses")


class Manager:
    """
    `lines` is the configuration, "{d}" in it the directory; None gives no file. `sockets` are (name, socket) in the order in
    which they are passed.
    """

    def __init__(self, lines=None, sockets=(), watchdog_usec=0, abstract=False, env=None):
        self.directory = tempfile.mkdtemp(prefix="sg-service.")
        self.sockets = list(sockets)
        self.stored = []  # (name, descriptor)
        self.said = []    # every message so far
        self.watchdog_usec, self.more = watchdog_usec, env or {}
        self.pid = None
        self.starts = 0
        for name in ("run", "state"):
            os.mkdir(self.path(name), 0o700)
        self.write("key", KEY + "\n")
        self.config = self.path("stacygate.yaml") if lines is not None else None
        if lines is not None:
            self.configure(lines)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = "@sg-service-" + os.path.basename(self.directory) if abstract else self.path("notify")
        self.notify.bind("\0" + self.address[1:] if abstract else self.address)
        if not abstract:
            os.chmod(self.address, 0o777)  # as systemd's is

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(os.open(self.path(name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)

    def configure(self, lines):
        self.write("stacygate.yaml", "\n".join(lines).replace("{d}", self.directory) + "\n")

    def bind(self, name, file=None, mode=0o600):
        """A listening Unix socket that is passed by this name."""
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.path(file or name))
        os.chmod(self.path(file or name), mode)
        sock.listen(4096)
        self.sockets.append((name, sock))
        return self.path(file or name)

    # --- starting and stopping ---

    def environment(self, pid, names):
        out = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.directory, "LANG": "C.UTF-8",
               "RUNTIME_DIRECTORY": self.path("run"), "STATE_DIRECTORY": self.path("state"), "NOTIFY_SOCKET": self.address}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                out[name] = os.environ[name]
        if names:
            out.update(LISTEN_PID=str(pid), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
        if self.watchdog_usec:
            out.update(WATCHDOG_USEC=str(self.watchdog_usec), WATCHDOG_PID=str(pid))
        out.update(self.more)
        return out

    def start(self, *arguments, program="stacygated", wait=True, uid=0):
        passed = [(name, sock.fileno()) for name, sock in self.sockets] + self.stored
        command = [os.path.join(BUILD, program), *(("-c", self.config) if self.config else ()), *arguments]
        self.starts += 1
        self.mark = len(self.said)
        self.pid = os.fork()
        if self.pid == 0:
            self.become(command, passed, uid)
        if wait:
            self.expect("READY=1")

    def become(self, command, passed, uid):
        """In the child: descriptors from 3 on, as sd_listen_fds(3) says; with `uid` as that user, without groups."""
        try:
            log = os.open(self.path("log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            base = max([3 + len(passed), *(fd + 1 for _, fd in passed)])
            high = [os.dup2(fd, base + i, True) for i, (_, fd) in enumerate(passed)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i, True)
            os.closerange(3 + len(high), base + len(high) + 16)
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            os.execve(command[0], command, self.environment(os.getpid(), [name for name, _ in passed]))
        finally:
            os._exit(126)

    def signal(self, number):
        os.kill(self.pid, number)

    def ended(self):
        """Its wait status when it has ended; otherwise None."""
        if self.pid is None:
            return self.status
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.pid, self.status = None, status
        return status

    def wait(self, seconds=DEADLINE):
        """Its exit status; 128 + N for signal N."""
        wait_for("it ends", lambda: self.ended() is not None, seconds)
        return os.waitstatus_to_exitcode(self.status) if os.WIFEXITED(self.status) else 128 + os.WTERMSIG(self.status)

    def stop(self):
        self.signal(signal.SIGTERM)
        self.collect()
        code = self.wait()
        self.collect()
        assert code == 0, (code, self.log()[-4000:])

    # --- what it says ---

    def receive(self, seconds):
        """One message, or None; descriptors with FDSTORE=1 are kept as systemd does."""
        self.notify.settimeout(max(seconds, 0.001))
        try:
            data, ancillary, _, _ = self.notify.recvmsg(8192, socket.CMSG_SPACE(4 * 768))
        except (socket.timeout, BlockingIOError):
            return None
        fds = array.array("i")
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(value[:len(value) - len(value) % fds.itemsize])
        text = data.decode()
        fields = dict(line.split("=", 1) for line in text.splitlines())
        if fields.get("FDSTORE") == "1":
            self.stored += [(fields.get("FDNAME", "stored"), fd) for fd in fds]
        elif fields.get("FDSTOREREMOVE") == "1":
            self.forget(fields["FDNAME"])
        else:
            assert not fds, text
        self.said.append(text)
        return text

    def collect(self, seconds=0.0):
        """What has been said until now, or comes within that time."""
        end = time.monotonic() + seconds
        while self.receive(end - time.monotonic()) is not None:
            continue

    def forget(self, name):
        """The stored descriptors of that name; until then both have them, as with systemd."""
        for _, fd in [entry for entry in self.stored if entry[0] == name]:
            os.close(fd)
        self.stored = [entry for entry in self.stored if entry[0] != name]

    def expect(self, start, seconds=DEADLINE):
        """Waits for a message that begins so, since the last start or expect; gives it."""
        end = time.monotonic() + seconds
        while True:
            for i in range(self.mark, len(self.said)):
                if self.said[i].startswith(start):
                    self.mark = i + 1
                    return self.said[i]
            if self.receive(end - time.monotonic()) is None:
                assert time.monotonic() < end, f"{start!r} was not said but {self.said[-8:]}; {self.log()[-4000:]}"
            if self.ended() is not None and self.receive(0) is None and not any(
                    s.startswith(start) for s in self.said[self.mark:]):
                raise AssertionError(f"it ended before it said {start!r}: {self.said[-8:]} {self.log()[-4000:]}")

    def states(self):
        """The states in the order in which they were said."""
        return [s.split("\n")[0].split("=")[0] for s in self.said if s.split("=")[0] in ("READY", "RELOADING", "STOPPING")]

    def log(self):
        try:
            with open(self.path("log"), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def wait_log(self, text):
        wait_for(f"{text!r} in the log", lambda: text in self.log())

    def ask(self, path, target="/gateway/v1/health", method="GET", body=None, headers=None):
        connection = UnixConnection(path)
        answer = connection.ask(method, target, body, headers)
        connection.close()
        return answer

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.pid is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM if kind is None else signal.SIGKILL)
            self.collect()
            code = self.wait()
            assert kind is not None or code == 0, (code, self.log()[-4000:])
        for _, sock in self.sockets:
            sock.close()
        for _, fd in self.stored:
            os.close(fd)
        self.notify.close()
        log = self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        if kind is not None:
            print("its log:", log[-6000:], flush=True)
            return
        for bad in ("Sanitizer", "runtime error", "check failed", KEY):
            assert bad not in log, f"{bad!r} in its log: {log[-4000:]}"
