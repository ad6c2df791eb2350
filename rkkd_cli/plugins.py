"""Loads a user's own code by its name: ``package.module:attribute`` or ``file.py:attribute``."""

import ast
import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from modulefinder import ModuleFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from rkkd_cli.errors import UserError, nearest

FILE_SUFFIX = ".py"


def load_plugin(kind: str, spec: str) -> Callable[..., Any]:
    """Return the function or class that ``spec`` names.

    This is ``package.module:attribute`` or ``path/to/file.py:attribute``. Modules are looked up
    among the installed ones and then in the working folder, so a file there never replaces a
    library's module. ``kind`` (``model``, ``method`` …) is for the error messages.

    Raises:
        UserError: the spec has another form, the module cannot be imported or lacks the attribute,
            or the attribute cannot be called.

    """
    module = load_module(kind, spec)
    module_name, _, attribute = spec.rpartition(":")
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


def load_module(kind: str, spec: str) -> ModuleType:
    """Return the module that ``spec`` names, without its attribute. Raises UserError."""
    module_name, _, attribute = spec.rpartition(":")
    is_file = module_name.endswith(FILE_SUFFIX)
    parts = [attribute] if is_file else [*module_name.split("."), attribute]
    if not all(part.isidentifier() for part in parts):
        raise UserError(f"{kind} {spec!r} is not of the form package.module:name or file.py:name")
    path = Path(module_name).expanduser()
    if is_file and not path.is_file():
        raise UserError(
            f"{kind} {spec}: there is no file {module_name} in {Path.cwd()}; start rkkd in the "
            "folder that has it, or give its path"
        )
    try:
        return _import_file(path) if is_file else _import(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        reason = " ".join(str(error).split()) or "no reason given"
        raise UserError(
            f"{kind} {spec}: cannot import {module_name}: {type(error).__name__}: {reason}"
        ) from error


def names_in_file(path: Path) -> list[str]:
    """Return the classes and functions at the top of a Python file; none if it cannot be read."""
    with suppress(OSError, SyntaxError, ValueError):
        nodes = ast.parse(path.read_bytes()).body
        return [node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return []


def source_files(kind: str, spec: str) -> dict[str, bytes]:
    """Return the Python files that ``spec`` stands for, by their paths in the folder of its import.

    These are its module and the modules in the same folder that it imports, at any depth. Of an
    installed package it is the module alone. Raises UserError where :func:`load_plugin` does.
    """
    module = load_module(kind, spec)
    if module.__file__ is None:
        return {}
    path, name = Path(module.__file__).resolve(), module.__name__
    is_file = spec.rpartition(":")[0].endswith(FILE_SUFFIX)
    depth = 0 if is_file else name.count(".") + (path.name == "__init__.py")
    root = path.parents[depth]
    paths = {path}
    if not any(root.is_relative_to(folder) for folder in _installed()):
        finder = ModuleFinder(path=[str(root)], excludes=["rkkd_cli"])
        if is_file:
            finder.load_file(str(path))
        else:
            finder.import_hook(name)
        found = [getattr(one, "__file__", None) for one in finder.modules.values()]
        paths |= {Path(one) for one in found if one and Path(one).is_relative_to(root)}
    return {one.relative_to(root).as_posix(): one.read_bytes() for one in sorted(paths)}


def source_hash(kind: str, spec: str) -> str:
    """Return the SHA-256 of the files that ``spec`` stands for, and of their names."""
    digest = sha256()
    for name, content in source_files(kind, spec).items():
        digest.update(f"{name} {sha256(content).hexdigest()} ".encode())
    return digest.hexdigest()


def _installed() -> list[Path]:
    """Return the folders of the installed packages and of the standard library."""
    return [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")]


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
        name = spec.rpartition(":")[2] or spec
        raise UserError(
            f"{kind} {spec} must accept the call {name}({arguments}): {error}"
        ) from None


def _import(module_name: str) -> ModuleType:
    with _importable(Path.cwd()):
        return importlib.import_module(module_name)


def _import_file(path: Path) -> ModuleType:
    """Return the module of a file, under a name of its own: a library may have the file's.

    It can import the modules beside it.
    """
    path = path.resolve()
    name = f"{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        with _importable(path.parent):
            module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.append(str(folder))
    # Python caches folder listings; without this it may miss a module that was just written.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        # The module may have changed the path, and the folder may have been on it before: remove
        # the last entry that is the folder.
        if str(folder) in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(str(folder))]


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


@contextmanager
def without_script() -> Iterator[None]:
    """Let processes that start meanwhile not run the user's script again.

    multiprocessing imports the main module into each process that it starts. Ours need nothing of
    it, and a script without ``if __name__ == "__main__":`` would begin its runs anew in each.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
