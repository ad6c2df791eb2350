"""Writes a trained student as safetensors, as an ONNX graph, or as PyTorch's exported program.

A graph is compared with the network on random images before it is written.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import Dim

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.installation import install_command
from rkkd_cli.sweep.students.student import Student
from rkkd_cli.train.teacher.safetensors_files import METADATA_PREFIX

INPUT, OUTPUT = "images", "logits"
TOLERANCE = 1e-4  # of logits, absolute and relative
BATCHES = (1, 2, 3)  # images of the batches on which a graph is compared
FACTS_FILE = "rkkd.json"  # inside an exported program
NEEDS_ONNX = ("onnx", "onnxscript", "onnxruntime")

Logits = Callable[[Tensor], Tensor]


class ExportedFile(NamedTuple):
    """The content of a file, and the largest difference of its logits from the network's.

    The difference is None for the weights alone.
    """

    content: bytes
    difference: float | None


def export_weights(student: Student) -> ExportedFile:
    """Return the run's own file: all weights, with the facts as metadata."""
    return ExportedFile(student.path.read_bytes(), None)


def export_program(student: Student) -> ExportedFile:
    """Return PyTorch's exported program (``.pt2``), which needs no code of the network.

    Raises RunError if the network cannot be exported, or gives other logits then.
    """
    program, content = _exported(student), io.BytesIO()
    facts = json.dumps(dict(student.metadata), ensure_ascii=False)
    torch.export.save(program, content, extra_files={FACTS_FILE: facts})
    content.seek(0)
    restored = torch.export.load(content).module()
    return ExportedFile(content.getvalue(), _compare(student, restored))


def export_onnx(student: Student) -> ExportedFile:
    """Return an ONNX graph from ``images`` (N, channels, H, W), normalised, to ``logits``.

    Raises UserError if a package of the extra is missing, RunError as :func:`export_program`.
    """
    _check_installed()
    import onnx
    from onnxruntime import InferenceSession

    proto = _onnx_proto(student)
    facts = {f"{METADATA_PREFIX}{key}": text for key, text in student.metadata.items()}
    onnx.helper.set_model_props(proto, facts)
    content = proto.SerializeToString()
    session = InferenceSession(content, providers=["CPUExecutionProvider"])

    def logits(images: Tensor) -> Tensor:
        (values,) = session.run([OUTPUT], {INPUT: images.numpy()})
        return torch.from_numpy(values)

    return ExportedFile(content, _compare(student, logits))


EXPORTERS: dict[str, Callable[[Student], ExportedFile]] = {
    ".safetensors": export_weights,
    ".onnx": export_onnx,
    ".pt2": export_program,
}


def example_images(student: Student, count: int) -> Tensor:
    """Return random normalised images."""
    generator, facts = torch.Generator().manual_seed(count), student.facts
    return torch.randn(count, facts.channels, *facts.size, generator=generator)


def _exported(student: Student) -> torch.export.ExportedProgram:
    """Return the network as a graph for any number of images.

    Without ``strict`` Python runs the network, with it TorchDynamo reads it: each can do what the
    other cannot (``len(x)`` of a batch, the hooks by which SimKD reads a library's network).
    """
    if student.experiment.task == "detection":
        raise UserError(
            f"{student.name} is a detector, whose boxes depend on what it sees, so that PyTorch "
            "cannot trace it as a graph; export its weights, as .safetensors"
        )
    images, reasons = example_images(student, 2), []
    for strict in (False, True):
        try:
            with _silence():
                return torch.export.export(
                    student.module, (images,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=strict
                )
        except Exception as error:  # tracing a user's code may raise anything
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reasons.append(f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}")
    raise RunError(
        f"{student.experiment.student.model} cannot be exported as a graph ({reasons[0]}); export "
        "its weights, as .safetensors"
    )


def _onnx_proto(student: Student) -> Any:
    """Return the graph as ONNX has it. Raises RunError if PyTorch cannot translate it."""
    program = _exported(student)
    try:
        with _silence():
            translated = torch.onnx.export(
                program, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
            )
    except Exception as error:  # the exporter's errors are of many kinds
        raise RunError(
            f"PyTorch {torch.__version__} cannot write {student.experiment.student.model} as an "
            f"ONNX graph ({type(error).__name__}); export it as .pt2, or take a newer PyTorch"
        ) from None
    assert translated is not None
    return translated.model_proto


@contextmanager
def _silence() -> Iterator[None]:
    """Keep back what PyTorch's exporters log, also of what they try in vain."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _compare(student: Student, logits: Logits) -> float:
    """Return the largest difference of logits. Raises RunError if it is above the tolerance."""
    largest = 0.0
    for count in BATCHES:
        images = example_images(student, count)
        with torch.no_grad():
            expected, exported = student.module(images), logits(images)
        difference = float((expected - exported).abs().max())
        if not torch.allclose(exported, expected, rtol=TOLERANCE, atol=TOLERANCE):
            raise RunError(
                f"the exported graph of {student.name} gives other logits than the network, by "
                f"{difference:.2g} on a batch of {count}; export its weights, as .safetensors"
            )
        largest = max(largest, difference)
    return largest


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in NEEDS_ONNX if find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX needs {', '.join(missing)}; install what it needs: {install_command('onnx')}"
        )
