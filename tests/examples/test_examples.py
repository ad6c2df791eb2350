"""The examples of other trainers: each runs offline, learns, is short, and is shown as it is."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rkkd_cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "other-trainers.md"
LIBRARIES: dict[str, list[str]] = {
    "plain_pytorch": [],
    "lightning_module": ["lightning"],
    "timm_task": ["timm"],
    "hf_trainer": ["transformers", "accelerate"],
    "trl_distillation": ["trl"],
}
NO_NETWORK = {
    "HF_HUB_OFFLINE": "1",
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
}
LEARNT = re.compile(r"^τ-b on held-out (?:images|tokens): (\S+) → (\S+)$", flags=re.MULTILINE)


def shown(page: str) -> dict[str, str]:
    """Return the code that each section of the page shows of the file that it links to."""
    pattern = r"\(\.\./examples/(\w+)\.py\).*?```python\n(.*?)```"
    return dict(re.findall(pattern, page, flags=re.DOTALL))


def test_every_example_is_run_and_shown() -> None:
    files = {path.stem for path in (ROOT / "examples").iterdir() if path.suffix == ".py"}
    assert files == LIBRARIES.keys()
    assert files == shown(PAGE.read_text(encoding="utf-8")).keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARIES)
def test_it_runs_offline_and_the_student_learns_the_order_of_the_teacher(
    name: str, tmp_path: Path
) -> None:
    for library in LIBRARIES[name]:  # found but not imported: that would take seconds here too
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    package = str(Path(rkkd_cli.__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"],
        cwd=tmp_path,
        env=os.environ
        | NO_NETWORK
        | {"PYTHONPATH": package, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    (numbers,) = LEARNT.findall(ended.stdout)
    before, after = map(float, numbers)
    assert abs(before) < 0.15  # the weights are random
    assert after > before + 0.2
    assert not list(tmp_path.iterdir()), "it leaves files behind"


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_page_shows_its_imports_and_its_first_definition(name: str) -> None:
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    first = next(node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    lines = source.splitlines(keepends=True)[tree.body[1].lineno - 1 : first.end_lineno]
    assert shown(PAGE.read_text(encoding="utf-8"))[name] == "".join(lines)


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_it_shows_takes_at_most_25_lines_beside_the_imports(name: str) -> None:
    code = shown(PAGE.read_text(encoding="utf-8"))[name]
    definition = ast.parse(code).body[-1]
    assert definition.end_lineno is not None
    assert definition.end_lineno - definition.lineno + 1 <= 25
