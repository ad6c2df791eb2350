"""What a row of logits is: the tasks, and the one of an experiment."""

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.tasks import detector_kind
from rkkd_cli.tasks.classification import Classification
from rkkd_cli.tasks.detection import Detection
from rkkd_cli.tasks.embedding import Embedding
from rkkd_cli.tasks.task import Task

__all__ = ["CLASSIFICATION_TASK", "Classification", "Detection", "Embedding", "Task", "task_for"]

CLASSIFICATION_TASK: Task = Classification()


def task_for(experiment: Experiment) -> Task:
    """Return the task of the experiment, with its settings."""
    if experiment.task == "embedding":
        return Embedding(experiment.triplet)
    if experiment.task == "detection":
        kind = detector_kind(experiment.student.model)
        assert kind is not None
        # The anchors of objects are the same, whoever proposes them.
        shares = experiment.detection.proposals == "teacher" and kind == "fasterrcnn"
        return Detection(kind, shares_proposals=shares)
    return CLASSIFICATION_TASK
