"""The weights of an arm's best epoch, as a safetensors file that says what it is."""

from typing import TYPE_CHECKING

from rkkd_cli.train.events import BestSoFar
from rkkd_cli.train.teacher.safetensors_files import teacher_bytes

if TYPE_CHECKING:
    from rkkd_cli.train.arm import ArmOnStream


def best_so_far(stream: str, seed: int, arm: "ArmOnStream") -> BestSoFar:
    """Return the student's weights as they are now, which are those of its best epoch."""
    assert arm.selection.best is not None
    value, epoch = arm.selection.best
    chosen = {"epoch": epoch, "monitor": arm.selection.monitor, "value": value}
    further = {"arm": arm.name, "seed": seed, **chosen}
    content = teacher_bytes(arm.student.state_dict(), arm.facts, further)
    return BestSoFar(stream, arm.name, seed, content)
