"""``rkkd export``: write a trained student as safetensors, ONNX or PyTorch's exported program."""

from pathlib import Path

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import FORCE, OUT, RUN
from rkkd_cli.cli.flags.students import ARM, BEST, EMA, SEED, weights_kind


@takes(
    RUN, ARM, SEED, BEST, EMA,
    Flag("to", Path | None, "File to write; its end says what: .safetensors (the weights), .onnx "
         "(needs rkkd\\[onnx]) or .pt2 (PyTorch's exported program, without any code of the "
         "network); default: ARM-seedK.safetensors.", metavar="FILE"),
    FORCE, OUT,
)  # fmt: skip
def export(
    run: str,
    arm: str,
    seed: int | None,
    best: bool,
    ema: bool,
    to: Path | None,
    force: bool,
    out: Path,
) -> None:
    """Write a trained student to a file that other programs read.

    A graph's logits are compared with the network's on random images before it is written.
    """
    from rkkd_cli.cli.runtime.export_student import export_student
    from rkkd_cli.sweep.students.student import open_trained

    path = None if to is None else to.expanduser()
    export_student(open_trained(run, out), arm, seed, weights_kind(best, ema), path, force)
