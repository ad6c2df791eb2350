"""What is allowed in a checked experiment, but is probably not what was meant."""

from collections.abc import Iterable, Iterator, Sequence

from rkkd_cli.config.cache_modes import kept_classes
from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.methods import METHODS, PLUGIN_SECTION, reads_alpha
from rkkd_cli.models.external.timm_models import timm_fixed_size
from rkkd_cli.sweep.check import CheckedStream
from rkkd_cli.sweep.datasets import dataset_request

DEFAULT_ALPHA = MethodConfig().alpha


def doubts(streams: Sequence[CheckedStream]) -> list[str]:
    """Return a sentence for each doubt about the streams of an experiment."""
    methods = [arm.experiment.method for stream in streams for arm in stream.arms]
    of_streams = (
        sentence
        for stream in streams
        for sentence in (
            *_large_batches(stream),
            *_other_sizes(stream),
            *_trained_on(stream),
            *_top_classes(stream),
        )
    )
    ranks = [arm.experiment.rank for stream in streams for arm in stream.arms]
    return list(dict.fromkeys([*of_streams, *unused_settings(methods), *_unused_weights(ranks)]))


def _unused_weights(ranks: Sequence[RankConfig]) -> Iterator[str]:
    """Yield a sentence for several weights of a ranking loss that no arm optimises."""
    if len({config.weight for config in ranks}) > 1 and not any(one.grad for one in ranks):
        yield (
            "the values of rank.weight make no difference: every arm only logs the ranking loss; "
            "add rank.grad=true"
        )


def unused_settings(methods: Sequence[MethodConfig]) -> Iterator[str]:
    """Yield a sentence for each setting of a method that no arm reads."""
    used = {config.name if config.name in METHODS else PLUGIN_SECTION for config in methods}
    sections = dict.fromkeys(section for config in methods for section in config.settings)
    for section in sections:
        if section not in used:
            whose = "of your own" if section == PLUGIN_SECTION else section
            yield f"the settings method.{section} have no effect: no arm has a method {whose}"
    alphas = {config.alpha for config in methods} - {DEFAULT_ALPHA}
    if alphas and not any(map(reads_alpha, methods)):
        yield (
            f"method.alpha = {_listed(alphas)} has no effect: no arm's method weighs CE and KL by "
            "it; ce_weight and kl_weight set the weights of every method"
        )


def _large_batches(stream: CheckedStream) -> Iterator[str]:
    """Yield a sentence for a batch that is larger than the training split."""
    experiment, images = stream.experiment, stream.dataset.train_images
    for key, size in _batch_sizes(stream):
        if size > images:
            yield (
                f"{key} = {size} is more than the {images:,} training images of "
                f"{experiment.dataset.name}: each pass over them is a single step"
            )


def _other_sizes(stream: CheckedStream) -> Iterator[str]:
    """Yield a sentence for a transformer of timm that is built for another size than its own."""
    for config, checked in stream.models.items():
        library, _, name = config.model.partition(":")
        if library != "timm" or config.image_size is not None:
            continue
        size, own = checked.input.own.size, timm_fixed_size(name)
        if own is not None and own != size:
            yield (
                f"{config.model} is made for {own[1]}×{own[0]} images and is built for "
                f"{size[1]}×{size[0]} here; {config.role}.image_size={own[0]} resamples them"
            )


def _trained_on(stream: CheckedStream) -> Iterator[str]:
    """Yield a sentence for embeddings that are tested on the classes that are trained on."""
    experiment = stream.experiment
    if experiment.task == "embedding" and not dataset_request(experiment).is_split_by_class:
        yield (
            f"the embeddings are tested on the classes of {experiment.dataset.name} that they are "
            "trained on; dataset.classes.train and dataset.classes.test, such as 0:5 and 5:10, "
            "test on others"
        )


def _top_classes(stream: CheckedStream) -> Iterator[str]:
    """Yield a sentence for columns of training that are not what those of held-out images are."""
    mode = stream.experiment.cache_teacher
    kept = kept_classes(mode)
    if kept is not None:
        yield (
            f"with cache_teacher = {mode}, kl in training is over {kept} of "
            f"{stream.dataset.num_classes} classes and one bin for the others, and rank and "
            "kendall_tau are over those classes; on held-out images kl and kendall_tau are over "
            "all, and rank is over its channels of all"
        )


def _batch_sizes(stream: CheckedStream) -> Iterator[tuple[str, int]]:
    yield "training.batch_size", stream.experiment.training.batch_size
    for section, teacher in stream.experiment.teacher_sections.items():
        if teacher in stream.recipes:
            yield f"{section}.training.batch_size", stream.recipes[teacher].batch_size


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values))
