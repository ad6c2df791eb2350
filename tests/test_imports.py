"""The rooms of the house: imports run downwards, torch stays out of records, only cli/ speaks."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import rkkd_cli

PACKAGE = Path(rkkd_cli.__file__).parent
TORCH = ("torch", "torchvision")

# Which rooms each room may look into, directly.
BELOW: dict[str, set[str]] = {
    "cli": {"api", "starter"},
    "api": {"sweep", "report"},
    "sweep": {"train", "records"},
    "train": {"tasks"},
    "tasks": {"methods", "data", "models"},
    "starter": {"config", "data", "models"},
    "methods": {"losses", "config", "data", "models", "plugins"},
    "report": {"analysis"},
    "analysis": {"records"},
    "records": {"config"},
    "config": {"errors", "files"},
    "losses": {"errors"},
    "data": {"errors", "files", "plugins"},
    "models": {"errors", "installation", "plugins"},
    "errors": set(),
    "files": set(),
    "plugins": {"errors"},
    "installation": set(),
    "__init__": {"api"},  # lazily
    "__main__": {"cli"},
}
# The floors inside a room, from the top: each module or folder imports only from floors below its
# own. What a room has beside these stands on no floor of its own.
FLOORS: dict[str, list[set[str]]] = {
    "cli": [{"main"}, {"commands"}, {"runtime"}, {"output", "flags"}],
    "api": [
        {"runs"},
        {"recorded_run"},
        {"execute"},
        {"download_weights", "ended_run", "engines", "requests", "signals", "progress_bar",
         "python_values"},
        {"recognise_teacher", "run_progress", "watcher"},
        {"ending", "options"},
    ],
    "sweep": [
        {"engines"},
        {"logit_cache", "students", "teacher_import"},
        {"sources"},
        {"recording", "estimate", "doubts"},
        {"check", "loggers"},
        {"tried_steps"},
        {"checked_model", "batches", "decoding_time"},
        {"datasets", "jobs", "teacher_fit"},
    ],
    "train": [
        {"lockstep"},
        {"step"},
        {"stacked", "cost", "record_step", "sheets"},
        {"arm"},
        {"teacher"},
        {"configured_model", "regions", "runtime", "trained_model"},
        {"metrics", "stop_controller", "taught_batch"},
        {"distributed"},
        {"checkpoint", "cuda_graph", "device", "early_stopping", "events", "moving_average",
         "recipe", "rng"},
        {"profile"},
    ],
    "tasks": [
        {"classification", "embedding", "detection"},
        {"average_precision", "retrieval", "task"},
    ],
    "starter": [{"commented"}, {"choices"}, {"chosen_models"}, {"sizes"}],
    "models": [
        {"detection"},
        {"bigger", "first_weights"},
        {"checkpoint"},
        {"catalogue"},
        {"external"},
        {"zoo", "fold_batchnorm", "shapes"},
        {"features"},
    ],
}  # fmt: skip
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent.name != "benchmarks"  # scripts, which an installed package has beside the rooms
}


def room(module: str) -> str:
    """Return ``losses`` for ``rkkd_cli.losses.ranking``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def allowed(start: str) -> set[str]:
    """Return every room below ``start``, at any depth, and itself."""
    return {start, "__init__"}.union(*(allowed(name) for name in BELOW[start]))


def imported(nodes: Iterator[ast.AST], here: str) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{here} has a relative import"
            base = node.module or ""
            deeper = {f"{base}.{alias.name}" for alias in node.names}
            names |= {base} | (deeper & MODULES.keys())
    return names


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from outside_functions(child)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def loaded_with(module: str) -> frozenset[str]:
    """Return what importing ``module`` imports by itself: the names, and our packages around."""
    names = imported(outside_functions(tree(module)), module)
    parents = {module.rsplit(".", 1)[0]} if "." in module else set()
    return frozenset(names | (parents & MODULES.keys()))


def brings_torch(module: str) -> str | None:
    """Return the chain of modules by which importing ``module`` imports torch, or None.

    A package that imports its own modules is a circle: each module is looked at once.
    """
    chains = {module: module}
    waiting = [module]
    for one in waiting:
        names = loaded_with(one)
        if any(name.split(".")[0] in TORCH for name in names):
            return chains[one]
        for name in sorted((names & MODULES.keys()) - chains.keys()):
            chains[name] = f"{chains[one]} → {name}"
            waiting.append(name)
    return None


def floor(module: str) -> int | None:
    """Return how many floors above the lowest one a module stands in its room, if it has one."""
    parts = module.split(".")
    floors = FLOORS.get(room(module), [])
    heights = {name: len(floors) - n for n, names in enumerate(floors) for name in names}
    return heights.get(parts[2]) if len(parts) > 2 else None


def unit(module: str) -> tuple[str, ...]:
    """Return the module's room, and what of it stands on one floor: a module or a folder."""
    return tuple(module.split(".")[1:3])


def test_every_room_is_known() -> None:
    assert {room(module) for module in MODULES} == BELOW.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards_only(module: str) -> None:
    names = imported(ast.walk(tree(module)), module)
    ours = {room(name) for name in names if name.split(".")[0] == "rkkd_cli"}
    assert ours <= allowed(room(module))


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in FLOORS])
def test_inside_a_room_they_run_downwards_too(module: str) -> None:
    here = floor(module)
    assert here is not None or len(module.split(".")) == 2, f"{module} stands on no floor"
    for name in imported(ast.walk(tree(module)), module) & MODULES.keys():
        there = floor(name)
        if here and there and room(name) == room(module) and unit(name) != unit(module):
            assert there < here, f"{module} imports {name}"


@pytest.mark.parametrize("low", ["losses", "models", "data"])
@pytest.mark.parametrize("high", ["config", "methods", "train"])
def test_the_rooms_at_the_bottom_know_nothing_of_experiments(low: str, high: str) -> None:
    assert high not in allowed(low)


@pytest.mark.parametrize(
    "module", [m for m in MODULES if room(m) in ("config", "records", "analysis", "report")]
)
def test_rooms_without_torch_do_not_bring_it_by_any_way(module: str) -> None:
    assert brings_torch(module) is None
    names = imported(ast.walk(tree(module)), module)
    assert not any(name.split(".")[0] in TORCH for name in names)


@pytest.mark.parametrize("module", MODULES)
def test_only_the_commands_print_or_exit(module: str) -> None:
    if room(module) == "cli":
        return
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "exit", "quit", "sys.exit", "os._exit", "SystemExit")
            assert not called.startswith(("sys.stdout", "sys.stderr"))
    names = imported(ast.walk(tree(module)), module)
    assert not {name.split(".")[0] for name in names} & {"rich", "typer", "click"}


def test_importing_the_commands_leaves_torch_out() -> None:
    slow = ("torch", "torchvision", "pandas", "matplotlib", "sklearn", "scipy", "bokeh", "jinja2")
    code = f"import sys, rkkd_cli.cli.main; print([m for m in {slow} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"


def test_reading_records_and_drawing_them_leaves_torch_out() -> None:
    code = (
        "import sys, rkkd_cli.report.curves, rkkd_cli.config.presets, rkkd_cli.analysis.summary, "
        "rkkd_cli.records.run_directory; print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "False"


def test_importing_the_losses_adds_nothing_to_torch_and_numpy() -> None:
    code = (
        "import sys, numpy, torch; before = set(sys.modules); import rkkd_cli.losses; "
        "added = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(added - set(sys.stdlib_module_names)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.split() == ["rkkd_cli"]
