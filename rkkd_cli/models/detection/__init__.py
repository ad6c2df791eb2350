"""Detectors: boxes, classes and scores of the objects in images, on torchvision's networks.

Names: ``fasterrcnn:BACKBONE``, ``retinanet:BACKBONE``, ``fcos:BACKBONE``, ``torchvision:NAME`` and
``detectron2:NAME``. Shapes: :mod:`rkkd_cli.models.detection.detector`.
"""

from rkkd_cli.models.detection.backbone_weights import load_backbone, load_backbone_file
from rkkd_cli.models.detection.build import backbone_of, build_detector, check_detector_name
from rkkd_cli.models.detection.detector import Detections, Detector, DetectorOutputs, Regions
from rkkd_cli.models.detection.published import (
    load_detector,
    published_detector,
    read_detector_file,
    restrict_classes,
)

__all__ = [
    "Detections",
    "Detector",
    "DetectorOutputs",
    "Regions",
    "backbone_of",
    "build_detector",
    "check_detector_name",
    "load_backbone",
    "load_backbone_file",
    "load_detector",
    "published_detector",
    "read_detector_file",
    "restrict_classes",
]
