"""A user's own code by name: ``package.module:attribute``."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from rkkd_cli.errors import UserError, nearest


def load_plugin(kind: str, spec: str) -> Callable[..., Any]:
    """Return what ``spec`` (``package.module:attribute``) names, such as a function or a class.

    Modules of the working folder are found too, after the installed ones: a file of the user's
    never takes the place of a library's module.

    Raises:
        UserError: the spec has another form, its module cannot be imported, or has no such
            attribute, or that cannot be called. ``kind`` says what was wanted (``model``, …).

    """
    module_name, _, attribute = spec.partition(":")
    parts = [*module_name.split("."), attribute]
    if not all(part.isidentifier() for part in parts):
        raise UserError(f"{kind} {spec!r} is not of the form package.module:name")
    module = _import(kind, spec, module_name)
    if not hasattr(module, attribute):
        close = nearest(attribute, [name for name in vars(module) if not name.startswith("_")])
        hint = f"; did you mean {module_name}:{close}?" if close else ""
        raise UserError(f"{kind} {spec}: the module {module_name} has no {attribute!r}{hint}")
    found = getattr(module, attribute)
    if not callable(found):
        raise UserError(f"{kind} {spec} is {_a(type(found).__name__)}, which cannot be called")
    function: Callable[..., Any] = found
    return function


def check_signature(kind: str, spec: str, function: Callable[..., Any], *examples: Any) -> None:
    """Raise UserError where ``function`` could not be called with arguments like ``examples``."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C, without a signature: only a call can tell
        return
    try:
        signature.bind(*examples)
    except TypeError as error:
        shown = ", ".join(str(example) for example in examples)
        name = spec.partition(":")[2] or spec
        raise UserError(f"{kind} {spec} must accept the call {name}({shown}): {error}") from None


def _import(kind: str, spec: str, module_name: str) -> ModuleType:
    with _working_folder_importable():
        try:
            return importlib.import_module(module_name)
        except Exception as error:  # a user's module may raise anything while it is imported
            reason = " ".join(str(error).split()) or "no reason given"
            raise UserError(
                f"{kind} {spec}: cannot import {module_name}: {type(error).__name__}: {reason}"
            ) from error


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.append(folder)
    # Python remembers what lay in a folder; a module written a moment ago must be found.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        # Not the last entry blindly: the module may have changed the path. And not the first
        # equal one: that may have been there before.
        position = len(sys.path) - 1 - sys.path[::-1].index(folder) if folder in sys.path else None
        if position is not None:
            del sys.path[position]


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
