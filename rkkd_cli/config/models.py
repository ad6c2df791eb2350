"""What the sections ``teacher`` and ``student`` have in common."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from rkkd_cli.config.frozen import Floats, FrozenConfig, check_positive
from rkkd_cli.config.overrides import is_unset
from rkkd_cli.config.value_lists import SETTING_RULE, is_setting, value_text


def _read_options(options: Any) -> Any:
    """Return the options with lists as tuples; ``none`` unsets one. Without any, return None.

    Raises an error of pydantic for a value that is none of TOML's plain ones.
    """
    if not isinstance(options, dict):
        return options
    for name, value in options.items():
        if not is_setting(value):
            raise PydanticCustomError("setting", SETTING_RULE, {"name": str(name)})
    given = {str(name): value for name, value in options.items() if not is_unset(value)}
    return {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()} or None


class ModelConfig(FrozenConfig):
    """A model, how it is built, the weights that it begins with, and the images that it takes.

    ``options``: arguments of its library's builder, or of the user's own code.
    ``weights``: a file, ``pretrained``, or a library's name of its weights. None: random weights.
    ``image_size``, ``mean``, ``std``: those that belong to a library's weights, else those of the
    dataset, whose images are resampled and normalised anew for this model.
    """

    role: ClassVar[str]  # the name of the section

    model: str
    options: Annotated[dict[str, Any] | None, BeforeValidator(_read_options)] = Field(
        default=None,
        description="Arguments of the model's own builder, by name: options.drop_path_rate = 0.1. "
        "For models of timm and torchvision, and your own.",
    )
    weights: str | None = None
    image_size: int | None = Field(
        default=None,
        ge=4,
        le=4096,
        description="Height and width to which images are resampled for this model; default: that "
        "of its library's weights, or the dataset's.",
    )
    mean: Floats | None = Field(
        None, description="Mean of each channel for this model; default: as image_size."
    )
    std: Floats | None = Field(
        None, description="Standard deviation of each channel for this model; default: as mean."
    )

    embedding: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Dimensions of the embedding that the model ends in (task embedding).",
    )
    normalize: bool = Field(False, description="Scale embeddings to length 1 (task embedding).")

    _std_is_positive = field_validator("std")(check_positive)

    @property
    def given_options(self) -> dict[str, Any]:
        """The options; there may be none."""
        return dict(self.options or {})

    @property
    def embedding_facts(self) -> dict[str, Any]:
        """What records and files say of the embedding, if there is one."""
        if self.embedding is None:
            return {}
        return {"embedding": self.embedding, "normalize": self.normalize}

    def outputs(self, classes: int) -> int:
        """Return the size of the last layer: that of the embedding, or the number of classes."""
        return self.embedding or classes

    @property
    def described(self) -> str:
        """The model with its options, and its embedding if it has one: words that identify it."""
        if self.embedding is None:
            return describe_model(self.model, self.given_options)
        own = {key: value for key, value in self.embedding_facts.items() if value}
        return describe_model(self.model, self.given_options | own)

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def describe_model(model: str, options: dict[str, Any]) -> str:
    """Return ``timm:NAME (drop_path_rate=0.1)``, or the name alone."""
    texts = [f"{name}={_option_text(value)}" for name, value in sorted(options.items())]
    return f"{model} ({', '.join(texts)})" if texts else model


def _option_text(value: Any) -> str:
    return f"[{value_text(value)}]" if isinstance(value, tuple) else value_text(value)
