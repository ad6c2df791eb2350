"""Loads a user's own code by its name, ``package.module:attribute``."""

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
    """Return the function or class that ``spec`` (``package.module:attribute``) names.

    Modules are looked up among the installed ones and then in the working folder, so a file there
    never replaces a library's module. ``kind`` (``model``, ``method`` …) is for the error messages.

    Raises:
        UserError: the spec has another form, the module cannot be imported or lacks the attribute,
            or the attribute cannot be called.

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
    plugin: object = getattr(module, attribute)
    if not callable(plugin):
        raise UserError(
            f"{kind} {spec} is {_with_article(type(plugin).__name__)}, which cannot be called"
        )
    return plugin


def check_signature(kind: str, spec: str, function: Callable[..., Any], *examples: Any) -> None:
    """Raise UserError if ``function`` does not take as many arguments as there are ``examples``."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # a function in C without a signature
        return
    try:
        signature.bind(*examples)
    except TypeError as error:
        arguments = ", ".join(str(example) for example in examples)
        name = spec.partition(":")[2] or spec
        raise UserError(
            f"{kind} {spec} must accept the call {name}({arguments}): {error}"
        ) from None


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
    # Python caches folder listings; without this it may miss a module that was just written.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        # The module may have changed the path, and the folder may have been on it before: remove
        # the last entry that is the folder.
        if folder in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
