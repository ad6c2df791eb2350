"""Every mistake of a user: exit status 2, one sentence, no traceback, nothing written."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from running import Program, refused
from written import times_below

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.config.validation import known_keys
from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model

FOLDER = "run --dataset folder --student cnn2 --teacher cnn2 --data-root "
TEACHER = "run --teacher digits_teacher --teacher-checkpoint "

# The words of a command line, and what its sentence must say.
MISTAKES = [
    # names, with the nearest valid one
    ("run rank_gard", ["preset 'rank_gard'", "'rank_grad'"]),
    ("run --student resnet9", ["model 'resnet9'", "'resnet8'"]),
    ("run --teacher digits_teachr", ["model 'digits_teachr'", "'digits_teacher'"]),
    ("run --dataset digitz", ["dataset 'digitz'", "'digits'"]),
    ("run --rank-surrogate tanhh", ["surrogate 'tanhh'", "'tanh'"]),
    ("run method.name=kdd", ["method 'kdd'", "'kd'"]),
    ("run traning.lr=0.1", ["key 'traning'", "'training'"]),
    ("run training.lrr=0.1", ["key 'training.lrr'", "'training.lr'"]),
    ("run arms.kd.rank.steepnes=5", ["arm 'kd'", "'rank.steepnes'", "'rank.steepness'"]),
    ("cat rank_gard", ["preset 'rank_gard'", "'rank_grad'"]),
    ("ls preset", ["'preset'", "'presets'"]),
    # values
    ("run --alpha 1.5", ["method.alpha", "1.5"]),
    ("run --alpha -0.1", ["method.alpha", "-0.1"]),
    ("run --alpha nan", ["method.alpha", "nan"]),
    ("run --temperature 0", ["method.temperature", "greater than 0"]),
    ("run --temperature -4", ["method.temperature", "-4"]),
    ("run --epochs 0", ["training.epochs", "0"]),
    ("run --batch-size 0", ["training.batch_size", "0"]),
    ("run --lr 0", ["training.lr", "greater than 0"]),
    ("run --lr inf", ["training.lr", "inf"]),
    ("run training.lr=fast", ["training.lr", "'fast'", "number"]),
    ("run training.epochs=2.5", ["training.epochs", "2.5"]),
    ("run training.epochs=true", ["training.epochs", "True"]),
    ("run training=5", ["training", "section"]),
    ("run training.lr.x=3", ["training.lr.x", "'lr' is a value"]),
    ("run training.optimizer=adagrad", ["'adagrad'", "'sgd', 'adam' or 'adamw'"]),
    ("run training.clip_grad_norm=0", ["training.clip_grad_norm", "greater than 0"]),
    ("run training.ema_decay=1", ["training.ema_decay", "less than 1"]),
    ("run teacher.training.ema_decay=0.9", ["key 'teacher.training.ema_decay'"]),
    # classes and batches of them
    ("run dataset.classes.train=0:5", ["dataset.classes.test is missing"]),
    ("run dataset.classes=0:5", ["dataset.classes = '0:5'", "section"]),
    ("run dataset.classes.train=0:5 dataset.classes.test=4:10", ["class 4 is in both"]),
    ("run dataset.classes.train=5:0 dataset.classes.test=5:9", ["classes.train", "one class"]),
    ("run dataset.classes.train=0:5 dataset.classes.test=a", ["dataset.classes.test = 'a'", "0:3"]),
    ("run dataset.classes.train=0:5 dataset.classes.test=5:11", ["class 10", "0 to 9"]),
    ("run dataset.classes.train=0:5 dataset.classes.test=5:10", ["task = 'embedding'"]),
    (
        "run --dataset folder --data-root mixed --test-share 0.5 dataset.classes.train=0 "
        "dataset.classes.test=1",
        ["test_share", "classes", "leave one of the two out"],
    ),
    ("run --dataset cub200", ["cub200 needs --data-root", "CUB_200_2011.tgz", "https://"]),
    ("run --dataset cars196 --data-root plain", ["cars_annos.mat", "no car_ims"]),
    ("run dataset.crop=window", ["'window' is for image folders"]),
    ("run training.per_class=1", ["training.per_class", "greater than or equal to 2"]),
    ("run training.per_class=3", ["batch_size = 64", "multiple", "such as 24"]),
    ("run training.per_class=64", ["two classes or more"]),
    ("run training.per_class=4", ["needs 16 classes, and 10", "at most 40"]),
    ("run teacher.training.per_class=2", ["teacher.training.batch_size", "32 classes"]),
    ("run training.batches_per_epoch=3", ["training.batches_per_epoch = 3", "set per_class too"]),
    ("run teacher.training.batches_per_epoch=3", ["teacher.training.batches_per_epoch = 3 counts"]),
    ("run detection_scenes teacher.training.per_class=2", ["per_class does not work with"]),
    ("run training.min_lr=1e-5", ["min_lr", "schedule = 'step'"]),
    ("run training.schedule=cosine training.min_lr=1", ["min_lr = 1.0 is above lr = 0.02"]),
    ("run training.warmup_lr=1e-6", ["warmup_lr", "warmup_epochs"]),
    ("run training.optimizer=adam training.momentum=0.5", ["training.momentum", "is adam;"]),
    ("run --monitor val_acc_ema --val-share 0.1", ["'val_acc_ema'", "set ema_decay"]),
    ("run student.options.drop=1", ["digits_student takes no options", "drop is given"]),
    ("run student.options.drop={a=1}", ["student.options.drop", "true or false"]),
    ("run student.options=3", ["student.options = 3", "section"]),
    ("run --student torchvision:resnet18 student.options.weights=DEFAULT", ["weights is no opt"]),
    ("run --student torchvision:vgg11 student.options.drpout=1", ["did you mean 'dropout'?"]),
    ("run training.schedule=cosin", ["'cosin'", "'cosine'"]),
    ("run --seeds 3:3", ["seeds", "at least one"]),
    ("run seeds=[]", ["seeds", "at least one"]),
    ("run --seeds -1", ["seeds", "'-1'"]),
    ("run --seeds 0,0", ["seeds", "twice"]),
    ("run --seeds 0:9999999999999", ["seeds", "at most"]),
    ("run --rank-steepness 0", ["rank.steepness", "greater than 0"]),
    ("run --rank-channels half", ["channels", "'half'"]),
    ("run --rank-channels top:1.5", ["channels", "'top:1.5'"]),
    ("run --rank-over image", ["rank.over = 'image'", "'images'"]),
    ("run --rank-over images --rank-channels top:4", ["over = images ranks images", "leave"]),
    ("run --rank-channels bottom:0", ["channels", "'bottom:0'"]),
    ("run --rank-grad maybe", ["--rank-grad", "'maybe'"]),
    ("run --precision fp8", ["precision", "'fp8'"]),
    ("run --device gpu", ["device 'gpu'", "cuda"]),
    ("run --precision fp16", ["'fp16'", "'tf32'"]),
    ("run --cuda-graph --cache-teacher", ["cuda_graph", "cache_teacher", "leave one"]),
    ("run --workers 2 --profile", ["--profile", "--workers"]),
    ("run --workers 2 --gpus-per-job 1", ["--gpus-per-job", "--engine ray"]),
    ("resume nope --address auto", ["--address", "--engine ray"]),
    ("run --engine slurm", ["engine 'slurm'", "ray"]),
    ("run arms={}", ["arms", "at least one"]),
    ("run arms.kd=5", ["arms.kd", "section"]),
    ("run arms.kd.seeds=1", ["'seeds'", "'kd'"]),
    # contradictions
    ("run rank.grad=true", ["rank.grad", "--rank-grad"]),
    ("run --epochs 3 training.epochs=4", ["training.epochs", "twice"]),
    ("run rank_grad alpha_temperature", ["more than one preset", "rank_grad", "alpha_temp"]),
    ("run --rank-grad on arms.kd_rank.rank.grad=false", ["--rank-grad on", "no arm"]),
    # files and folders of experiments and runs
    ("run ./nope.toml", ["./nope.toml"]),
    ("run broken.toml", ["broken.toml", "line 1"]),
    ("run binary.toml", ["binary.toml"]),
    ("cat binary.toml", ["binary.toml"]),
    ("run partial.toml", ["partial.toml", "dataset is missing"]),
    ("run --name a/b", ["'a/b'"]),
    ("run --name ..", ["'..'"]),
    ("run --out a_file", ["output folder a_file"]),
    ("run --out a_file/below", ["output folder a_file/below"]),
    ("cp rank_grad a_file", ["a_file exists"]),
    ("cp rank_grad nope/x.toml", ["nope/x.toml"]),
    ("show nope", ["'nope'", "rkkd ls runs"]),
    ("show plain", ["plain is no run directory"]),
    ("plot", ["no runs in results"]),
    ("plot plain", ["plain is no run directory"]),
    ("plot --format gif", ["format 'gif'", "png"]),
    ("teacher train --epochs 0", ["teacher.training.epochs"]),
    # datasets
    ("run --limit-train 9", ["limit_train", "9", "10 classes", "take 10 or more"]),
    ("run --limit-test 3", ["limit_test", "3", "10 classes"]),
    ("run --val-share 0.999", ["val_share", "0.999"]),
    ("run --val-share 1", ["val_share", "less than 1"]),
    ("run dataset.mean=[0.5,0.5]", ["dataset.mean", "1 channel"]),
    ("run dataset.image_size=16", ["dataset.image_size", "digits"]),
    ("run --dataset folder", ["--data-root"]),
    # augmentation and labels
    ("run dataset.auto_augment=randaugment", ["auto_augment", "'rand' or 'trivial', or none"]),
    ("run dataset.ra_magnitude=14", ["ra_magnitude = 14", "add auto_augment = 'rand'"]),
    ("run dataset.auto_augment=rand dataset.ra_magnitude=31", ["ra_magnitude", "equal to 30"]),
    ("run dataset.color_jitter=0.4,0.4", ["color_jitter", "one number, or those of brightness"]),
    ("run dataset.color_jitter=.4,.4,.4,.6", ["color_jitter", "of the hue at most 0.5"]),
    ("run dataset.random_erase=1.5", ["dataset.random_erase = 1.5", "equal to 1"]),
    ("run dataset.mixup_alpha=-0.2", ["dataset.mixup_alpha = -0.2", "equal to 0"]),
    ("run dataset.cutmix_alpha=-1", ["dataset.cutmix_alpha = -1", "equal to 0"]),
    ("run dataset.crop=resized dataset.crop_padding=4", ["crop_padding = 4", "leave it out"]),
    ("run dataset.mixup_alpha=0.2 --method crd", ["arm crd", "crd reads", "mixup_alpha"]),
    ("run dataset.cutmix_alpha=1.0 --method dkd", ["arm dkd", "dkd reads", "cutmix_alpha"]),
    ("run training.label_smoothing=1", ["training.label_smoothing", "less than 1"]),
    ("run dataset.mixup=0.2", ["'dataset.mixup'", "'dataset.mixup_alpha'"]),
    (FOLDER + "nope", ["nope"]),
    (FOLDER + "plain", ["plain", "train/"]),
    (FOLDER + "no_test", ["no_test", "test/"]),
    (FOLDER + "hollow", ["class 'cat' is in hollow/test", "hollow/train"]),
    (FOLDER + "extra", ["class 'newt'", "extra/train"]),
    (FOLDER + "damaged", ["damaged/train/dog/1.png"]),
    (FOLDER + "mixed", ["mixed/test/dog/1.png", "8×8", "dataset.image_size"]),
    (FOLDER + "tiny", ["cnn2", "2×2"]),
    (FOLDER + "lonely", ["one class"]),
    # checkpoints
    (TEACHER + "nope.pth", ["nope.pth"]),
    (TEACHER + "plain", ["plain"]),
    (TEACHER + "a_file", ["a_file", "is a text file"]),
    (TEACHER + "truncated.pth", ["truncated.pth", "damaged"]),
    (TEACHER + "student.pth", ["student.pth", "another architecture"]),
    (TEACHER + "classes.pth teacher.training=none", ["classes.pth", "7 classes", "10"]),
    (TEACHER + "objects.pth", ["objects.pth", "holds a fractions.Fraction object"]),
]  # fmt: skip


def write_images(root: Path, classes: dict[str, int], size: int = 16) -> None:
    """Write two images of each class into each split; the number says in how many splits."""
    for name, splits in classes.items():
        for split in ("train", "test")[:splits]:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = np.full((size, size, 3), 40 * number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything that can be wrong."""
    place = tmp_path_factory.mktemp("workplace")
    (place / "plain").mkdir()
    (place / "a_file").write_text("a file")
    (place / "broken.toml").write_text("[dataset\nname = 1")
    (place / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (place / "partial.toml").write_text("seeds = [0]")
    both = {"cat": 2, "dog": 2}
    for name in ("hollow", "extra", "damaged", "mixed"):
        write_images(place / name, both)
    write_images(place / "no_test", {"cat": 1, "dog": 1})
    write_images(place / "lonely", {"cat": 2})
    write_images(place / "tiny", both, size=2)
    for image in (place / "hollow" / "train" / "cat").iterdir():
        image.unlink()
    write_images(place / "extra", {"newt": 2})
    for image in (place / "extra" / "train" / "newt").iterdir():
        image.unlink()
    (place / "extra" / "train" / "newt").rmdir()
    (place / "damaged" / "train" / "dog" / "1.png").write_bytes(b"\x89PNG no image")
    Image.new("RGB", (8, 8)).save(place / "mixed" / "test" / "dog" / "1.png")
    write_checkpoints(place)
    return place


def write_checkpoints(place: Path) -> None:
    torch.save(build_model("digits_student", 10, 1).state_dict(), place / "student.pth")
    torch.save(build_model("digits_teacher", 7, 1).state_dict(), place / "classes.pth")
    torch.save({"state_dict": Fraction(1, 2)}, place / "objects.pth")
    whole = BytesIO()
    torch.save(build_model("digits_teacher", 10, 1).state_dict(), whole)
    (place / "truncated.pth").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])


@pytest.mark.parametrize(("words", "fragments"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_gets_one_sentence_and_leaves_nothing(
    words: str, fragments: list[str], workplace: Path, warm_rkkd: Program, cache: Path
) -> None:
    before = times_below(workplace, cache)
    refused(warm_rkkd(*words.split(), cwd=workplace), *fragments, alone=False)
    assert times_below(workplace, cache) == before


@pytest.mark.parametrize(
    "words", ["--limit-train 9", "--limit-test 3", "--val-share 0.999"]
)  # fmt: skip
def test_a_dry_run_finds_a_subset_that_does_not_fit(
    words: str, workplace: Path, warm_rkkd: Program
) -> None:
    answer = warm_rkkd("run", "--dry-run", *words.split(), cwd=workplace)
    refused(answer, words.split()[0].strip("-").replace("-", "_"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        ("run --device cuda", ["cuda", "--device cpu"]),
        ("run --cuda-graph", ["CUDA graph", "leave out --cuda-graph"]),
        ("run --cuda-graph --dry-run", ["CUDA graph", "leave out --cuda-graph"]),
        ("grid --vary precision=fp32,tf32", ["tf32", "--precision fp32 or bf16"]),
        ("grid --vary precision=fp32,tf32 --dry-run", ["tf32", "--precision fp32 or bf16"]),
        ("teacher train --precision tf32", ["tf32", "--precision fp32 or bf16"]),
    ],
)
def test_what_only_cuda_has_is_refused_where_there_is_none(
    words: str, fragments: list[str], workplace: Path, warm_rkkd: Program
) -> None:
    refused(warm_rkkd(*words.split(), cwd=workplace), *fragments)
    assert not (workplace / "results").exists()


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        ("run --eopchs 3", ["rkkd run has no option --eopchs; did you mean --epochs?"]),
        ("run --epochs", ["option '--epochs' requires an argument"]),
        ("cat rank_grad twice", ["unexpected extra argument", "(twice)", "see rkkd cat --help"]),
        ("run --epochs two", ["training.epochs = 'two'", "a whole number"]),
        ("run --limit-train all", ["dataset.limit_train = 'all'", "a whole number, or none"]),
        ("run --checkpoint-minutes two", ["--checkpoint-minutes", "a valid"]),
        ("rum", ["'rum'", "'run'"]),
        ("ls", ["presets|models|methods"]),
    ],
)
def test_a_command_line_of_the_wrong_form_gets_one_sentence(
    words: str, fragments: list[str], workplace: Path, warm_rkkd: Program
) -> None:
    refused(warm_rkkd(*words.split(), cwd=workplace, figures=True), *fragments)


arm_keys = st.sampled_from(["arms.kd", "arms.new", "arms.kd.rank.grad", "arms.new.training.lr"])
keys = st.sampled_from(known_keys()) | arm_keys | st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
numbers = st.integers().map(str) | st.floats().map(str)
toml_like = st.text(alphabet="[]{}=,.:\"'0123456789-+eE_ntrufalsi #\\x", max_size=12)
values = numbers | toml_like | st.text(max_size=12)
override = st.builds(lambda key, value: f"{key}={value}", keys, values)


@pytest.mark.parametrize("value", ["1" * 5000, "[" * 3000], ids=["digits", "brackets"])
def test_a_value_too_long_to_be_read_gets_a_sentence(value: str) -> None:
    with pytest.raises(UserError, match=r"training\.epochs"):
        load_experiment("rank_grad", [parse_override(f"training.epochs={value}")])


@settings(max_examples=200)
@given(st.lists(override, max_size=3))
@example(["seeds=0:9999999999999"])
@example(["training.lr=1" + "0" * 400])
def test_any_overrides_give_an_experiment_or_a_sentence(texts: list[str]) -> None:
    overrides = [parse_override(text) for text in texts]
    try:
        outcome: Experiment | str = load_experiment("rank_grad", overrides)
    except UserError as error:
        outcome = str(error)
    assert isinstance(outcome, Experiment) or (outcome and "\n" not in outcome)


def test_a_data_folder_is_not_silently_ignored(tmp_path: Path, warm_rkkd: Program) -> None:
    answer = warm_rkkd("run", "--data-root", str(tmp_path), "--dry-run", cwd=tmp_path)
    refused(answer, "digits ships inside scikit-learn", "--dataset folder")
