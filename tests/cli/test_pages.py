"""Every command and every piece of Python on the documentation's pages is right."""

import re
import shlex
import shutil
import tomllib
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from pages import PAGES, ROOT, blocks, commands, python_blocks
from typer.main import get_command

from rkkd_cli.api import requests
from rkkd_cli.cli.flags.usage import USAGE_ERROR
from rkkd_cli.cli.main import app
from rkkd_cli.cli.runtime import train_teacher
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import preset_directory
from rkkd_cli.errors import UserError
from rkkd_cli.methods import ModelPair, build_objective
from rkkd_cli.models import build_model

EVERY_COMMAND = [(page, command) for page in PAGES for command in dict.fromkeys(commands(page))]
PROGRAM: Any = get_command(app)
COMING_FROM = ROOT / "docs" / "coming-from.md"
Loads = Callable[[Path, str], Experiment | None]


class Loaded(Exception):  # noqa: N818
    """A command line was understood, its experiment is checked, and nothing has begun."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.experiment = experiment


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Loads:
    """Carry out a page's command until its experiment is checked; of others read the words."""
    loading = requests.ExperimentRequest.experiment

    def stop(request: Any, *_: Any) -> None:
        if isinstance(request, Experiment):
            raise Loaded(request)
        raise Loaded(loading(request) if hasattr(request, "rank_grad") else request.experiment())

    monkeypatch.setattr(requests.ExperimentRequest, "experiment", stop)
    monkeypatch.setattr(requests.GridRequest, "planned", stop)
    monkeypatch.setattr(train_teacher, "train_teacher", stop)
    monkeypatch.chdir(tmp_path)

    def run(page: Path, command: str) -> Experiment | None:
        Path("mine.toml").write_text(preset_of(page), encoding="utf-8")
        shutil.copy(preset_directory() / "my_images.toml", "photos.toml")  # as `rkkd init` makes
        words = [word for word in shlex.split(as_typed(command)) if word != "…"]
        if words[0].startswith("-"):
            assert words[0] in {name for param in PROGRAM.params for name in param.opts}
            return None
        callback, context = understood(words)
        trains = words[0] in ("run", "grid") or words[:2] == ["teacher", "train"]
        if trains and context.params.get("resume") in (None, "auto"):
            with pytest.raises(Loaded) as loaded, context:
                context.invoke(callback, **context.params)
            return loaded.value.experiment
        return None

    return run


def as_typed(command: str) -> str:
    """Return a command with names in place of what stands for them."""
    command = command.replace("$method", "kd").replace(" PRESET", " rank_grad")
    return command.replace(" results/digits", f" {ROOT / 'results' / 'digits'}")


def understood(words: list[str]) -> tuple[Callable[..., None], Any]:
    """Return what a command calls, and its context. Fails for an unknown command or flag."""
    command, name = PROGRAM, "rkkd"
    while hasattr(command, "commands") and not words[0].startswith("-"):
        name, words = words[0], words[1:]
        command = command.commands[name]
    context = command.make_context(name, words)
    return command.callback, context


def preset_of(page: Path) -> str:
    """Return the preset that a page calls mine.toml, with the several teachers that it shows."""
    copied = re.search(r"cp (\S+) mine\.toml", "\n".join(commands(page)))
    name = f"{copied[1] if copied else 'rank_grad'}.toml"
    table = tomllib.loads((preset_directory() / name).read_text(encoding="utf-8"))
    for language, code in blocks(page):
        if language == "toml" and "[[teachers]]" in code:
            table |= {"teachers": tomllib.loads(code)["teachers"]}
            table.pop("teacher", None)
    return tomli_w.dumps(table)


def test_commands_are_found_on_the_pages() -> None:
    assert len(EVERY_COMMAND) > 150
    found = {page.name for page, _ in EVERY_COMMAND}
    assert found >= {"README.md", "tutorial.md", "coming-from.md", "grids.md", "clusters.md"}


@pytest.mark.parametrize(
    ("page", "command"), EVERY_COMMAND, ids=[f"{page.name}: {one}" for page, one in EVERY_COMMAND]
)
def test_a_command_is_one_that_the_program_carries_out(
    page: Path, command: str, load: Loads
) -> None:
    load(page, command)


@pytest.mark.parametrize(
    "command", ["runn", "run --no-such-flag", "run rank_grad2", "run no.such_key=1", "grid lr=0.1"]
)
def test_a_command_that_the_program_would_refuse_is_noticed(command: str, load: Loads) -> None:
    with pytest.raises((KeyError, USAGE_ERROR, UserError)):
        load(ROOT / "README.md", command)


MENTIONED = sorted(
    {
        mentioned
        for page in PAGES
        for mentioned in re.findall(
            r"`rkkd (?!bench )([a-z-][^`]*)`", page.read_text(encoding="utf-8")
        )
    }
)


@pytest.mark.parametrize("mentioned", MENTIONED)
def test_a_command_in_a_sentence_has_its_flags(mentioned: str) -> None:
    command, words = PROGRAM, mentioned.split()
    while hasattr(command, "commands") and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    flags = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    flags.add("--help")
    assert {word for word in words if word.startswith("--")} <= flags


OTHER_TESTS = "".join(
    path.read_text(encoding="utf-8")
    for path in ROOT.glob("tests/**/test_*.py")
    if path != Path(__file__)
)
# Pages whose Python no other test runs.
RUN_HERE = [page for page in PAGES if page.name == "README.md" or page.name not in OTHER_TESTS]


@pytest.mark.parametrize(
    "page", [page for page in RUN_HERE if python_blocks(page)], ids=lambda p: p.name
)
def test_the_python_of_a_page_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "results" / "digits-sample", tmp_path / "results" / "digits-sample")
    monkeypatch.chdir(tmp_path)
    logits = torch.randn(2, 4, 10)
    names: dict[str, Any] = {"student_logits": logits[0], "teacher_logits": logits[1]}
    for code in python_blocks(page):
        exec(compile(code, page.name, "exec"), names)


def weights_of(experiment: Experiment) -> dict[str, float]:
    """Return the weights of all terms after the warm-up, of the pair that the page takes."""
    with torch.device("meta"):
        models = [build_model(name, 100) for name in ("resnet8x4", "resnet32x4")]
        pair = ModelPair(models[0], models[1], 3, (32, 32), torch.zeros(64, dtype=torch.int64))
        (arm,) = experiment.resolved_arms
        objective = build_objective(arm.experiment.method, arm.experiment.rank, pair)
    return {name: weight for name, weight in objective.loss_weights(epoch=240).items() if weight}


# mdistiller's KD, DKD and ReviewKD; RepDistiller's -r, -a and -b of five methods; torchdistill's.
THEIR_WEIGHTS = [
    {"ce": 0.1, "kl": 0.9}, {"ce": 1, "tckd": 1, "nckd": 8}, {"ce": 1, "review": 1},
    {"ce": 0.1, "kl": 0.9}, {"ce": 1, "hint": 100}, {"ce": 1, "kl": 1, "crd": 0.8},
    {"ce": 1, "rkd_distance": 2 * 25, "rkd_angle": 2 * 50},
    {"ce": 0.5, "kl": 0.5, "attention": 500}, {"ce": 0.5, "kl": 0.5},
]  # fmt: skip


def test_the_commands_beside_those_of_other_libraries_mean_the_same(load: Loads) -> None:
    found = [load(COMING_FROM, command) for command in commands(COMING_FROM)]
    experiments = [one for one in found if one is not None][: len(THEIR_WEIGHTS)]
    for experiment, theirs in zip(experiments, THEIR_WEIGHTS, strict=True):
        assert weights_of(experiment) == pytest.approx(theirs)
    *of_cifar, of_imagenet = experiments
    for experiment in of_cifar:
        recipe = experiment.training
        assert (recipe.epochs, recipe.batch_size, recipe.lr) == (240, 64, 0.05)
        assert (recipe.milestone_epochs, recipe.gamma) == ((150, 180, 210), 0.1)
        assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("sgd", 0.9, 5e-4)
        assert experiment.method.temperature == 4
    recipe = of_imagenet.training
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (100, 256, 0.1)
    assert (recipe.milestone_epochs, recipe.gamma) == ((30, 60, 90), 0.1)
    assert (recipe.momentum, recipe.weight_decay) == (0.9, 1e-4)
    assert of_imagenet.method.temperature == 1


LIKE_THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "RepDistiller": ("resnet32x4", {"epoch": 240, "accuracy": 79.4}),
    "mdistiller": ("resnet32x4", {}),
    "torchdistill": (
        "torchvision:resnet18",
        {"optimizer": {}, "best_value": 76.1, "args": Namespace(seed=0), "lr_scheduler": {}},
    ),
}


@pytest.mark.parametrize("library", LIKE_THEIRS)
def test_a_teachers_file_of_other_libraries_is_recognised(
    library: str, load: Loads, tmp_path: Path
) -> None:
    model, beside = LIKE_THEIRS[library]
    weights = build_model(model, 100).state_dict()
    torch.save({"model": weights, **beside}, tmp_path / "theirs.pth")
    command = "run rank_grad_cifar100 --student resnet8 --teacher-weights theirs.pth"
    experiment = load(COMING_FROM, command)
    assert experiment is not None
    assert experiment.teacher.model == model
