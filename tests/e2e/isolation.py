# SPDX-License-Identifier: Apache-2.0
"""What code in a sandbox can see and reach, tried from inside through the gateway; and that nothing outlives a destroy."""
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

G = None  # the gateway, one for all tests
MARK = "sgmark" + secrets.token_hex(8)


class Sandbox:
    def __init__(self, **fields):
        self.fields = fields

    def __enter__(self):
        self.id = G.spawn(**self.fields)
        return self.id

    def __exit__(self, *_):
        assert G.request("DELETE", f"/api/v1/sandboxes/{self.id}").status == 200


def out(sandbox, command):
    return G.exec(sandbox, command)["stdout"]


def python(sandbox, code):
    """Runs Python inside; what it prints."""
    done = G.exec(sandbox, "python3", args=["-c", code])
    assert done["exit_code"] == 0, done
    return done["stdout"].strip()


def host_processes(word):
    return [pid for pid, (_, state, line) in sg.processes().items() if word in line and state not in "ZX"]


def test_no_host_process_is_visible():
    host = subprocess.Popen(["sleep", "600"])
    try:
        with Sandbox() as s:
            seen = out(s, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            assert "stacygate-local" not in seen and "stacygated" not in seen and "sleep" not in seen, seen
            pids = out(s, "ls /proc | grep -c '^[0-9]'")
            # The init, the shell, ls and grep: far fewer than any host has.
            assert int(pids) <= 6, pids
            assert G.exec(s, f"kill -0 {host.pid}")["exit_code"] != 0
    finally:
        host.kill()
        host.wait()


def test_no_host_file_is_visible():
    planted = []
    try:
        for folder in {os.path.expanduser("~"), "/tmp", "/var/tmp", G.dir, G.state, G.runtime, os.getcwd()}:
            try:
                fd, path = tempfile.mkstemp(prefix=MARK, dir=folder)
                os.close(fd)
                os.chmod(path, 0o644)
                planted.append(path)
            except OSError:
                continue
        assert len(planted) >= 4, planted
        with Sandbox() as s:
            found = out(s, f"find / -name '{MARK}*' -not -path '/proc/*' 2>/dev/null")
            assert found == "", found
            for path in planted:
                assert G.exec(s, "cat", args=[path])["exit_code"] != 0, path
                answer = G.request("GET", f"/api/v1/sandboxes/{s}/files?path={path}")
                assert answer.status == 500, (path, answer.status)
    finally:
        for path in planted:
            os.unlink(path)


def test_no_home_directory_and_no_secret_of_the_host():
    with Sandbox() as s:
        assert out(s, "ls -A /home 2>/dev/null | grep -vx sandbox") == ""
        host_root = {n for n in os.listdir("/root")} if os.access("/root", os.R_OK) else set()
        inside = set(out(s, "ls -A /root 2>/dev/null").split())
        assert not (inside & host_root - {".cache"}), inside
        for path in ("/etc/shadow", "/etc/ssh", "/var/lib", "/var/log", "/run", "/srv", "/opt", "/mnt", "/boot"):
            assert out(s, f"ls -A {path} 2>/dev/null") == "", path
        users = out(s, "cut -d: -f1 /etc/passwd").split()
        assert len(users) <= 4, users
        assert out(s, "hostname").strip() != socket.gethostname() or socket.gethostname() == "sandbox"


def test_the_gateways_environment_does_not_leak():
    with Sandbox() as s:
        names = out(s, "env")
        assert "SEKRET" not in names and "RUNTIME_DIRECTORY" not in names and "STACYGATE" not in names, names


def test_sandboxes_do_not_see_each_other():
    with Sandbox() as a, Sandbox() as b:
        out(a, f"echo {MARK} >/workspace/{MARK}; echo {MARK} >/tmp/{MARK}; echo {MARK} >/dev/shm/{MARK}")
        background(a, MARK + "a")
        assert out(b, f"find / -name '{MARK}*' -not -path '/proc/*' 2>/dev/null") == ""
        assert MARK in out(a, "cat /proc/[0-9]*/cmdline")
        assert MARK not in out(b, "cat /proc/[0-9]*/cmdline")
        assert out(a, f"cat /workspace/{MARK}").strip() == MARK
        assert len(set(out(x, "readlink /proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts")
                       for x in (a, b))) == 2
        for x in (a, b):
            for name in ("user", "pid", "mnt", "net", "ipc", "uts"):
                assert out(x, f"readlink /proc/self/ns/{name}").strip() != os.readlink(f"/proc/self/ns/{name}"), name


def test_no_network():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + MARK)
    abstract.listen()
    with listener, abstract, Sandbox() as s:
        port = listener.getsockname()[1]
        devices = [line.split(":")[0].strip() for line in out(s, "cat /proc/net/dev").splitlines()[2:]]
        assert devices in ([], ["lo"]), devices
        reach = """
import socket
def reach(family, address):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(3)
    try:
        s.connect(address)
        return "reached"
    except OSError as e:
        return "no"
"""
        tries = [f"(socket.AF_INET, ('127.0.0.1', {port}))", f"(socket.AF_UNIX, '\\0{MARK}')", f"(socket.AF_UNIX, {G.socket!r})"]
        for each in tries:
            code = reach + f"print(reach{each})"
            # The same code does get there from outside.
            host = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            assert host.stdout.strip() == "reached", each
            assert python(s, code) == "no", each
        assert python(s, reach + "print(reach(socket.AF_INET, ('192.0.2.1', 80)))") == "no"


def test_no_capability_and_no_way_to_one():
    with Sandbox() as s:
        caps = dict(line.split(":\t") for line in out(s, "grep ^Cap /proc/self/status").splitlines())
        assert all(int(v, 16) == 0 for v in caps.values()), caps
        assert out(s, "grep NoNewPrivs /proc/self/status").split()[1] == "1"
        for command in ("unshare -Ur true", "unshare -r id", "mount -t tmpfs none /tmp", "chroot / true", "mknod /tmp/d c 1 1"):
            assert G.exec(s, command)["exit_code"] != 0, command


def test_the_system_is_read_only():
    with Sandbox() as s:
        for path in ("/x", "/usr/x", "/etc/x", "/dev/x", "/usr/bin/sh"):
            assert G.exec(s, f"echo x >{path}")["exit_code"] != 0, path
        for path in ("/tmp/x", "/app/x", "/workspace/x", "$HOME/x", "/dev/shm/x"):
            assert G.exec(s, f"echo x >{path} && rm {path}")["exit_code"] == 0, path


def test_b1_the_kernel_knows_no_sandbox_as_root():
    with Sandbox() as s:
        out(s, f"sh -c 'while :; do sleep 600; done' {MARK}b1 >/dev/null 2>&1 &")
        # The shell, and for a moment each child that it forks for a sleep.
        pid = min(sg.wait_until(lambda: [p for p, (_, state, line) in sg.processes().items() if MARK + "b1" in line and "sh -c while" in line and state not in "ZX"], "it runs"))
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        uids = fields["Uid"].split()
        if os.getuid() == 0:
            assert "0" not in uids and fields["Gid"].split().count("0") == 0 and not fields["Groups"].strip(), fields
        else:
            assert uids == [str(os.getuid())] * 4, fields
        secret = tempfile.NamedTemporaryFile(prefix=MARK, dir="/usr/local/share") if os.access("/usr/local/share", os.W_OK) else None
        if secret:
            # Readable for root only, in a place that is bound into the sandbox.
            with secret:
                secret.write(b"SEKRET")
                secret.flush()
                assert G.exec(s, "cat", args=[secret.name])["exit_code"] != 0


def test_b3_the_init_cannot_be_touched():
    with Sandbox() as s:
        G.exec(s, "kill -9 1; kill -STOP 1; kill -TERM 1")
        assert out(s, "echo alive") == "alive\n"
        for path in ("mem", "environ", "maps", "root", "cwd", "fd/0"):
            assert G.exec(s, f"head -c 1 /proc/1/{path} || ls /proc/1/{path}/")["exit_code"] != 0, path
        traced = python(s, """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, 1, 0, 0), ctypes.get_errno() in (1, 3))
""")
        assert traced == "-1 True", traced


def background(sandbox, mark):
    """One ordinary and one that left its process group and session; each waits for ever."""
    out(sandbox, f"sh -c 'while :; do sleep 600; done' {mark} >/dev/null 2>&1 &\n"
                 f"setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 600; done' {mark} >/dev/null 2>&1 &")
    sg.wait_until(lambda: len(host_processes(mark)) >= 2, "the background processes run")


def test_nothing_outlives_destroy():
    s = G.spawn()
    background(s, MARK + "destroy")
    out(s, "mkdir -p /workspace/d && chmod 0 /workspace/d && echo x >/workspace/f && chmod 0 /workspace/f")
    assert G.request("DELETE", f"/api/v1/sandboxes/{s}").status == 200
    # When the answer is there they are gone, not soon after.
    assert host_processes(MARK + "destroy") == []
    assert sg.mounts_below(s) == []
    names = [n for _, folders, files in os.walk(G.state) for n in folders + files]
    assert not any(s in n for n in names), names


def test_nothing_outlives_destroy_during_an_exec():
    s = G.spawn()
    answers = []
    body = {"command": f"sh -c 'while :; do sleep 600; done' {MARK}exec"}
    t = threading.Thread(target=lambda: answers.append(G.request("POST", f"/api/v1/sandboxes/{s}/exec", body)))
    t.start()
    sg.wait_until(lambda: host_processes(MARK + "exec"), "the command runs")
    assert G.request("DELETE", f"/api/v1/sandboxes/{s}").status == 200
    assert host_processes(MARK + "exec") == []
    t.join(30)
    assert answers and answers[0].status >= 400 or answers[0].json["exit_code"] != 0, answers


def test_nothing_outlives_its_ttl():
    s = G.spawn(ttl="1s")
    background(s, MARK + "ttl")
    sg.wait_until(lambda: G.request("GET", f"/api/v1/sandboxes/{s}").status == 404, "it ends by itself", 10)
    sg.wait_until(lambda: host_processes(MARK + "ttl") == [], "its processes end", 2)


def test_a_timeout_kills_the_group_and_spares_what_left_it():
    with Sandbox() as s:
        out(s, f"setsid sh -c 'while :; do sleep 600; done' {MARK}left >/dev/null 2>&1 &")
        answer = G.request("POST", f"/api/v1/sandboxes/{s}/exec",
                           {"command": f"sh -c 'while :; do sleep 600; done' {MARK}group & wait", "timeout": "300ms"})
        assert answer.status == 408, answer.body
        sg.wait_until(lambda: host_processes(MARK + "group") == [], "the group ends", 2)
        assert host_processes(MARK + "left")


def test_a_client_that_leaves_takes_its_command_along():
    with Sandbox() as s:
        c = sg.UnixConnection(G.socket)
        c.request("POST", f"/api/v1/sandboxes/{s}/exec",
                  body='{"command": "sh -c \'while :; do sleep 600; done\' ' + MARK + 'gone & wait", "stream": true}')
        sg.wait_until(lambda: host_processes(MARK + "gone"), "the command runs")
        c.sock.close()
        c.close()
        sg.wait_until(lambda: host_processes(MARK + "gone") == [], "the command ends", 3)
        assert out(s, "echo alive") == "alive\n"


def test_b5_links_do_not_lead_out():
    with Sandbox() as s:
        out(s, "cd /workspace && ln -s / root && ln -s /etc/shadow shadow && ln -s /proc/1/root p && ln -s ../../../../../../.. up")
        for path in ("/workspace/shadow", "/workspace/p/etc/hostname", f"/workspace/root{G.log_path}", f"/workspace/up{G.log_path}",
                     f"/../../../..{G.log_path}", "/proc/1/environ", "/proc/1/root/etc/shadow"):
            answer = G.request("GET", f"/api/v1/sandboxes/{s}/files?path={path}")
            assert answer.status == 500, (path, answer.status, answer.body[:200])
        for path in ("/workspace/root/usr/x", f"/workspace/up{G.dir}/x", "/workspace/p/tmp/x"):
            answer = G.request("POST", f"/api/v1/sandboxes/{s}/files", {"path": path, "content": "x"})
            assert not os.path.exists(f"{G.dir}/x"), path
            assert not os.path.exists("/usr/x"), path


def set_gateway(gateway):
    global G
    G = gateway


if __name__ == "__main__":
    os.environ["SG_CANARY"] = "SEKRET"
    sys.exit(sg.main_with_gateway(dict(globals()), set_gateway))
