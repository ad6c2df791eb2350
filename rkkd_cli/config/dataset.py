"""The section ``dataset`` of an experiment."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rkkd_cli.config.frozen import Floats, FrozenConfig


class DatasetConfig(FrozenConfig):
    """Which images, how many of them, and how they are augmented.

    ``crop_padding``, ``flip``, ``mean`` and ``std`` default to what the field uses for the
    dataset; for ``digits`` and ``folder`` mean and std are measured on the training images.
    ``follow_links`` lets links lead out of an image folder.

    ``streaming``: an image folder is read from the disk batch by batch instead of being held in
    memory (None: where its decoded images would take more than 4 GiB). ``crop`` is how training
    images are cut: ``padded``, a window of the padded middle of the image, or ``resized``, a crop
    of random area and shape, which needs streaming and is its default; held-out images are then
    scaled to image_size·256/224 before their middle is cut out. Of a stream ``image_size``
    defaults to 224, mean and std to ImageNet's.
    """

    name: str
    root: str | None = None
    image_size: int | None = Field(default=None, ge=4, le=4096)
    crop_padding: int | None = Field(default=None, ge=0)
    flip: bool | None = None
    mean: Floats | None = None
    std: Floats | None = None
    limit_train: int | None = Field(default=None, ge=1)
    limit_test: int | None = Field(default=None, ge=1)
    val_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    follow_links: bool = False
    streaming: bool | None = None
    crop: Literal["padded", "resized"] | None = None

    @model_validator(mode="after")
    def _resized_crops_of_whole_images(self) -> Self:
        if self.crop == "resized" and self.crop_padding is not None:
            raise ValueError(
                f"crop_padding = {self.crop_padding} is for padded crops; with crop = 'resized' "
                "leave it out (`rkkd cp` copies a preset that has it)"
            )
        if self.crop == "resized" and self.streaming is False:
            raise ValueError(
                "crop = 'resized' cuts crops out of whole images, which are not held in memory; "
                "leave streaming = false out"
            )
        return self

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if std is not None and min(std, default=1.0) <= 0:
            raise ValueError("must be greater than 0 for every channel")
        return std
