"""The processes that a program has started."""

import psutil


def children_of(process: int, word: str) -> list[psutil.Process]:
    """Return the children that have the word in their command line, but those that just end."""
    return [
        one
        for one in psutil.process_iter(["cmdline", "ppid"])
        if one.info["ppid"] == process and word in " ".join(one.info["cmdline"] or ())
    ]
