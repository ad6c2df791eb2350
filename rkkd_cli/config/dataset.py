"""The section ``dataset`` of an experiment."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rkkd_cli.config.frozen import Floats, FrozenConfig, check_positive


class DatasetConfig(FrozenConfig):
    """The images, how many of them are used, and their augmentation.

    ``root``: the folder of the images or downloads, as seen from the folder in which rkkd runs.
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
    crop. ``resized``: a crop of random area and aspect ratio, scaled to image_size; needs
    streaming, and is the default there with resize = 'crop'. Held-out images are then scaled to
    image_size·256/224, and their centre is cropped.
    """

    name: str
    root: str | None = None
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
        default=0, ge=0, description="Seed that draws the images of test_share."
    )
    resize: Literal["crop", "squash", "pad"] = "crop"
    follow_links: bool = Field(False, description="Allow links that lead out of an image folder.")
    streaming: bool | None = None
    crop: Literal["padded", "resized"] | None = Field(
        None,
        description="Training crops: a window of the padded image, or one of random area, scaled.",
    )

    @model_validator(mode="after")
    def _resized_crops_need_streaming(self) -> Self:
        if self.crop == "resized" and self.crop_padding is not None:
            raise ValueError(
                f"crop_padding = {self.crop_padding} belongs to crop = 'padded'; with crop = "
                "'resized' leave it out (`rkkd cp` copies a preset that has it)"
            )
        if self.crop == "resized" and self.resize != "crop":
            raise ValueError(
                f"resize = {self.resize!r} keeps whole images, and crop = 'resized' cuts parts out "
                "of them; leave one of the two out"
            )
        if self.crop == "resized" and self.streaming is False:
            raise ValueError(
                "crop = 'resized' crops images of full size, which are not held in memory; leave "
                "streaming = false out"
            )
        return self

    _std_is_positive = field_validator("std")(check_positive)
