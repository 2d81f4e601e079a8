# SPDX-License-Identifier: Apache-2.0
"""Reads what a manual in mdoc documents: its sections, and the items of their lists."""
import re


def section(text, title, macro="Sh"):
    """What stands below a heading, up to the next of its kind or above."""
    end = "S[hs]" if macro == "Ss" else "Sh"
    match = re.search(r"^\.%s %s\n(.*?)(?=^\.%s |\Z)" % (macro, re.escape(title), end), text, re.S | re.M)
    return match.group(1) if match else ""


def subsections(text):
    """title -> text, in order."""
    return dict(re.findall(r"^\.Ss ([^\n]+)\n(.*?)(?=^\.S[hs] |\Z)", text, re.S | re.M))


def items(text):
    """Yields head and body of each item of lists."""
    yield from re.findall(r"^\.It ([^\n]+)\n(.*?)(?=^\.It |^\.El|\Z)", text, re.S | re.M)


def arguments(head, macro):
    """What a macro of an item's head marks: the words behind it, up to the next macro. A comma ends one of several."""
    found = re.findall(r"(?<!\S)%s ((?:(?!(?:Ar|Cm|Fl|Ev|Dv|Ns|Pa|Pq|Ta) )[^\s]+ ?)+)" % macro, head)
    return [a.strip() for f in found for a in re.split(r"\s,(?:\s|$)", f) if a.strip()]


def listed(text, macro):
    """All that items of the lists in a text mark with a macro."""
    return [a for head, _ in items(text) for a in arguments(head, macro)]


def literals(text):
    """The blocks of examples."""
    blocks = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", text, re.S | re.M)
    return [b.replace(r"\e", "\\").replace(r"\(dq", '"') for b in blocks]
