"""``rkkd predict``: what a trained student sees in images."""

from pathlib import Path

from rkkd_cli.cli.flags.flag import REQUIRED, Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, RUN
from rkkd_cli.cli.flags.students import ARM, BEST, DEVICE, EMA, SEED, weights_kind


@takes(
    RUN, ARM,
    Flag("images", list[Path], "Image files, or folders of images.", positional=True,
         default=REQUIRED, metavar="IMAGE"),
    SEED, BEST, EMA,
    Flag("top", int | None, "Classes or detections to show of each image, the most probable first; "
         "default: 3 classes, all detections.", min=1),
    Flag("threshold", float, "Lowest score of a detection that is shown.", default=0.5, min=0),
    Flag("draw", Path | None, "Folder for the images with the boxes of a detector.",
         metavar="DIR"),
    DEVICE, JSON_ONLY, OUT,
)  # fmt: skip
def predict(
    run: str,
    arm: str,
    images: list[Path],
    seed: int | None,
    best: bool,
    ema: bool,
    top: int | None,
    threshold: float,
    draw: Path | None,
    device: str,
    as_json: bool,
    out: Path,
) -> None:
    """Show the most probable classes of images, with their probabilities; or what a detector finds.

    Images are resized and normalised as the test images of the run.
    """
    from rkkd_cli.cli.runtime.predict_images import show_classes, show_detections
    from rkkd_cli.sweep.students.predict import image_files
    from rkkd_cli.sweep.students.student import open_trained, read_student

    files = image_files([path.expanduser() for path in images])
    student = read_student(open_trained(run, out), arm, seed, weights_kind(best, ema))
    if student.experiment.task == "detection":
        folder = None if draw is None else draw.expanduser()
        show_detections(student, files, device, top, threshold, folder, as_json)
    else:
        show_classes(student, files, device, 3 if top is None else top, draw, as_json)
