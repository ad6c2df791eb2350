"""The weights that a model begins with: those of a file, or of the library that it comes from."""

from pathlib import Path
from typing import NamedTuple

from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.kinds import missing_file
from rkkd_cli.models.checkpoint.layout import CheckpointWeights, read_weights
from rkkd_cli.models.checkpoint.load import ReplacedHead, fit_weights, load_fitted
from rkkd_cli.models.external.published_weights import (
    PRETRAINED,
    PublishedWeights,
    timm_state,
    timm_weights,
    timm_weights_name,
    torchvision_weights,
    unknown_weights,
)
from rkkd_cli.models.features import Classifier

PUBLISHED = {"torchvision": torchvision_weights, "timm": timm_weights}


class WeightsSource(NamedTuple):
    """Where a model's first weights come from: a file at ``path``, perhaps ``published``.

    ``model`` and ``name`` are the texts of the experiment.
    """

    model: str
    name: str
    path: Path
    published: PublishedWeights | None = None

    @property
    def is_here(self) -> bool:
        """Whether the file need not be downloaded."""
        return self.published is None or self.published.file.is_here

    @property
    def origin(self) -> str:
        """The file, or the address from which the library downloads it."""
        return str(self.path) if self.published is None else self.published.file.url

    @property
    def label(self) -> str:
        """The file, or the library's name of the weights."""
        return self.name if self.published is None else self.published.name


class LoadedWeights(NamedTuple):
    """The weights of a file, and the head of the model that does not have them, if one does not."""

    source: WeightsSource
    weights: CheckpointWeights
    replaced_head: ReplacedHead | None

    def __str__(self) -> str:
        note = f"; {self.replaced_head}" if self.replaced_head else ""
        return f"{self.source.model} begins with {self.source.label}{note}"


def published_weights(model: str, name: str) -> PublishedWeights | None:
    """Return a library's weights by its own name of them, or None if it has none of that name.

    Raises UserError or RunError as :func:`find_weights`.
    """
    library, colon, rest = model.partition(":")
    return PUBLISHED[library](rest, name) if colon and library in PUBLISHED else None


def find_weights(model: str, name: str) -> WeightsSource:
    """Return the source of a model's weights by a file's name, ``pretrained``, or a library's name.

    Raises:
        UserError: there are no such weights; the message names those that there are.
        RunError: the configuration of a model of the Hugging Face hub cannot be downloaded.

    """
    published = published_weights(model, name)
    if published is not None:
        return WeightsSource(model, name, published.file.path, published)
    path = Path(name).expanduser()
    if path.is_file():
        return WeightsSource(model, name, path)
    library, _, rest = model.partition(":")
    looks_like_a_name = len(path.parts) == 1 and not path.suffix and not path.exists()
    if library in PUBLISHED and looks_like_a_name:
        raise unknown_weights(library, rest, name)
    if name == PRETRAINED:
        raise UserError(
            f"there are no published weights of {model}; give a file, or a model of torchvision "
            "or timm"
        )
    raise missing_file(path)


def fetch_weights(source: WeightsSource) -> WeightsSource:
    """Return the source with its file downloaded. Raises RunError if that is not possible."""
    if source.published is None:
        return source
    file = source.published.file.fetch()
    return source._replace(path=file.path, published=source.published._replace(file=file))


def load_first_weights(
    model: Classifier,
    source: WeightsSource,
    classes: int,
    in_channels: int,
    size: tuple[int, int],
) -> LoadedWeights:
    """Load the weights into the model; a head of another number of classes stays the model's own.

    ``in_channels`` and ``size`` are those of the images that the model was built for. Nothing in
    the file is executed. Raises UserError if other tensors differ; the model does not change then.
    """
    weights = read_weights(source.path)
    if source.published is not None and source.model.startswith("timm:"):
        name = timm_weights_name(source.model.partition(":")[2], source.name)
        assert name is not None
        tensors = timm_state(name, weights.tensors, in_channels, size)
        weights = weights._replace(tensors=tensors)
    fitted = fit_weights(weights, model.state_dict(), classes)
    load_fitted(model, fitted.state)
    return LoadedWeights(source, weights, fitted.replaced_head)
