# SPDX-License-Identifier: Apache-2.0
"""Completion of the client for bash, zsh and fish: complete itself, right where it can be asked, and harmless."""
import os
import re
import shutil
import socket
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402
from cli_faults import Scene  # noqa: E402

SOURCE = os.environ.get("SG_SRCDIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
FOLDER = os.path.join(SOURCE, "daemon", "cli", "completion")
FILES = {"bash": os.path.join(FOLDER, "stacygate.bash"), "zsh": os.path.join(FOLDER, "_stacygate"),
         "fish": os.path.join(FOLDER, "stacygate.fish")}
# An id or a name like this must never be run, nor offered as if it were a word.
HOSTILE = "$(touch PWNED)`touch PWNED`;touch PWNED"


def help_of(*words):
    done = subprocess.run([sg.program("stacygate"), *words, "--help"], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def commands():
    """Every command that the help names: "run", "template ls"."""
    found = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", help_of(), re.M)
    assert {"run", "template ls", "leases renew", "status"} <= set(found), found
    return found


def options(command):
    """Its long options."""
    found = re.findall(r"^  (?:-\w, )?--([a-z-]+)", help_of(*command.split()), re.M)
    assert {"json", "help"} <= set(found), (command, found)
    return found


def content(shell):
    with open(FILES[shell], encoding="utf-8") as f:
        return f.read()


def bash(scene, *words):
    """What is offered for the last of the words."""
    line = " ".join(f"'{w}'" for w in words)
    script = (f"source '{FILES['bash']}'; COMP_WORDS=(stacygate {line}); COMP_CWORD={len(words)}; COMPREPLY=(); _stacygate stacygate; "
              'for reply in "${COMPREPLY[@]}"; do printf "%s\\n" "$reply"; done')
    env = {**scene.env, "PATH": sg.BUILD + ":" + os.environ["PATH"]}
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=60, check=True, env=env, cwd=scene.dir)
    assert done.stderr == "", done.stderr
    return done.stdout.splitlines()


def listing(scene):
    scene.server.extra["/api/v1/sandboxes"] = (200, [{"id": "sb-1a"}, {"id": "sb-2b"}, {"id": HOSTILE}, {"id": "-x"}])
    scene.server.extra["/api/v1/templates"] = (200, [{"name": "plain"}, {"name": HOSTILE}, {"name": "two words"}])


def test_every_command_and_option_is_known_to_every_shell():
    for shell in FILES:
        words = set(re.findall(r"[A-Za-z][A-Za-z-]*", re.sub(r"^\s*#.*$", "", content(shell), flags=re.M)))
        for command in commands():
            for word in [*command.split(), *options(command)]:
                assert word in words, f"{shell}: {word} ({command})"


def test_bash_offers_exactly_what_each_command_takes():
    with Scene() as s:
        assert sorted(bash(s, "")) == sorted({c.split()[0] for c in commands()})
        assert bash(s, "-") == ["--help", "--version"] and bash(s, "te") == ["template"]
        for command in commands():
            assert sorted(bash(s, *command.split(), "-")) == sorted("--" + o for o in options(command)), command
        for group in ("template", "leases"):
            seconds = sorted(c.split()[1] for c in commands() if c.startswith(group + " "))
            assert sorted(bash(s, group, "")) == seconds, group


def test_bash_offers_ids_and_names():
    with Scene() as s:
        listing(s)
        for words in (("get",), ("exec",), ("logs", "--lines", "5"), ("extend",), ("kill", "sb-9"), ("preview", "--open-port=0"), ("leases", "renew"),
                      ("leases", "release"), ("exec", "--env", "A=b")):
            assert bash(s, *words, "") == ["sb-1a", "sb-2b"], words
            assert bash(s, *words, "sb-2") == ["sb-2b"], words
        assert bash(s, "cp", "sb-1") == ["sb-1a:"]
        for word in ("get", "save", "rm", "spawn"):
            assert bash(s, "template", word, "") == ["plain"], word
        for words in (("get", "sb-1a", ""), ("spawn", "--image", ""), ("ls", ""), ("exec", "sb-1a", "--", "-"), ("run", "--", "")):
            assert bash(s, *words) == [], words
        assert not os.path.exists(s.path("PWNED"))


def test_bash_offers_nothing_where_there_is_no_gateway():
    with Scene() as s:
        s.env["STACYGATE_SOCKET"] = s.path("none")
        assert bash(s, "get", "") == []
        # One that never answers is not waited for.
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(s.path("silent"))
            silent.listen(1)
            s.env["STACYGATE_SOCKET"] = s.path("silent")
            assert bash(s, "get", "") == []


def test_zsh_reads_it():
    if not shutil.which("zsh"):
        raise sg.Skip("zsh is not installed")
    done = subprocess.run(["zsh", "-n", FILES["zsh"]], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert content("zsh").startswith("#compdef stacygate\n")


# Presses TAB twice in an interactive zsh; what it shows behind the mark is the answer.
ZSH = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1= PROMPT=; setopt no_beep auto_list no_list_ambiguous; zstyle ":completion:*" menu no; LISTMAX=1000; COLUMNS=200'
zpty -w z "fpath=($1 \$fpath); autoload -Uz compinit; compinit -D -u; print READY-\$((1 + 1))"
zpty -r -m z out '*READY-2*'
zpty -n -w z "$2"$'\t\t'
zpty -n -w z $'\x01: \x05; print DONE-$((1 + 1))\n'
zpty -r -m z out '*DONE-2*'
print -r -- $out
zpty -d z
"""


def zsh(scene, line):
    env = {**scene.env, "PATH": sg.BUILD + ":" + os.environ["PATH"], "TERM": "dumb", "HOME": scene.dir}
    done = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", FOLDER, line], capture_output=True, text=True, timeout=60, check=True, env=env,
                          cwd=scene.dir)
    return done.stdout


def test_zsh_offers_ids_and_commands():
    if not shutil.which("zsh"):
        raise sg.Skip("zsh is not installed")
    with Scene() as s:
        listing(s)
        out = zsh(s, "stacygate get sb-")
        assert "sb-1a" in out and "sb-2b" in out, out
        out = zsh(s, "stacygate template spawn pl")
        assert "stacygate template spawn plain" in out, out
        out = zsh(s, "stacygate preview --open-p")
        assert "--open-port" in out, out
        assert not os.path.exists(s.path("PWNED"))


def fish(scene, line):
    env = {**scene.env, "PATH": sg.BUILD + ":" + os.environ["PATH"], "HOME": scene.dir, "XDG_CONFIG_HOME": scene.dir}
    done = subprocess.run(["fish", "--no-config", "-c", f"source '{FILES['fish']}'; complete -C '{line}'"], capture_output=True, text=True,
                          timeout=60, check=True, env=env, cwd=scene.dir)
    assert done.stderr == "", done.stderr
    return [row.split("\t")[0] for row in done.stdout.splitlines()]


def test_fish_reads_it_and_offers_what_each_command_takes():
    if not shutil.which("fish"):
        raise sg.Skip("fish is not installed")
    with Scene() as s:
        listing(s)
        assert sorted(fish(s, "stacygate ")) == sorted({c.split()[0] for c in commands()})
        for command in commands():
            offered = {w for w in fish(s, f"stacygate {command} --") if w.startswith("--")}
            assert {w.rstrip("=") for w in offered} == {"--" + o for o in options(command)}, (command, offered)
        assert sorted(fish(s, "stacygate template ")) == ["get", "ls", "rm", "save", "spawn"]
        assert sorted(fish(s, "stacygate leases ")) == ["release", "renew"]
        for command in ("get", "exec", "logs", "kill", "leases renew"):
            assert sorted(fish(s, f"stacygate {command} sb-")) == ["sb-1a", "sb-2b"], command
        assert "sb-1a:" in fish(s, "stacygate cp sb-")
        assert fish(s, "stacygate template rm ") == ["plain"]
        assert not os.path.exists(s.path("PWNED"))


if __name__ == "__main__":
    sys.exit(sg.main(dict(globals())))
