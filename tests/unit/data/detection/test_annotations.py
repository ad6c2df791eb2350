"""The objects of many images in flat arrays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rkkd_cli.data.detection.annotations import Annotations, by_image


def annotations(counts: list[int]) -> Annotations:
    """So many objects of each image, in any order of the images; box i has the corner i."""
    generator = np.random.default_rng(0)
    image_of = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    numbers = np.arange(len(image_of), dtype=np.float64)
    boxes = np.stack((numbers, numbers, numbers + 5, numbers + image_of + 1), axis=1)
    crowd = numbers % 3 == 0
    return by_image(image_of, boxes, image_of % 4, numbers, crowd, len(counts))


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=8), data=st.data())
def test_images_keep_their_objects(counts: list[int], data: st.DataObject) -> None:
    whole = annotations(counts)
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=6))
    part = whole.take(np.array(chosen, np.int64))
    assert len(part) == len(chosen)
    for place, index in enumerate(chosen):
        objects, same = whole.objects(index), part.objects(place)
        assert len(objects.labels) == counts[index]
        assert (objects.boxes[:, 3] - objects.boxes[:, 1] == index + 1).all()
        assert (objects.labels == index % 4).all()
        for values, others in zip(objects, same, strict=True):
            assert values.equal(others)
    assert part.image_of.tolist() == [
        place for place, index in enumerate(chosen) for _ in range(counts[index])
    ]
    assert whole.can_be_trained_on.tolist() == [
        any(
            not crowd and y1 - y0 > 1
            for crowd, (_, y0, _, y1) in zip(objects.crowd, objects.boxes, strict=True)
        )
        for objects in map(whole.objects, range(len(counts)))
    ]
