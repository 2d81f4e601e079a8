# SPDX-License-Identifier: Apache-2.0
"""The client `stacygate` through a real gateway into real sandboxes."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

G = None  # the gateway, one for all tests


def ok(*words, **options):
    done = G.cli(*words, **options)
    assert done.returncode == 0 and done.stderr in ("", b""), (words, done.returncode, done.stdout[-500:], done.stderr)
    return done.stdout


class Sandbox:
    def __enter__(self):
        self.id = ok("spawn", "--ttl", "5m").strip()
        assert re.fullmatch(r"sb-[0-9a-f]{8}", self.id), self.id
        return self.id

    def __exit__(self, *_):
        assert ok("kill", self.id) == self.id + "\n"


def local(name, data, mode=0o644):
    path = os.path.join(G.dir, name)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    return path


def content(path):
    with open(path, "rb") as f:
        return f.read()


def test_run_shows_output_and_ends_with_the_commands_code():
    done = G.cli("run", "--image", "alpine", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n"), done
    assert G.sandboxes() == []


def test_run_exit_codes():
    cases = {("true",): 0, ("false",): 1, ("sh", "-c", "exit 255"): 255, ("sh", "-c", "kill -9 $$"): 137, ("sh", "-c", "kill -15 $$"): 143,
             ("/no/such/program",): 127, ("/etc/passwd",): 126, ("sh", "-c", "exec sh -c 'exit 9'"): 9}
    for words, code in cases.items():
        done = G.cli("run", "--", *words)
        assert done.returncode == code, (words, done)


def test_a_command_that_kills_the_shell_around_it():
    done = G.cli("run", "--", "sh", "-c", "kill -9 $PPID; exit 3")
    assert done.returncode == 255 and "no exit status" in done.stderr, done
    assert G.sandboxes() == []


def test_words_arrive_as_they_were_typed():
    words = ["a b", "", "it's", '"$HOME"', "`id`", "$(id)", "*", "\\n", "two\nlines\n", "h\u00e9", "-n", "--", "~"]
    out = ok("run", "--", "python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *words)
    assert json.loads(out) == words, out
    raw = b"\xff\xfe\x80."
    out = ok("run", "--", "python3", "-c", "import sys, os; print(os.fsencode(sys.argv[1]).hex())", raw)
    assert out == raw.hex() + "\n", out


def test_run_options():
    out = ok("run", "--env", "A=x y", "--env", "B=", "--workdir", "/tmp", "--", "sh", "-c", 'echo "$A|$B|$(pwd)"')
    assert out == "x y||/tmp\n", out
    done = G.cli("run", "--timeout", "300ms", "--", "sh", "-c", "echo begun; sleep 60")
    assert done.returncode == 124 and done.stdout == "begun\n" and "TIMEOUT" in done.stderr, done


def test_run_with_files():
    script = local("hello.sh", b"#!/bin/sh\ncat /app/data.bin\n", 0o755)
    data = local("data.bin", bytes(range(256)))
    done = G.cli("run", "--file", f"{script}:/app/hello.sh", "--file", f"{data}:/app/data.bin", "--", "sh", "-c",
                 "test -x /app/hello.sh && /app/hello.sh | cksum")
    expected = subprocess.run(["cksum", "-"], input=bytes(range(256)), capture_output=True, check=True).stdout.decode()
    assert done.stdout.split()[:2] == expected.split()[:2], (done, expected)


def test_run_json():
    out = ok("run", "--json", "--", "echo", "hi").splitlines()
    assert json.loads(out[0]) == {"stream": "stdout", "data": "hi\n"} and json.loads(out[-1])["exit_code"] == 0, out


def test_much_output_arrives_whole():
    out = ok("run", "--", "sh", "-c", "seq 1 200000", timeout=240)
    assert out == "".join(f"{i}\n" for i in range(1, 200001))


def interrupted(sig, first_line, *words):
    p = subprocess.Popen([sg.program("stacygate"), *words], env=G.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stdout.readline() == first_line
    p.send_signal(sig)
    _, err = p.communicate(timeout=60)
    sg.check_clean(err.decode(), "stacygate")
    assert p.returncode == -sig, (p.returncode, err)


def test_ctrl_c_leaves_no_sandbox():
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        interrupted(sig, b"on\n", "run", "--", "sh", "-c", "echo on; sleep 600")
        assert G.sandboxes() == []


def test_ctrl_c_at_once_leaves_no_sandbox():
    for _ in range(10):
        p = subprocess.Popen([sg.program("stacygate"), "run", "--", "sleep", "600"], env=G.env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        # As soon as it has caught signals, wherever it is then.
        sg.wait_until(lambda: catches(p.pid, signal.SIGINT) or p.poll() is not None, "the client catches SIGINT")
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=90)
        assert p.returncode == -signal.SIGINT
        assert G.sandboxes() == []


def catches(pid, sig):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            caught = next(line for line in f if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught.split()[1], 16) >> (sig - 1) & 1)


def test_a_closed_pipe_leaves_no_sandbox():
    out = subprocess.run(f"{sg.program('stacygate')} run -- yes | head -n 1", shell=True, env=G.env, capture_output=True, timeout=60,
                         check=True)
    assert out.stdout == b"y\n", out
    sg.wait_until(lambda: G.sandboxes() == [], "the sandbox goes")


def test_exec():
    with Sandbox() as s:
        assert ok("exec", s, "--", "sh", "-c", "echo kept >/workspace/f") == ""
        assert ok("exec", "--workdir", "/workspace", s, "cat", "f") == "kept\n"
        assert G.cli("exec", s, "--", "sh", "-c", "exit 6").returncode == 6
        assert ok("exec", s, "--", "sh", "-c", "ls -A /tmp") == "", "a status file is left"
        interrupted(signal.SIGINT, b"on\n", "exec", s, "--", "sh", "-c", "echo on; echo $$ >/tmp/pid; exec sleep 600")
        sg.wait_until(lambda: G.exec(s, "kill -0 $(cat /tmp/pid) 2>/dev/null")["exit_code"] != 0, "the command ends", 10)
        assert G.sandboxes() == [s]


def test_errors():
    for words in (("exec", "sb-00000000", "--", "true"), ("cp", "sb-00000000:/x", "-"), ("cp", "/etc/hostname", "sb-00000000:/x")):
        done = G.cli(*words)
        assert done.returncode == 1 and "NOT_FOUND" in done.stderr and done.stdout == "", done
    done = G.cli("run", "--provider", "nope", "--", "true")
    assert done.returncode == 1 and "NOT_FOUND" in done.stderr, done
    done = G.cli("nonsense")
    assert done.returncode == 2 and "unknown command" in done.stderr, done
    done = G.cli("ls", env={"STACYGATE_SOCKET": G.socket + ".none"})
    assert done.returncode == 1 and "CONNECTION_ERROR" in done.stderr, done


def test_cp_carries_five_mebibytes_both_ways():
    data = os.urandom((5 << 20) + 7)
    up, down = local("up.bin", data, 0o640), os.path.join(G.dir, "down.bin")
    with Sandbox() as s:
        ok("cp", up, f"{s}:/workspace/copy.bin", timeout=240)
        stat = G.exec(s, "cksum </workspace/copy.bin; stat -c %a /workspace/copy.bin; ls -A /workspace")["stdout"].split()
        expected = subprocess.run(["cksum"], input=data, capture_output=True, check=True).stdout.decode().split()
        assert stat == [*expected, "640", "copy.bin"], (stat, expected)
        ok("cp", f"{s}:/workspace/copy.bin", down, timeout=240)
        assert content(down) == data and os.stat(down).st_mode & 0o777 == 0o640


def test_cp_of_all_kinds():
    kinds = {"empty": b"", "text": "h\u00e9llo\r\n".encode(), "nul": b"\0", "crlf": b"\r\n\r\n", "bom": b"\xef\xbb\xbfx", "latin1": b"\xe9t\xe9",
             "controls": bytes(range(1, 128)), "separators": "\u0085\u2028\u2029".encode(), "no newline": b"x", "large text": b"line\n" * 300000}
    with Sandbox() as s:
        for name, data in kinds.items():
            ok("cp", local("it's " + name, data), f"{s}:/workspace/d/", timeout=240)
            out = ok("cp", f"{s}:/workspace/d/it's {name}", "-", text=False, timeout=240)
            assert out == data, (name, len(out), len(data))
        assert sorted(ok("exec", s, "--", "ls", "-A", "/workspace/d").splitlines()) == sorted("it's " + k for k in kinds)


def test_cp_replaces_and_keeps_on_failure():
    with Sandbox() as s:
        ok("cp", local("one", b"one"), f"{s}:/workspace/t")
        ok("cp", local("two", b"\0two", 0o755), f"{s}:/workspace/t")
        assert ok("exec", s, "--", "stat", "-c", "%a %s", "/workspace/t") == "755 4\n"
        for target in ("/usr/t", "/proc/t"):
            done = G.cli("cp", local("one", b"one"), f"{s}:{target}")
            assert done.returncode == 1 and done.stderr, done
        assert G.cli("cp", f"{s}:/workspace/none", os.path.join(G.dir, "none")).returncode == 1
        assert not os.path.exists(os.path.join(G.dir, "none"))
        assert G.cli("cp", f"{s}:/workspace", os.path.join(G.dir, "none")).returncode == 1
        assert [n for n in os.listdir(G.dir) if "stacygate-" in n] == []


def test_ls_and_json():
    with Sandbox() as s:
        table = ok("ls").splitlines()
        assert table[0].split()[:3] == ["ID", "STATE", "IMAGE"] and table[1].split()[:2] == [s, "running"], table
        assert [x["id"] for x in json.loads(ok("ls", "--json"))] == [s]
        assert json.loads(ok("spawn", "--json", "--image", "i", "--metadata", "a=b"))["image"] == "i"
        both = G.sandboxes()
        assert len(both) == 2
        other = next(x for x in both if x != s)
        assert json.loads(ok("kill", "--json", other)) == [{"id": other, "status": "destroyed"}]


def test_a_hostile_image_name_does_not_reach_the_terminal():
    s = G.spawn(image="\x1b]0;pwned\x07\u009b31m")
    out = ok("ls")
    assert "\x1b" not in out and "\u009b" not in out and "\\x1b]0;pwned\\x07" in out, out
    ok("kill", s)


def test_whoami_and_health():
    me = dict(line.split(": ", 1) for line in ok("whoami").splitlines() if ": " in line)
    assert me["uid"] == str(os.getuid()), me
    assert json.loads(ok("whoami", "--json"))["uid"] == os.getuid()
    health = ok("health").splitlines()
    assert "status: ok" in health, health
    assert json.loads(ok("health", "--json"))["status"] == "ok"


def test_get_logs_extend_and_prune():
    with Sandbox() as s:
        shown = dict(line.split(": ", 1) for line in ok("get", s).splitlines())
        assert (shown["id"], shown["state"]) == (s, "running"), shown
        before = json.loads(ok("get", "--json", s))
        assert re.fullmatch(rf"{s} expires in (60m|59m|1h)\n", ok("extend", s, "1h"))
        assert json.loads(ok("get", "--json", s))["expires_at"] != before["expires_at"]
        assert re.fullmatch(rf"{s} expires in (30|29)m\n", ok("extend", s))
        assert json.loads(ok("logs", "--json", s)) == ok("logs", s).splitlines()
        assert len(ok("logs", "--lines", "1", s).splitlines()) == 1
        gone = json.loads(ok("spawn", "--json", "--ttl", "1ms"))["id"]
        assert re.fullmatch(r"pruned: \d+\n", ok("prune"))
        assert G.cli("get", gone).returncode == 1
        assert G.sandboxes() == [s]


def test_templates():
    assert ok("template", "save", "it's t:1", "--image", "i2", "--memory", "96", "--ttl", "2h") == "it's t:1\n"
    record = json.loads(ok("template", "get", "--json", "it's t:1"))
    assert (record["image"], record["memory_mb"], record["ttl_seconds"]) == ("i2", 96, 7200), record
    row = next(line for line in ok("template", "ls").splitlines() if line.startswith("it's t:1"))
    assert "i2" in row and "96 MB" in row and "2h" in row, row
    box = json.loads(ok("template", "spawn", "--json", "it's t:1", "--ttl", "5m"))
    assert box["image"] == "i2" and box["memory_mb"] == 96, box
    plain = ok("template", "spawn", "it's t:1").strip()
    assert sorted(G.sandboxes()) == sorted([box["id"], plain])
    ok("kill", box["id"], plain)
    assert ok("template", "rm", "it's t:1") == "it's t:1\n"
    done = G.cli("template", "get", "it's t:1")
    assert done.returncode == 1 and "NOT_FOUND" in done.stderr, done


def test_status():
    assert "own.connections: 1" in ok("status").splitlines()
    assert json.loads(ok("status", "--json"))["own"]["connections"] >= 1


def test_another_user_is_kept_out():
    if os.getuid() != 0:
        raise sg.Skip("only root can become another user")
    folders = [G.dir, G.runtime]
    copy = os.path.join(G.dir, "stacygate")
    shutil.copy2(sg.program("stacygate"), copy)
    try:
        for folder in folders:
            os.chmod(folder, 0o711)
        # The way there is open now; the socket's own mode is what stands in it.
        done = subprocess.run(["setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups", "sh", "-c", '"$0" ls', copy],
                              env=G.env, capture_output=True, text=True, timeout=60, check=False)
    finally:
        for folder in folders:
            os.chmod(folder, 0o700)
    assert done.returncode == 1 and "Permission denied: with mode 0600 only user root may use it" in done.stderr and done.stdout == "", done


def test_eight_at_once():
    runs = [subprocess.Popen([sg.program("stacygate"), "run", "--", "sh", "-c", f"echo {i}; exit {i}"], env=G.env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE) for i in range(8)]
    for i, p in enumerate(runs):
        out, err = p.communicate(timeout=120)
        sg.check_clean(err.decode(), "stacygate")
        assert (p.returncode, out, err) == (i, b"%d\n" % i, b""), (i, p.returncode, out, err)
    assert G.sandboxes() == []


def set_gateway(gateway):
    global G
    G = gateway


def test_only_these_tests_own_files_are_left():
    for name in os.listdir(G.dir):
        path = os.path.join(G.dir, name)
        if os.path.isfile(path) and name != "log":
            os.unlink(path)
    assert sorted(os.listdir(G.dir)) == ["home", "log", "run", "state"]


if __name__ == "__main__":
    sys.exit(sg.main_with_gateway(dict(globals()), set_gateway))
