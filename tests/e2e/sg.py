# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: built programs, waiting, a real gateway with its embedded server, the summary line."""
import http.client
import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.path.abspath(os.environ.get("SG_BUILDDIR", "."))
SKIPPED = 77
# A sanitizer's words, or one of our own asserts, in any program's output fail the test.
BAD_OUTPUT = ("Sanitizer", "runtime error", "check failed")


def program(name):
    return os.path.join(BUILD, name)


def wait_until(question, what, seconds=20):
    """Asks until the answer is true; a deadline, not a sleep, decides. Returns the answer."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def skip(why):
    """Ends the whole script as skipped, loudly."""
    print(f"SKIPPED: {why}")
    sys.exit(SKIPPED)


def need_user_namespaces():
    """Sandboxes need them; a machine that refuses them cannot run these tests."""
    if not shutil.which("bwrap"):
        skip("bubblewrap (bwrap) is not installed")
    done = subprocess.run(["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"],
                          capture_output=True, text=True)
    if done.returncode:
        skip("user namespaces are refused here (kernel.unprivileged_userns_clone, "
             f"kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces): {done.stderr.strip()}")


def check_clean(text, who):
    for word in BAD_OUTPUT:
        assert word not in text, f"{who}: {text[-4000:]}"


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
            return True
    except OSError:
        return False


def free_ports(n):
    """Ports that nobody has on either loopback address, below those that the kernel takes by itself."""
    found = []
    while len(found) < n:
        port = random.randrange(20000, 32000)
        try:
            for family, address in ((socket.AF_INET, "127.0.0.1"), *([(socket.AF_INET6, "::1")] if has_ipv6() else [])):
                with socket.socket(family) as s:
                    s.bind((address, port))
        except OSError:
            continue
        if port not in found:
            found.append(port)
    return found


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


def request(path, method, target, body=None, headers=None, connection=None):
    """One request over the Unix socket; a dict or list as body is sent as JSON."""
    c = connection or UnixConnection(path)
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    c.request(method, target, body=body, headers=headers or {})
    r = c.getresponse()
    answer = Answer(r.status, r.headers, r.read())
    if not connection:
        c.close()
    return answer


def processes():
    """pid -> (parent, state, command line)."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
            with open(f"/proc/{name}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        found[int(name)] = (int(fields[1]), fields[0], line)
    return found


def descendants(pid):
    table = processes()
    out, todo = [], [pid]
    while todo:
        parent = todo.pop()
        for child, (ppid, _, _) in table.items():
            if ppid == parent and child not in out:
                out.append(child)
                todo.append(child)
    return out


def alive(pids):
    table = processes()
    return [p for p in pids if p in table and table[p][1] not in "ZX"]


def mounts_below(directory):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return [line for line in f if directory in line]


class Gateway:
    """A real stacygated, without a configuration file, on its embedded server; all its state below one directory."""

    def __init__(self, config=None, keep_state=None):
        # Short, since a socket's path is at most 107 bytes.
        self.dir = keep_state or tempfile.mkdtemp(prefix="sg-e2e.", dir="/tmp")
        self.runtime = os.path.join(self.dir, "run")
        self.state = os.path.join(self.dir, "state")
        self.socket = os.path.join(self.runtime, "stacygate.sock")
        for path in (self.runtime, self.state, os.path.join(self.dir, "home")):
            os.makedirs(path, mode=0o700, exist_ok=True)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("STACYGATE_", "XDG_", "CREDENTIALS_"))}
        self.env.update(RUNTIME_DIRECTORY=self.runtime, STATE_DIRECTORY=self.state, STACYGATE_SOCKET=self.socket,
                        HOME=os.path.join(self.dir, "home"), XDG_CONFIG_HOME=os.path.join(self.dir, "home", "config"))
        self.log_path = os.path.join(self.dir, "log")
        self.argv = [program("stacygated")]
        if config is not None:
            path = os.path.join(self.dir, "stacygate.yaml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(config)
            self.argv += ["-c", path]
        elif os.path.exists("/etc/stacygate/stacygate.yaml"):
            skip("this machine has a configuration of its own, /etc/stacygate/stacygate.yaml")
        self.process = None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.dir)
        wait_until(self.answers, "the gateway answers", 30)
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"stacygated ended with {self.process.returncode}: {self.log()[-4000:]}")
        try:
            return self.request("GET", "/gateway/v1/health").status == 200
        except OSError:
            return False

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def request(self, method, target, body=None, headers=None, connection=None):
        return request(self.socket, method, target, body, headers, connection)

    def spawn(self, **fields):
        answer = self.request("POST", "/api/v1/sandboxes", fields)
        assert answer.status == 201, answer.body
        return answer.json["id"]

    def exec(self, sandbox, command, **fields):
        answer = self.request("POST", f"/api/v1/sandboxes/{sandbox}/exec", {"command": command, **fields})
        assert answer.status == 200, answer.body
        return answer.json

    def sandboxes(self):
        return [s["id"] for s in self.request("GET", "/api/v1/sandboxes").json]

    def cli(self, *words, stdin=None, timeout=120, text=True, env=None):
        done = subprocess.run([program("stacygate"), *words], env={**self.env, **(env or {})}, input=stdin, timeout=timeout,
                              capture_output=True, text=text, cwd=self.dir)
        check_clean(done.stderr if text else done.stderr.decode(errors="replace"), "stacygate")
        return done

    def family(self):
        return [self.process.pid, *descendants(self.process.pid)]

    def local_server(self):
        """pid of the running stacygate-local."""
        table = processes()
        return next((p for p in self.family() if p in table and "stacygate-local" in table[p][2].split(" ")[0]
                     and table[p][1] not in "ZX"), None)

    def stop(self, expect=0):
        """SIGTERM; everything must be gone afterwards. Returns what it left behind (nothing, one hopes)."""
        family = self.family()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end 60 s after SIGTERM: {self.log()[-4000:]}") from None
        check_clean(self.log(), "stacygated")
        assert status == expect, f"stacygated ended with {status}: {self.log()[-4000:]}"
        wait_until(lambda: not alive(family), "all processes of the gateway have gone", 5)
        return self.leftovers()

    def leftovers(self):
        """What must not stay: sockets, anything in the runtime directory, anything of a sandbox. Locks, the host's name and
        templates are meant to stay in the state directory."""
        paths = [os.path.join(folder, name) for folder, folders, files in os.walk(self.dir) for name in files + folders]
        return [p for p in paths if p.startswith(self.runtime + "/") or "/sandboxes/" in p or stat.S_ISSOCK(os.lstat(p).st_mode)]

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Started:
    """A gateway for the length of a with block; what it must not leave behind is judged at the end."""

    def __init__(self, gateway=None):
        self.g = gateway or Gateway()

    def __enter__(self):
        try:
            return self.g.start()
        except BaseException:
            self.g.remove()
            raise

    def judge(self):
        left = self.g.stop()
        assert not left, f"left behind: {left}"

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.judge()
        finally:
            self.g.remove()


class Skip(Exception):
    """One test cannot run here; it counts neither as passed nor as failed."""


class Tally:
    """Runs test functions and counts."""

    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, function):
        began = time.monotonic()
        try:
            function()
            self.passed += 1
            print(f"ok   {name} ({time.monotonic() - began:.2f} s)", flush=True)
        except Skip as why:
            print(f"SKIP {name}: {why}", flush=True)
        except Exception:  # a test's failure must not keep the others from running
            self.failed += 1
            print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)

    def summary(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


def main(tests, last=None):
    """Runs the functions named test_* in the order of the file (or those named as arguments), then `last`, whatever came
    of them; ends with the summary line. Returns the exit status."""
    tally = Tally()
    for name, function in tests.items():
        if name.startswith("test_") and callable(function) and (len(sys.argv) < 2 or name in sys.argv[1:]):
            tally.run(name, function)
    if last:
        tally.run(last.__name__, last)
    return tally.summary()


def main_with_gateway(tests, set_gateway):
    """The same around one gateway for all tests; that it leaves nothing behind is the last of them."""
    need_user_namespaces()
    gateway = Gateway()

    def stop_leaves_nothing():
        left = gateway.stop()
        assert not left, f"left behind: {left}"
        assert not mounts_below(gateway.dir), mounts_below(gateway.dir)
    try:
        set_gateway(gateway.start())
        return main(tests, stop_leaves_nothing)
    finally:
        gateway.remove()
