"""``rkkd predict``: the classes of images, or what a detector finds in them."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import typer

from rkkd_cli.cli.output import console, tables
from rkkd_cli.data.streaming.decode import read_rgb
from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file, write_problem
from rkkd_cli.models.detection.detector import Detections
from rkkd_cli.sweep.students import detect as detecting
from rkkd_cli.sweep.students import predict as predicting
from rkkd_cli.sweep.students.student import Student
from rkkd_cli.train.device import pick_device

CORNERS = ("x0", "y0", "x1", "y1")


def show_classes(
    student: Student,
    files: Sequence[Path],
    device: str,
    top: int,
    draw: Path | None,
    as_json: bool,
) -> None:
    """Print the most probable classes of each image."""
    if draw is not None:
        raise UserError(f"--draw draws boxes, and {student.name} finds none; leave it out")
    names = student.facts.class_names
    found = [
        (prediction.path, [(names[index], value) for index, value in prediction.top(top)])
        for prediction in predicting.predict(student, files, pick_device(device))
    ]
    if as_json:
        images = [{"image": str(path), "probabilities": dict(classes)} for path, classes in found]
        typer.echo(json.dumps({"arm": student.arm, "seed": student.seed, "images": images}))
        return
    header = ["image", *(text for n in range(len(found[0][1])) for text in _headings(n))]
    rows = [
        [str(path), *(text for name, value in classes for text in (name, f"{100 * value:.2f}"))]
        for path, classes in found
    ]
    console.print_table(tables.plain_table(header, rows))


def _headings(rank: int) -> tuple[str, str]:
    return ("class", "%") if rank == 0 else (f"class {rank + 1}", "%")


def show_detections(
    student: Student,
    files: Sequence[Path],
    device: str,
    top: int | None,
    threshold: float,
    draw: Path | None,
    as_json: bool,
) -> None:
    """Print the boxes that are found in each image, and draw them into files of a folder."""
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold:g}: a score is from 0 to 1")
    targets = [] if draw is None else detecting.drawn_files(files, draw)
    if draw is not None and (problem := write_problem(draw)):
        raise UserError(f"cannot write to {draw}: {problem}")
    found = [
        one._replace(detections=Detections(*(part[:top] for part in one.detections)))
        for one in detecting.detect(student, files, pick_device(device), threshold)
    ]
    names = student.facts.class_names
    for target, one in zip(targets, found, strict=bool(targets)):
        _draw(target, one, names)
    if as_json:
        images = [_as_json(one, names) for one in found]
        typer.echo(json.dumps({"arm": student.arm, "seed": student.seed, "images": images}))
        return
    rows = [row for one in found for row in _rows(one, names)]
    console.print_table(tables.plain_table(["image", "class", "score (%)", *CORNERS], rows))
    if targets:
        console.print_line(console.err, f"drawn into {draw}")


def _draw(target: Path, found: detecting.FoundInFile, names: Sequence[str]) -> None:
    """Write the image with its boxes, in the format of the original."""
    pixels = torch.from_numpy(read_rgb(found.path, None).transpose(2, 0, 1).copy())
    image = detecting.draw(pixels, found.detections, names)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as file:
        image.save(file, format="PNG")


def _rows(found: detecting.FoundInFile, names: Sequence[str]) -> list[list[str]]:
    """Return a row for each detection, or one that says that there is none."""
    boxes, labels, scores = (part.tolist() for part in found.detections)
    rows = [
        [str(found.path), names[label], f"{100 * score:.1f}", *(f"{side:.1f}" for side in box)]
        for box, label, score in zip(boxes, labels, scores, strict=True)
    ]
    return rows or [[str(found.path), "nothing", *("–" for _ in ("score", *CORNERS))]]


def _as_json(found: detecting.FoundInFile, names: Sequence[str]) -> dict[str, object]:
    boxes, labels, scores = (part.tolist() for part in found.detections)
    detections = [
        {"class": names[label], "score": score, "box": box}
        for box, label, score in zip(boxes, labels, scores, strict=True)
    ]
    return {"image": str(found.path), "detections": detections}
