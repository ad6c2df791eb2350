"""What detectors find, as the file of it that a run keeps."""

from rkkd_cli.records.detections import DetectedScene, DetectionSheet, FoundBoxes, PresentBoxes
from rkkd_cli.train.events import Detected, FoundInScene


def detection_sheet(event: Detected) -> DetectionSheet:
    """Return the sheet of an arm."""
    scenes = [_scene(scene) for scene in event.scenes]
    return DetectionSheet(event.arm, event.seed, event.epoch, event.class_names, scenes)


def _scene(scene: FoundInScene) -> DetectedScene:
    objects, teacher, student = scene.student, scene.teacher, scene.student
    return DetectedScene.of(
        scene.number,
        scene.pixels,
        PresentBoxes(objects.object_boxes, objects.object_labels, objects.crowd),
        FoundBoxes(teacher.boxes, teacher.labels, teacher.scores),
        FoundBoxes(student.boxes, student.labels, student.scores),
    )
