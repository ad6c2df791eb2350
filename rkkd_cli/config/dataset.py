"""The section ``dataset`` of an experiment."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator, model_validator

from rkkd_cli.config.frozen import Floats, FrozenConfig, check_positive
from rkkd_cli.config.value_lists import parse_classes, seeds_text, split_list

# The keys of a recipe for the images of any dataset, unlike its size, crops and mean.
AUGMENTATION_KEYS = ("auto_augment", "ra_magnitude", "ra_num_ops", "color_jitter", "random_erase",
                     "mixup_alpha", "cutmix_alpha")  # fmt: skip


Classes = Annotated[
    tuple[int, ...],
    BeforeValidator(parse_classes),
    PlainSerializer(seeds_text, return_type=str),
]


def _read_sides(sides: Any) -> Any:
    """Return one side as a tuple of it. Raises ValueError for sides that no image has."""
    if sides is None:
        return None
    if isinstance(sides, str):
        sides = split_list(sides)
    given = tuple(sides) if isinstance(sides, list | tuple) else (sides,)
    if not all(isinstance(side, int) and 32 <= side <= 65536 for side in given):
        raise ValueError("must be pixels, from 32 to 65536, such as 800 or [640, 800]")
    return given


class ClassesConfig(FrozenConfig):
    """The classes to train on, and the others, to test on: ``0:50`` has 0 to 49.

    Classes have numbers from 0 on, in the order of the dataset; those of folders are sorted by
    name. The images of the former come from the training split, and of the latter from the test
    split. What was published without a test split (digits, class folders alone, ``cub200``,
    ``cars196``, ``sop``) has all images of a class.
    """

    train: Classes = Field(description="The numbers of the classes to train on, such as 0:50.")
    test: Classes = Field(description="The numbers of the classes to test on, such as 50:100.")

    @model_validator(mode="after")
    def _halves_are_disjoint(self) -> Self:
        shared = set(self.train) & set(self.test)
        if shared:
            raise ValueError(
                f"class {min(shared)} is in both train and test; what is tested on must not be "
                "trained on"
            )
        return self


class DatasetConfig(FrozenConfig):
    """The images, how many of them are used, and their augmentation.

    ``root``: the folder of the images or downloads, as seen from the folder in which rkkd runs.
    ``classes``: trains on some classes, and tests on others (for task = 'embedding'). ``val_share``
    then holds out images of the former, and the test and validation images are shuffled, with
    ``split_seed``.
    ``resize``: how a folder's images of another shape are made to fit image_size. ``crop``: the
    shorter side is scaled to it, and the centre is cropped. ``squash``: both sides are scaled to
    it. ``pad``: the longer side is, and black fills the rest.
    ``crop_padding``, ``flip``, ``mean``, ``std``: default to the usual values for the dataset. For
    ``digits`` and ``folder``, mean and std are measured on the training images.
    ``val_share``: share of the training images held out for validation. A folder's own validation
    images are used instead.
    ``test_share``: share of the images of a folder held out for testing, drawn with ``split_seed``.
    A folder's own test images are used instead.
    ``streaming``: read an image folder from the disk batch by batch, instead of holding it in
    memory. None: if its decoded images would take more than 4 GiB. A streamed folder has
    image_size = 224 and ImageNet's mean and std by default.
    ``crop``: how training images are cropped. ``padded``: a random window of the padded centre
    crop. ``resized``: a crop of random area and aspect ratio, scaled to image_size; the default for
    streamed images with resize = 'crop'. An image folder is then streamed unless streaming is
    false, and held-out images are scaled to image_size·256/224 and their centre is cropped.
    ``window``: a random window of the image scaled like that; streamed images only.

    The keys from ``auto_augment`` on follow the crop and the flip, in that order, by the rules of
    torchvision's reference scripts. They change no held-out image.
    """

    name: str
    root: str | None = None
    classes: ClassesConfig | None = None
    image_size: int | None = Field(
        default=None, ge=4, le=4096, description="Height and width of an image folder's images."
    )
    crop_padding: int | None = Field(
        default=None,
        ge=0,
        le=4096,
        description="Pixels around an image for crops; default: the usual.",
    )
    flip: bool | None = Field(
        None, description="Flip half of the training images; default: the usual."
    )
    mean: Floats | None = Field(
        None, description="Mean of each channel; default: published, or measured."
    )
    std: Floats | None = Field(
        None, description="Standard deviation of each channel; default: as mean."
    )
    limit_train: int | None = Field(default=None, ge=1)
    limit_test: int | None = Field(default=None, ge=1)
    val_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    test_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    split_seed: int = Field(
        default=0,
        ge=0,
        description="Seed that draws the images of test_share, or shuffles those held out from "
        "classes.",
    )
    min_size: Annotated[tuple[int, ...] | None, BeforeValidator(_read_sides)] = Field(
        default=None,
        description="Shorter side of a detector's images, in pixels; of several, each training "
        "image has a random one, held-out images the largest; []: as they are; default: the "
        "dataset's usual.",
    )
    max_size: int = Field(1333, ge=32, le=65536, description="Longest side of a detector's images.")
    resize: Literal["crop", "squash", "pad"] = "crop"
    follow_links: bool = Field(False, description="Allow links that lead out of an image folder.")
    streaming: bool | None = None
    crop: Literal["padded", "resized", "window"] | None = Field(
        None,
        description="Training crops: a window of the padded image, one of random area, scaled, or "
        "a window of the scaled image.",
    )
    auto_augment: Literal["rand", "trivial"] | None = Field(
        None, description="RandAugment or TrivialAugment (wide), as torchvision's."
    )
    ra_magnitude: int | None = Field(
        None, ge=0, le=30, description="RandAugment's magnitude, of 30; default: 9."
    )
    ra_num_ops: int | None = Field(
        None, ge=1, le=14, description="RandAugment's operations for each image; default: 2."
    )
    color_jitter: Floats | None = Field(
        None,
        description="Spread of brightness, contrast and saturation: 0.4, or a number each; "
        "a fourth one is that of the hue.",
    )
    random_erase: float = Field(
        0.0, ge=0, le=1, description="Share of the training images from which a box is erased."
    )
    mixup_alpha: float = Field(
        0.0,
        ge=0,
        le=1e9,
        description="Mix images, λ ~ Beta(α, α); 0: off. train_acc counts the class of the larger "
        "share, agreement compares predictions for the mixed image.",
    )
    cutmix_alpha: float = Field(
        0.0,
        ge=0,
        le=1e9,
        description="The same by a box of the other image; of mixup and cutmix each takes half of "
        "the batches.",
    )

    @property
    def of_classes(self) -> list[str]:
        """The settings that are given and act on images of one size with a class each."""
        keys = ("classes", "image_size", "crop_padding", "crop", "resize", "streaming",
                "follow_links", *AUGMENTATION_KEYS)  # fmt: skip
        fields = type(self).model_fields
        return [key for key in keys if getattr(self, key) != fields[key].default]

    @model_validator(mode="after")
    def _only_padded_crops_have_padding(self) -> Self:
        if self.crop not in ("resized", "window"):
            return self
        if self.crop_padding is not None:
            raise ValueError(
                f"crop_padding = {self.crop_padding} belongs to crop = 'padded'; with crop = "
                f"{self.crop!r} leave it out (`rkkd cp` copies a preset that has it)"
            )
        if self.resize != "crop":
            raise ValueError(
                f"resize = {self.resize!r} keeps whole images, and crop = {self.crop!r} cuts parts "
                "out of them; leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _classes_are_held_out_whole(self) -> Self:
        if self.classes is not None and self.test_share:
            raise ValueError(
                f"test_share = {self.test_share} holds out a part of each class, and classes whole "
                "ones; leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _settings_of_rand_augment(self) -> Self:
        for key in ("ra_magnitude", "ra_num_ops"):
            value = getattr(self, key)
            if value is not None and self.auto_augment != "rand":
                raise ValueError(
                    f"{key} = {value} is RandAugment's; add auto_augment = 'rand', or leave it out"
                )
        return self

    @field_validator("color_jitter")
    @classmethod
    def _jitters(cls, spread: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if spread is None:
            return None
        if len(spread) not in (1, 3, 4):
            raise ValueError(
                "must be one number, or those of brightness, contrast and saturation, and of hue"
            )
        if min(spread) < 0 or max(spread[3:], default=0.0) > 0.5:
            raise ValueError("must be 0 or more, and of the hue at most 0.5")
        return spread

    _std_is_positive = field_validator("std")(check_positive)
