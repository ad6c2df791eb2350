"""What a step is recorded as: its terms, metrics and diagnostics, on the device."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rkkd_cli.methods import Objective
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.metrics.batch import measure, rows_of
from rkkd_cli.train.metrics.gradients import diagnose
from rkkd_cli.train.regions import AnyTaught
from rkkd_cli.train.taught_batch import Compared, StepOutput, TaughtBatch


def record_metrics(
    arms: Sequence[ArmOnStream],
    outputs: Sequence[StepOutput],
    taught: AnyTaught,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Add the terms and metrics of a step, over all ranks, to the meters of its arms.

    All of this runs on the device. ``meters.images`` is left to the caller.
    """
    method_terms = [terms for output in outputs for terms in output.method_terms]
    batch, of_arms = taught.batch, list[tuple[Tensor, Tensor]]()
    for objectives, outputs_of_them, compared in _compared_together(arms, outputs, taught):
        metrics = measure(
            arms[0].task,
            objectives,
            [objective.hard for objective in objectives],
            outputs_of_them,
            compared.teacher,
            compared.targets,
        )
        if compared.hard is not None:
            metrics.means[:, 0] = compared.hard
        counted = arms[0].task.counts_in_training
        of_arms += [metrics.of_arm(arm, counted) for arm in range(len(objectives))]
    means: Sequence[Tensor] = [
        torch.cat([row, *(value.to(row.dtype)[None] for value in terms.values())])
        for (row, _), terms in zip(of_arms, method_terms, strict=True)
    ]
    correct: Sequence[Tensor] = [counts for _, counts in of_arms]
    means, correct = process_group.reduce_metrics(means, correct, batch)
    for arm, arm_means, arm_correct in zip(arms, means, correct, strict=True):
        arm.meters.accumulate(arm_means, arm_correct, batch.total)


def _compared_together(
    arms: Sequence[ArmOnStream], outputs: Sequence[StepOutput], taught: AnyTaught
) -> Iterator[tuple[list[Objective], list[Tensor], Compared]]:
    """Yield the arms whose rows are compared with the same: objectives, outputs (A, B, D), and it.

    These are all arms, or each of them.
    """
    objectives = [arm.objective for arm in arms]
    if all(output.compared is None for output in outputs):
        assert isinstance(taught, TaughtBatch)
        yield objectives, [output.outputs for output in outputs], taught.compared
        return
    for objective, output in zip(objectives, outputs, strict=True):
        assert output.compared is not None
        yield [objective], [output.outputs], output.compared


def record_gradients(
    arms: Sequence[ArmOnStream],
    outputs: Sequence[StepOutput],
    taught: AnyTaught,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Add the logit diagnostics of a step, over all ranks, to those of its arms."""
    rows: list[Tensor] = []
    for objectives, outputs_of_them, compared in _compared_together(arms, outputs, taught):
        logits = rows_of(arms[0].task, outputs_of_them)
        rows += diagnose(objectives, logits, compared.teacher)
    no_counts = [rows[0].new_empty(0, dtype=torch.int64)] * len(arms)
    means, counts = process_group.reduce_metrics(rows, no_counts, taught.batch)
    for arm, arm_means, arm_counts in zip(arms, means, counts, strict=True):
        arm.diagnostics.add(arm_means, arm_counts, taught.batch.total)
