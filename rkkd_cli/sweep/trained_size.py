"""Teachers that hold positions: their images must have the size of those of their training."""

from pathlib import Path

from rkkd_cli.data.catalogue import Shape
from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.recognise import Recognised, same_shapes, trained_size
from rkkd_cli.models.checkpoint.skeleton import blank, depends_on_size


def size_problem(path: Path, found: Recognised, dataset: str, shape: Shape) -> UserError | None:
    """Return the refusal of weights that hold positions of images of another size."""
    if not depends_on_size(found.model):
        return None
    try:
        wanted = blank(found.model, found.classes, found.channels, shape.size)
    except ValueError:  # the model cannot be built for such images at all
        wanted = {}
    if same_shapes(wanted, found.state):
        return None
    trained = trained_size(found)
    was = "another size" if trained is None else _shown(trained)
    number = "that" if trained is None else trained[0]
    return UserError(
        f"checkpoint {path} holds a {found.model} trained on images of {was}, whose positions it "
        f"keeps; those of the dataset {dataset} are {_shown(shape.size)}: use an image folder with "
        f"dataset.image_size={number}"
    )


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
