"""``rkkd predict``: the classes that a trained student sees in images."""

import json
from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import REQUIRED, Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, RUN
from rkkd_cli.cli.flags.students import ARM, BEST, DEVICE, EMA, SEED, weights_kind


@takes(
    RUN, ARM,
    Flag("images", list[Path], "Image files, or folders of images.", positional=True,
         default=REQUIRED, metavar="IMAGE"),
    SEED, BEST, EMA,
    Flag("top", int, "Classes to show of each image, the most probable first.", default=3, min=1),
    DEVICE, JSON_ONLY, OUT,
)  # fmt: skip
def predict(
    run: str,
    arm: str,
    images: list[Path],
    seed: int | None,
    best: bool,
    ema: bool,
    top: int,
    device: str,
    as_json: bool,
    out: Path,
) -> None:
    """Show the most probable classes of images, with their probabilities.

    Images are resized and normalised as the test images of the run.
    """
    from rkkd_cli.cli.output import console, tables
    from rkkd_cli.sweep.students import predict as predicting
    from rkkd_cli.sweep.students.student import open_trained, read_student
    from rkkd_cli.train.device import pick_device

    files = predicting.image_files([path.expanduser() for path in images])
    student = read_student(open_trained(run, out), arm, seed, weights_kind(best, ema))
    names = student.facts.class_names
    found = [
        (prediction.path, [(names[index], value) for index, value in prediction.top(top)])
        for prediction in predicting.predict(student, files, pick_device(device))
    ]
    if as_json:
        typer.echo(json.dumps({"arm": arm, "seed": student.seed, "images": _as_json(found)}))
        return
    header = ["image", *(text for n in range(len(found[0][1])) for text in _headings(n))]
    rows = [
        [str(path), *(text for name, value in classes for text in (name, f"{100 * value:.2f}"))]
        for path, classes in found
    ]
    console.print_table(tables.plain_table(header, rows))


def _headings(rank: int) -> tuple[str, str]:
    return ("class", "%") if rank == 0 else (f"class {rank + 1}", "%")


def _as_json(found: list[tuple[Path, list[tuple[str, float]]]]) -> list[dict[str, object]]:
    return [{"image": str(path), "probabilities": dict(classes)} for path, classes in found]
