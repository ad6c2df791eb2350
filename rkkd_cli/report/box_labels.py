"""Where the texts beside boxes stand, so that they hide little."""

from collections.abc import Iterator, Sequence

Rectangle = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels, y downwards


def place_labels(
    boxes: Sequence[Rectangle], sizes: Sequence[tuple[float, float]], width: float, height: float
) -> list[Rectangle]:
    """Return a rectangle for the label of each box, in an image of this width and height.

    ``sizes``: width and height of each label. One after another they take the place in which they
    cover least of the labels so far, of the boxes' edges, and of what is in the boxes.
    """
    placed: list[Rectangle] = []
    for box, size in zip(boxes, sizes, strict=True):
        places = [_inside(place, width, height) for place in _places(box, size)]
        placed.append(min(places, key=lambda place: _cost(place, placed, boxes)))
    return placed


def _places(box: Rectangle, size: tuple[float, float]) -> Iterator[Rectangle]:
    """Yield places above, below, beside and inside a box, the usual ones first."""
    x0, y0, x1, y1 = box
    width, height = size
    lefts = (x0, x1 - width, (x0 + x1 - width) / 2)
    for top in (y0 - height, y1):
        for left in lefts:
            yield left, top, left + width, top + height
    for left in (x1, x0 - width):
        for top in (y0, y1 - height):
            yield left, top, left + width, top + height
    for top in (y0, y1 - height):
        for left in lefts:
            yield left, top, left + width, top + height


def _inside(place: Rectangle, width: float, height: float) -> Rectangle:
    """Return the place, moved into the image."""
    x0, y0, x1, y1 = place
    across = max(-x0, 0.0) - max(x1 - width, 0.0)
    down = max(-y0, 0.0) - max(y1 - height, 0.0)
    return x0 + across, y0 + down, x1 + across, y1 + down


def _cost(place: Rectangle, placed: Sequence[Rectangle], boxes: Sequence[Rectangle]) -> float:
    """Return how much a label would hide: other labels count most, then edges, then insides."""
    hidden = 10 * sum(_common(place, other) for other in placed)
    for box in boxes:
        x0, y0, x1, y1 = box
        edges = ((x0, y0, x1, y0), (x0, y1, x1, y1), (x0, y0, x0, y1), (x1, y0, x1, y1))
        hidden += sum(_hidden_length(place, edge) for edge in edges)
        hidden += 0.2 * _common(place, box)
    return hidden


def _common(one: Rectangle, other: Rectangle) -> float:
    """Return the area that two rectangles share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _hidden_length(place: Rectangle, edge: Rectangle) -> float:
    """Return how much of an edge lies strictly within a place."""
    x0, y0, x1, y1 = edge
    if y0 == y1:
        within = place[1] < y0 < place[3]
        return within * max(0.0, min(place[2], x1) - max(place[0], x0))
    within = place[0] < x0 < place[2]
    return within * max(0.0, min(place[3], y1) - max(place[1], y0))
