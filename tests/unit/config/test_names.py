"""What is listed without torch is what there is."""

import pytest
import torch

from rkkd_cli import losses, methods, models
from rkkd_cli.config import names
from rkkd_cli.config.methods import METHODS
from rkkd_cli.data.catalogue import DATASETS
from rkkd_cli.data.detection.reading import DETECTION_SETS


def test_the_zoo_is_listed_with_its_parameters() -> None:
    with torch.device("meta"):
        built = {name: models.build_model(name, num_classes=100) for name in models.MODELS}
    counts = {name: models.count_parameters(model) for name, model in built.items()}
    assert list(counts.items()) == list(names.MODELS.items())


def test_surrogates_are_listed_with_their_formulas() -> None:
    formulas = {name: function.__doc__ for name, function in losses.SURROGATES.items()}
    assert formulas == names.SURROGATES


def test_datasets_are_listed_with_their_descriptions() -> None:
    of_classes = {name: spec.description for name, spec in DATASETS.items()}
    of_objects = {name: spec.description for name, spec in DETECTION_SETS.items()}
    assert of_classes | of_objects == names.DATASETS


def test_methods_are_listed_with_their_objectives_and_settings() -> None:
    assert list(methods.METHODS) == list(METHODS)
    for name, method in methods.METHODS.items():
        assert (method.__doc__ or "").partition("\n")[0] == METHODS[name].objective
        assert method.Config is METHODS[name].settings


@pytest.mark.parametrize("library", names.LIBRARIES)
def test_the_models_of_a_library_are_read_from_its_source(library: str) -> None:
    pytest.importorskip(library)
    assert names.library_models(library) == sorted(models.LIBRARIES[library]())


def test_the_same_libraries_are_listed() -> None:
    assert list(names.LIBRARIES) == list(models.LIBRARIES)
    assert names.library_models("no_such_library") == []
