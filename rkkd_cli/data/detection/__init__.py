"""Images with boxes: COCO, Pascal VOC and scenes made from seeds, and their batches."""
