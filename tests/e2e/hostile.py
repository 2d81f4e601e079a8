# SPDX-License-Identifier: Apache-2.0
"""Code in a sandbox that means harm: what namespaces do not contain, and what tries to live on or to stop the server."""
import contextlib
import json
import os
import platform
import secrets
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

MARK = "sghost" + secrets.token_hex(6)
SECRET = "SEKRET" + secrets.token_hex(8)
# add_key, request_key, keyctl
KEY_CALLS = {"x86_64": (248, 249, 250), "aarch64": (217, 218, 219)}.get(platform.machine())
IO_URING = (425, 426, 427)


@contextlib.contextmanager
def started(wrap=()):
    """A gateway; `wrap` is put in front of its command line."""
    g = sg.Gateway()
    g.argv = [*wrap, *g.argv]
    try:
        yield g.start()
        left = g.stop()
        assert not left and not sg.mounts_below(g.dir), left
    finally:
        g.remove()


def python(g, sandbox, code, **fields):
    """Runs Python inside; what it prints."""
    done = g.exec(sandbox, "python3", args=["-c", code], **fields)
    assert done["exit_code"] == 0, done
    return done["stdout"].strip()


def put(g, sandbox, path, text):
    answer = g.request("POST", f"/api/v1/sandboxes/{sandbox}/files", {"path": path, "content": text})
    assert answer.status == 200, answer.body



# A session keyring with a secret key in it, then the program named by the arguments.
WITH_KEY = """
import ctypes, os, sys
call = ctypes.CDLL(None, use_errno=True).syscall
add, _, keyctl = %r
if call(keyctl, 1, None) < 0 or call(add, b"user", b"host-key", %r, %d, ctypes.c_int(-3)) < 0:
    os._exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""

# Whatever it can read of the keys of its session keyring.
READ_KEYS = """
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
add, request, keyctl = %r
found = (ctypes.c_int * 64)()
ring = call(keyctl, 11, ctypes.c_int(-3), found, ctypes.sizeof(found))
for key in found:
    text = ctypes.create_string_buffer(200)
    if key and call(keyctl, 11, ctypes.c_int(key), text, 200) > 0:
        print("read", text.value.decode())
print("ring", ring, call(add, b"user", b"x", b"y", 1, ctypes.c_int(-3)), call(request, b"user", b"host-key", None, 0))
"""


def test_b1_the_hosts_keys_are_out_of_reach():
    if not KEY_CALLS:
        raise sg.Skip("the numbers of the key calls are not known here")
    wrap = [sys.executable, "-c", WITH_KEY % (KEY_CALLS, SECRET.encode(), len(SECRET))]
    outside = subprocess.run([*wrap, sys.executable, "-c", READ_KEYS % (KEY_CALLS,)], capture_output=True, text=True)
    if outside.returncode == 77:
        raise sg.Skip("this kernel or container has no keyrings")
    # The very same code does read the key where the gateway was started.
    assert f"read {SECRET}" in outside.stdout, outside
    with started(wrap) as g:
        s = g.spawn()
        assert python(g, s, READ_KEYS % (KEY_CALLS,)) == "ring -1 -1 -1"
        assert g.exec(s, "cat /proc/keys /proc/key-users")["stdout"] == ""
        g.request("DELETE", f"/api/v1/sandboxes/{s}")


def test_b1_no_socket_but_those_of_its_own_network():
    code = """
import errno, socket
for family in range(64):
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind).close()
            print(family)
            break
        except OSError as e:
            if e.errno not in (errno.EAFNOSUPPORT, errno.EPERM, errno.ESOCKTNOSUPPORT, errno.EPROTONOSUPPORT):
                print(family, e)
for pair in (1,):
    a, b = socket.socketpair(pair)
    a.send(b"x")
    print("pair", b.recv(1).decode())
"""
    with started() as g:
        s = g.spawn()
        got = python(g, s, code).split("\n")
        # Unix, IPv4, IPv6 and netlink are bound to the network namespace, which is empty; AF_VSOCK (40) is not.
        assert set(got) <= {"1", "2", "10", "16", "pair x"} and {"1", "2", "pair x"} <= set(got), got
        calls = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
memory = ctypes.create_string_buffer(240)
print([(libc.syscall(n, 4, memory, 0, 0, 0, 0), ctypes.get_errno()) for n in {IO_URING}])
"""
        # io_uring makes sockets too; "not implemented" is what programs fall back on.
        assert python(g, s, calls) == str([(-1, 38)] * 3)
        # And what makes ordinary use of the kernel still works.
        done = g.exec(s, "node -e 'require(\"fs\").promises.readFile(\"/etc/hostname\").catch(e=>console.log(e.code))' 2>&1 || true")
        assert done["stdout"].strip() == "ENOENT" or "not found" in done["stdout"], done
        g.request("DELETE", f"/api/v1/sandboxes/{s}")


# Processes that left every group, ignore all signals, spin, stop and trace each other, and hold the init back.
HOSTILE = f"""
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
libc.sched_setscheduler(1, 5, ctypes.byref(ctypes.c_int(0)))
try:
    os.setpriority(os.PRIO_PROCESS, 1, 19)
    os.sched_setaffinity(1, {{0}})
except OSError:
    pass
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
for i in range(12):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        if i % 3 == 0:
            stopped = os.fork()
            if stopped == 0:
                while True:
                    pass
            libc.ptrace(16, stopped, 0, 0)
            os.kill(stopped, signal.SIGSTOP)
        while True:
            pass
os._exit(0)
"""


def hostile(g):
    s = g.spawn()
    put(g, s, "/workspace/h.py", HOSTILE)
    g.exec(s, f"python3 /workspace/h.py {MARK} >/dev/null 2>&1")
    sg.wait_until(lambda: len(marked()) >= 16, "they spin")
    return s


def marked():
    return [p for p, (_, state, line) in sg.processes().items() if MARK in line and state not in "ZX"]


def test_b6_no_hostile_process_outlives_destroy():
    with started() as g:
        s = hostile(g)
        other = g.spawn()
        assert g.exec(other, "echo unharmed")["stdout"] == "unharmed\n"
        assert g.request("DELETE", f"/api/v1/sandboxes/{s}").status == 200
        assert marked() == []
        assert g.exec(other, "echo unharmed")["stdout"] == "unharmed\n"


def test_b6_no_hostile_process_outlives_the_server():
    with started() as g:
        hostile(g)
        os.kill(g.local_server(), 9)
        sg.wait_until(lambda: marked() == [], "they are gone", 2)
        sg.wait_until(lambda: g.request("GET", "/api/v1/health").status == 200, "another server answers", 30)


def test_b6_a_stop_soon_after_the_servers_death_leaves_nothing():
    # The next server, which would clear up after the dead one, has not been started yet.
    with started() as g:
        s = g.spawn()
        put(g, s, "/workspace/f", "x")
        os.kill(g.local_server(), 9)
        sg.wait_until(lambda: "ended by signal 9" in g.log(), "the gateway notices", 5)


def test_b4_a_hog_of_processes_and_descriptors_harms_itself_only():
    # Without limits yet: that it ends with its sandbox, and that nobody else notices.
    code = """
import ctypes, os, signal, socket
for _ in range(300):
    if os.fork() == 0:
        os.setsid()
        ends = []
        try:
            while len(ends) < 100:
                ends += socket.socketpair()
        except OSError:
            pass
        signal.pause()
class Limit(ctypes.Structure):
    _fields_ = [("soft", ctypes.c_ulong), ("hard", ctypes.c_ulong)]
libc = ctypes.CDLL(None)
print([libc.prlimit(1, which, ctypes.byref(Limit(n, n)), None) for which, n in ((7, 4), (1, 0), (6, 0))])
"""
    with started() as g:
        s, other = g.spawn(), g.spawn()
        done = g.exec(s, "python3", args=["-c", code, MARK])
        assert done["stdout"] == "[0, 0, 0]\n", done
        assert len(marked()) >= 300, len(marked())
        for method, target, body in (("POST", "exec", {"command": "true"}), ("GET", "files?path=/etc/hosts", None),
                                     ("POST", "files", {"path": "/tmp/x", "content": "x" * 9999}), ("GET", "logs", None)):
            began = time.monotonic()
            answer = g.request(method, f"/api/v1/sandboxes/{s}/{target}", body)
            assert answer.status in (200, 404, 500) and time.monotonic() - began < 10, (target, answer.status)
        assert g.exec(other, "echo unharmed")["stdout"] == "unharmed\n"
        assert g.request("DELETE", f"/api/v1/sandboxes/{s}").status == 200
        assert marked() == []


def test_awkward_trees_do_not_stay_and_do_not_stall():
    code = """
import os
os.chdir("/workspace")
for i in range(3000):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
os.chmod(".", 0)
os.chdir("/tmp")
for name in (b"\\xff\\xfe", b"a\\nb", b"-rf", b"...", b"\\x01" * 200, b"*"):
    open(name, "w").close()
os.mkfifo("fifo")
os.symlink("loop", "loop")
for i in range(5000):
    open("f%d" % i, "w").close()
"""
    with started() as g:
        s, other = g.spawn(), g.spawn()
        python(g, s, code)
        listed = g.request("GET", f"/api/v1/sandboxes/{s}/files/list?path=/tmp")
        assert listed.status == 200 and len(json.loads(listed.body)) == 5008, listed.body[:200]
        for path in ("/tmp/fifo", "/tmp/loop"):
            assert g.request("GET", f"/api/v1/sandboxes/{s}/files?path={path}").status == 500, path
        assert g.request("GET", f"/api/v1/sandboxes/{s}/files/glob?pattern=/workspace/**/x").status == 200
        assert g.request("DELETE", f"/api/v1/sandboxes/{s}").status == 200
        assert g.exec(other, "echo unharmed")["stdout"] == "unharmed\n"
        names = [n for _, folders, _ in os.walk(g.state) for n in folders]
        assert s not in names, names


def test_a_pattern_of_many_stars_is_no_work_for_minutes():
    code = """
import os
for a in range(20):
    for b in range(20):
        os.makedirs("/workspace/%d/%d/x/y" % (a, b))
"""
    with started() as g:
        s = g.spawn()
        python(g, s, code)
        one = g.request("GET", f"/api/v1/sandboxes/{s}/files/glob?pattern=/workspace/**/y")
        began = time.monotonic()
        many = g.request("GET", f"/api/v1/sandboxes/{s}/files/glob?pattern=/workspace/" + "**/" * 30 + "y")
        assert many.status == 200 and many.body == one.body and len(many.json) == 400, many.body[:200]
        assert time.monotonic() - began < 10


if __name__ == "__main__":
    sg.need_user_namespaces()
    sys.exit(sg.main(dict(globals())))
