"""What the checks before a run refuse, although every setting is allowed by itself."""

from pathlib import Path

import pytest
from running import FolderMaker

from rkkd_cli.config.methods import methods_for
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.check import check_experiment

PLUGIN = """
from rkkd_cli.methods import Method

class Broken(Method):
    terms = ("broken",)

    def term_weights(self, epoch):
        return {"broken": 1.0}

    def forward(self, inputs):
        return {"broken": {returned}}
"""


def check(cache: Path, *words: str) -> None:
    check_experiment(load_experiment("rank_grad", [parse_override(word) for word in words]), cache)


def test_a_power_that_the_loss_does_not_take_is_refused(cache: Path) -> None:
    with pytest.raises(UserError, match=r"method\.at\.p = 0\.5: must be .* equal to 1"):
        check(cache, "method.name=at", "method.at.p=0.5")


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("inputs.student.logits.no_such_thing", "AttributeError"),
        ("inputs.student.logits @ inputs.student.logits", "RuntimeError"),
        ("inputs.student.logits", "RuntimeError: .*scalar"),
        ("inputs.student.maps[0].mean()", "IndexError"),  # it asks for no features
    ],
)
def test_so_is_a_plugin_that_fails(
    returned: str, reason: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"broken_{abs(hash(returned))}"
    (tmp_path / f"{module}.py").write_text(PLUGIN.replace("{returned}", returned))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"method {module}:Broken cannot compute .*{reason}"):
        check(cache, f"method.name={module}:Broken")


@pytest.mark.parametrize("method", methods_for("classification"))
def test_every_method_passes_on_a_pair_that_fits(method: str, cache: Path) -> None:
    words = ["student.model=resnet8", "teacher.model=resnet20"]
    models = words if method in ("fitnet", "reviewkd") else []
    check(cache, f"method.name={method}", *models)


MOBILENET = "torchvision:mobilenet_v3_small"  # 1×1 maps of 32×32 images, before a BatchNorm


@pytest.fixture
def odd(make_folder: FolderMaker) -> tuple[str, ...]:
    """Nine images and batches of eight: the last batch has one image."""
    root = make_folder(classes=3, train=3, size=32)
    return (
        "dataset.name=folder", f"dataset.root={root}", "training.batch_size=8",
        "teacher.training.batch_size=8", f"student.model={MOBILENET}", "dataset.limit_train=9",
        "dataset.limit_test=3", f"teacher.model={MOBILENET}",
    )  # fmt: skip


@pytest.mark.parametrize("last_batch", [None, "merge", "drop"])
def test_a_single_last_image_is_no_batch_of_its_own(
    last_batch: str | None, odd: tuple[str, ...], cache: Path
) -> None:
    words = [f"{key}.last_batch={last_batch}" for key in ("training", "teacher.training")]
    check(cache, *odd, *(words if last_batch else ()))


def test_kept_it_is_refused_where_no_model_can_train_on_it(
    odd: tuple[str, ...], cache: Path
) -> None:
    with pytest.raises(UserError, match=r"arm kd: .* on a batch of one image: ValueError"):
        check(cache, *odd, "training.last_batch=keep")
    with pytest.raises(UserError, match=r"teacher .* on a batch of one image: .*last_batch=merge"):
        check(cache, *odd, "teacher.training.last_batch=keep")
    models = ("student.model=resnet8", "teacher.model=resnet8")
    check(
        cache, *(word for word in odd if ".model=" not in word), *models, "training.last_batch=keep"
    )


READS_LABELS = {
    "dkd": {},
    "crd": {},
    "mlkd": {},
    "pld": {},
    "simkd": {"teacher_correct_only": True},
}


@pytest.mark.parametrize("key", ["mixup_alpha", "cutmix_alpha"])
@pytest.mark.parametrize("method", methods_for("classification"))
def test_mixed_images_suit_a_method_unless_it_reads_class_numbers(
    method: str, key: str, cache: Path
) -> None:
    words = ["student.model=resnet8", "teacher.model=resnet20", f"dataset.{key}=1.0"]
    words += [f"method.name={method}"]
    settings = READS_LABELS.get(method, {})
    words += [f"method.{method}.{name}={str(value).lower()}" for name, value in settings.items()]
    if method not in READS_LABELS:
        check(cache, *words)
        return
    with pytest.raises(UserError, match=rf"arm {method}: method {method} reads .* class numbers"):
        check(cache, *words)
    if settings:
        check(cache, *words[:-1])


def test_so_does_a_plugin_that_reads_them(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned = "inputs.student.logits[0, inputs.labels[0]]"
    (tmp_path / "reads_labels.py").write_text(PLUGIN.replace("{returned}", returned))
    monkeypatch.chdir(tmp_path)
    check(cache, "method.name=reads_labels:Broken")
    with pytest.raises(UserError, match="arm Broken: method reads_labels:Broken reads"):
        check(cache, "method.name=reads_labels:Broken", "dataset.mixup_alpha=0.2")


def test_the_arm_of_a_wrong_student_is_named_where_others_have_another(cache: Path) -> None:
    of_one = load_experiment("rank_grad", [parse_override("arms.kd.student.weights=no.pt")])
    with pytest.raises(UserError, match=r"^arm kd: .*no\.pt"):
        check_experiment(of_one, cache)
    of_all = load_experiment("rank_grad", [parse_override("student.weights=no.pt")])
    with pytest.raises(UserError, match=r"^(?!arm).*no\.pt"):
        check_experiment(of_all, cache)
