# SPDX-License-Identifier: Apache-2.0
"""Packages that Debian has not: a virtual environment in the build tree, made from PyPI when it is missing."""
import os
import subprocess
import sys

import sg


def has_network():
    """Whether this machine has a way to anywhere: a default route."""
    for name, field in (("/proc/net/route", 1), ("/proc/net/ipv6_route", 0)):
        try:
            with open(name, encoding="ascii") as f:
                for words in (line.split() for line in f):
                    if set(words[field]) == {"0"} and words[-1] != "lo":
                        return True
        except OSError:
            pass
    return False


class Missing(Exception):
    """The packages are not there and cannot be had: this machine has no network at all."""


def installed(python, packages, module):
    wanted = "; ".join(f"assert version({name!r}) == {number!r}" for name, number in (p.split("==") for p in packages))
    return os.path.exists(python) and subprocess.run([python, "-c", f"from importlib.metadata import version; {wanted}; import {module}"],
                                                     capture_output=True).returncode == 0


def python_with(folder, packages, module):
    """The Python that has these packages ("name==version") and can import that module: this one, or that of the environment
    `folder` in the build tree, made when it is missing. Raises Missing, or RuntimeError when the installation fails."""
    venv = os.path.join(sg.BUILD, folder)
    python = os.path.join(venv, "bin", "python")
    if installed(sys.executable, packages, module):
        return sys.executable
    if installed(python, packages, module):
        return python
    for argv in ([sys.executable, "-m", "venv", "--clear", venv],
                 [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet", *packages]):
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode and not has_network():
            raise Missing(f"there is no network at all from which {' '.join(packages)} could be installed, and they are not in {venv}")
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}:\n{done.stdout}{done.stderr}")
    return python


def enter(folder, packages, module):
    """Goes on in that Python: the script begins anew in it unless this is the one. Ends it, skipped or failed, where there is none."""
    try:
        python = python_with(folder, packages, module)
    except Missing as why:
        sg.skip(str(why))
    except RuntimeError as why:
        print(f"{why}\n0 passed, 1 failed")
        sys.exit(1)
    if python != sys.executable:
        os.execv(python, [python, *sys.argv])
