# SPDX-License-Identifier: Apache-2.0
"""stacygate init: what it writes is good to the daemon, from options and from answers alike, and nothing that exists is touched unasked."""
import json
import os
import pty
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

ME = pwd.getpwuid(os.geteuid()).pw_name


class Scene:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="sg-init.", dir="/tmp")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "STACYGATE_", "CREDENTIALS_"))}
        self.env.update(RUNTIME_DIRECTORY=self.dir + "/run", STATE_DIRECTORY=self.dir + "/state", HOME=self.dir, XDG_CONFIG_HOME=self.dir + "/config")
        self.output = self.dir + "/out.yaml"
        self.key = self.dir + "/key"
        with open(os.open(self.key, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
            f.write("a-key\n")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def init(self, *words, output=True):
        words = [*words, "--output", self.output] if output else words
        done = subprocess.run([sg.program("stacygate"), "init", *words], capture_output=True, text=True, env=self.env, timeout=60, check=False,
                              stdin=subprocess.DEVNULL)
        sg.check_clean(done.stderr, "stacygate")
        return done

    def shown(self, file=None):
        """What the daemon makes of it: it is good, without a warning."""
        checked = subprocess.run([sg.program("stacygated"), "-t", "-T", "-c", file or self.output], capture_output=True, text=True, env=self.env,
                                 timeout=60, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), checked
        return checked.stdout

    def written(self):
        with open(self.output, encoding="utf-8") as f:
            return f.read()

    def files(self):
        return sorted(os.listdir(self.dir))

    def ask(self, *answers, words=()):
        """Runs it on a terminal and answers; its exit status and what the terminal shows."""
        pid, side = pty.fork()
        if pid == 0:
            try:
                os.execve(sg.program("stacygate"), ["stacygate", "init", *words, "--output", self.output], self.env)
            finally:
                os._exit(99)
        for answer in answers:
            os.write(side, answer)
        seen = b""
        while True:
            try:
                piece = os.read(side, 4096)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        status = os.waitpid(pid, 0)[1]
        os.close(side)
        return status, seen.decode()


def test_each_kind_of_server_gives_a_good_configuration():
    with Scene() as s:
        for url, extra in (("local", ()), ("unix:///run/stacyvm/s.sock", ("--key-file", s.key)), ("http://127.0.0.1:7423", ("--key-file", s.key)),
                           ("https://stacyvm.example.com", ("--key-file=" + s.key, "--user", ME))):
            done = s.init("--upstream", url, *extra, "--force")
            assert (done.returncode, done.stdout, done.stderr) == (0, s.output + "\n", ""), done
            shown = s.shown()
            assert f'url: "{url}"' in shown and f"uid: [{os.geteuid()}]" in shown, shown
            assert ("admin: true" in shown) == (url == "local" or ME == "root") and (s.key in shown) == (url != "local"), shown
            # Who sees everything is not told that he sees his own.
            assert ("each user sees his own" in s.written()) == ("isolation: owner" in shown) != ("isolation: none" in shown), shown
            assert stat.S_IMODE(os.stat(s.output).st_mode) == 0o644
        assert s.files() == ["key", "out.yaml"], s.files()


def test_other_users_can_connect():
    with Scene() as s:
        assert s.init("--upstream", "local", "--user", "daemon", "--user", ME).returncode == 0
        shown = s.shown()
        assert "/run/stacygate/stacygate.sock" in shown and "0666" in shown, shown
        # root is who looks after it; nobody else does.
        rules = shown.split("\n  - name: ")[-2:]
        assert ("admin: true" in shown) == (ME == "root") and "admin: false" in rules[1] and "isolation: owner" in rules[1], shown
        assert ME != "root" or ("uid: [0]" in rules[0] and "uid: [0" not in rules[1] and "admin: true" in rules[0]), shown
        for words in (("--upstream", "http://127.0.0.1:1", "--key-file", s.key), ("--upstream", "local")):
            assert s.init(*words, "--user", "daemon", "--force").returncode == 0
            s.shown()


def test_a_key_in_clear_is_asked_for():
    with Scene() as s:
        assert s.init("--upstream", "http://10.1.2.3:1", "--key-file", s.key, "--allow-plaintext").returncode == 0
        s.shown()
        done = s.init("--upstream", "https://10.1.2.3:1", "--key-file", s.key, "--allow-plaintext", "--force")
        assert done.returncode == 1 and "--allow-plaintext: allow_plaintext has no effect here" in done.stderr, done


def test_what_exists_stays_unless_it_is_forced():
    with Scene() as s:
        with open(s.output, "w", encoding="ascii") as f:
            f.write("mine\n")
        done = s.init("--upstream", "local")
        assert done.returncode == 1 and "EXISTS" in done.stderr and "--force" in done.stderr, done
        assert open(s.output, encoding="ascii").read() == "mine\n" and s.files() == ["key", "out.yaml"], s.files()
        # Nor is a link followed.
        os.unlink(s.output)
        os.symlink(s.dir + "/elsewhere", s.output)
        assert s.init("--upstream", "local").returncode == 1 and s.files() == ["key", "out.yaml"]
        assert s.init("--upstream", "local", "--force").returncode == 0 and not os.path.islink(s.output)
        s.shown()


def test_what_the_daemon_would_refuse_is_not_written():
    with Scene() as s:
        os.chmod(s.key, 0o644)
        for words, text in ((("--upstream", "ftp://x", "--key-file", s.key), '--upstream: url is "ftp://x", expected local, '),
                            (("--upstream", "http://10.1.2.3:1", "--key-file", s.key), "--allow-plaintext"),
                            (("--upstream", "http://127.0.0.1:1", "--key-file", "key"), '--key-file: file is "key", expected an absolute path'),
                            (("--upstream", "http://127.0.0.1:1", "--key-file", s.key), '--key-file: credential "main"'),
                            (("--upstream", "local", "--user", "no-such-user"), '--user: there is no user "no-such-user"'),
                            (("--upstream", "local", "--user", 'x", "root'), '--user: there is no user "x", "root"')):
            done = s.init(*words)
            # The file was not written, so no line of it is named.
            assert done.returncode == 1 and text in done.stderr and ".yaml" not in done.stderr and done.stderr.count("\n") == 1, done
            assert s.files() == ["key"], s.files()


def test_wrong_usage():
    with Scene() as s:
        for words, text in (((), "--upstream"), (("--upstream", "http://127.0.0.1:1"), "--key-file"), (("--upstream", ""), "upstream"),
                            (("--upstream", "local", "--key-file", s.key), "no effect"), (("--upstream", "local", "word"), "word")):
            done = s.init(*words)
            assert done.returncode == 2 and text in done.stderr, done
        assert s.files() == ["key"]


def test_the_default_place_is_where_the_daemon_looks():
    if os.geteuid() == 0:
        raise sg.Skip("root's is /etc/stacygate, which no test writes to")
    with Scene() as s:
        done = s.init("--upstream", "local", "--json", output=False)
        path = s.dir + "/config/stacygate/stacygate.yaml"
        assert (done.returncode, json.loads(done.stdout)) == (0, {"file": path}), done
        s.shown(path)


def test_on_a_terminal_it_asks():
    with Scene() as s:
        status, seen = s.ask(b"\n")
        assert status == 0 and "Server: local, " in seen and "key" not in seen.split("[local]: ")[1].replace(s.dir, ""), (status, seen)
        assert 'url: "local"' in s.shown()
        os.unlink(s.output)

        status, seen = s.ask(b"http://127.0.0.1:7423\n", s.key.encode() + b"\n")
        assert status == 0 and "File with its key" in seen, (status, seen)
        assert s.key in s.shown()
        os.unlink(s.output)

        # A wrong answer is asked for again, with what was expected.
        status, seen = s.ask(b"http//nowhere\n", b"http://127.0.0.1:7423\n", b"key\n", s.dir.encode() + b"/none\n", s.key.encode() + b"\n")
        assert status == 0 and seen.count("Server: local") == 2 and seen.count("File with its key") == 3, (status, seen)
        assert "expected local, unix:///PATH" in seen and "expected an absolute path" in seen and "/none: No such file" in seen, seen
        assert s.key in s.shown() and s.files() == ["key", "out.yaml"], s.files()
        os.unlink(s.output)

        # The end of input is no answer, not even after a wrong one.
        status, seen = s.ask(b"nonsense\n\x04")
        assert os.waitstatus_to_exitcode(status) == 1 and "NO_ANSWER" in seen and s.files() == ["key"], (status, seen)
        status, seen = s.ask(b"\x04")
        assert os.waitstatus_to_exitcode(status) == 1 and "NO_ANSWER" in seen, (status, seen)
        assert s.files() == ["key"]


if __name__ == "__main__":
    sys.exit(sg.main(dict(globals())))
