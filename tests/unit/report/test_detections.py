"""The sheet of detections: which are right, what is drawn beside what, and its numbers."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from report_runs import made_run

from rkkd_cli.errors import UserError
from rkkd_cli.records.detections import (
    DetectedScene,
    DetectionSheet,
    FoundBoxes,
    PresentBoxes,
    detections_path,
)
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.box_labels import place_labels
from rkkd_cli.report.detection_picture import DetectionPicture, match_boxes, read_detections
from rkkd_cli.report.detections import (
    MISSED,
    OBJECT,
    RIGHT,
    WRONG,
    BoxStyle,
    detections_figure,
)
from rkkd_cli.report.figures import figures_of_runs, save_figures
from rkkd_cli.report.page.detections import detection_context, detection_table

CAT, DOG = 0, 1
NAMES = ("cat", "dog")
FIRST, SECOND = (2.0, 3.0, 22.0, 23.0), (30.0, 3.0, 50.0, 23.0)
NEAR = (4.0, 3.0, 24.0, 23.0)  # IoU with the first 18 / 22
FAR = (15.0, 3.0, 35.0, 23.0)  # IoU with the first 7 / 33
Box = tuple[float, float, float, float]


def found(*boxes: tuple[Box, int, float]) -> FoundBoxes:
    corners, labels, scores = ([box[part] for box in boxes] for part in range(3))
    return FoundBoxes(
        np.array(corners, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
    )


def present(*boxes: tuple[Box, int], crowd: tuple[bool, ...] = ()) -> PresentBoxes:
    corners, labels = ([box[part] for box in boxes] for part in range(2))
    crowds = np.array(crowd or [False] * len(boxes), np.bool_)
    return PresentBoxes(
        np.array(corners, np.float32).reshape(-1, 4), np.array(labels, np.int64), crowds
    )


OBJECTS = present((FIRST, CAT), (SECOND, DOG))
BOTH = found((FIRST, CAT, 0.9), (SECOND, DOG, 0.8))
ONE = found((NEAR, CAT, 0.75), (SECOND, CAT, 0.5))


def made_sheet(
    arm: str, student: FoundBoxes = ONE, teacher: FoundBoxes = BOTH, shade: int = 9, epoch: int = 9
) -> DetectionSheet:
    pixels = np.full((40, 60, 3), shade, np.uint8)
    scene = DetectedScene.of(4, pixels, OBJECTS, teacher, student)
    return DetectionSheet(arm, 0, epoch, NAMES, [scene])


def picture_of(*sheets: DetectionSheet) -> DetectionPicture:
    return DetectionPicture.of([(sheet.arm, sheet) for sheet in sheets])


@pytest.mark.parametrize(
    ("detections", "right", "is_found"),
    [
        (BOTH, [True, True], [True, True]),
        (ONE, [True, False], [True, False]),  # the second is of another class
        (found((FAR, CAT, 0.9)), [False], [False, False]),
        (found((NEAR, CAT, 0.9), (FIRST, CAT, 0.8)), [True, False], [True, False]),  # twice
        (found(), [], [False, False]),
    ],
)
def test_right_is_what_finds_an_object_of_its_class(
    detections: FoundBoxes, right: list[bool], is_found: list[bool]
) -> None:
    matches = match_boxes(detections, OBJECTS)
    assert (matches.right.tolist(), matches.found.tolist()) == (right, is_found)


def test_each_detection_takes_the_object_it_fits_best() -> None:
    objects = present((FIRST, CAT), (NEAR, CAT))
    matches = match_boxes(found((NEAR, CAT, 0.9), (NEAR, CAT, 0.8)), objects)
    assert matches.right.tolist() == [True, True]


def test_detections_in_a_crowd_are_not_wrong() -> None:
    crowd = present((FIRST, CAT), crowd=(True,))
    inside, small = (FIRST, CAT, 0.9), ((5.0, 5.0, 9.0, 9.0), CAT, 0.8)
    matches = match_boxes(found(inside, small, (FAR, CAT, 0.7), (FIRST, DOG, 0.6)), crowd)
    assert matches.right.tolist() == [True, True, False, False]
    assert not matches.found.any()
    assert match_boxes(found(inside), present()).right.tolist() == [False]


def test_boxes_without_area_match_nothing() -> None:
    line = present(((2.0, 3.0, 2.0, 23.0), CAT))
    assert not match_boxes(found(((2.0, 3.0, 2.0, 23.0), CAT, 0.9)), line).right.any()


def test_arms_stand_beside_their_teacher() -> None:
    picture = picture_of(made_sheet("kd"), made_sheet("kd_rank", BOTH))
    (row,) = picture.rows
    assert picture.detectors == ["the teacher", "kd", "kd_rank"]
    assert row.name == "image 4"
    assert [box.text for box in row.objects] == ["cat", "dog"]
    kd = row.views["kd"]
    assert [[box.text for box in boxes] for boxes in kd] == [["cat 0.75"], ["cat 0.50"], ["dog"]]
    assert kd.right[0].corners == NEAR
    assert [len(boxes) for boxes in row.views["kd_rank"]] == [2, 0, 0]
    assert picture.title == "Detections in test images after epoch 9, seed 0, with scores from 0.5"


def test_arms_of_several_teachers_say_which() -> None:
    picture = picture_of(made_sheet("kd"), made_sheet("other", teacher=ONE, epoch=3))
    assert picture.detectors == ["the teacher of kd", "the teacher of other", "kd", "other"]
    assert "after each arm's last epoch" in picture.title


def test_arms_that_see_other_images_have_other_rows() -> None:
    picture = picture_of(made_sheet("kd"), made_sheet("other", shade=200))
    assert [[*row.views] for row in picture.rows] == [
        ["the teacher", "kd"],
        ["the teacher", "other"],
    ]
    first, second = (panels(detections_figure(picture))[row] for row in (0, 1))
    assert [len(axes.images) for axes in first] == [1, 1, 1, 0]
    assert [len(axes.images) for axes in second] == [1, 1, 0, 1]


def test_of_many_arms_the_first_are_drawn_and_the_title_says_so() -> None:
    picture = picture_of(*(made_sheet(f"arm{n}") for n in range(6)))
    assert picture.detectors == ["the teacher", "arm0", "arm1", "arm2", "arm3"]
    assert picture.title.endswith("(the first 4 of 6 arms)")


def test_names_from_files_are_made_printable() -> None:
    sheet = made_sheet("kd")
    odd = DetectionSheet("kd", 0, 9, ("c\x1b[31mat", "dog"), sheet.scenes)
    texts = [
        text.get_text() for axes in detections_figure(picture_of(odd)).axes for text in axes.texts
    ]
    assert all(text.isprintable() for text in texts)


def panels(figure: Figure) -> list[list[Axes]]:
    columns = figure.axes[0].get_gridspec().ncols  # type: ignore[union-attr]
    return [figure.axes[n : n + columns] for n in range(0, len(figure.axes), columns)]


def styles_in(axes: Axes) -> list[tuple[Box, str]]:
    """Return the drawn boxes of a panel with their colours, without borders and labels."""
    rectangles = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    drawn = [
        patch
        for patch in rectangles
        if to_hex(patch.get_facecolor(), keep_alpha=True).endswith("00")
        and to_hex(patch.get_edgecolor()) != to_hex("white")
    ]
    return [
        ((*patch.get_xy(), *np.add(patch.get_xy(), (patch.get_width(), patch.get_height()))),
         to_hex(patch.get_edgecolor()).upper())
        for patch in drawn
    ]  # fmt: skip


def test_boxes_are_drawn_where_they_are_and_told_apart() -> None:
    figure = detections_figure(picture_of(made_sheet("kd")))
    ((objects, teacher, kd),) = panels(figure)
    assert [axes.get_title() for axes in (objects, teacher, kd)] == [
        "the objects",
        "the teacher",
        "kd",
    ]
    assert styles_in(objects) == [(FIRST, OBJECT.colour), (SECOND, OBJECT.colour)]
    assert styles_in(teacher) == [(FIRST, RIGHT.colour), (SECOND, RIGHT.colour)]
    expected = [(SECOND, MISSED.colour), (SECOND, WRONG.colour), (NEAR, RIGHT.colour)]
    assert styles_in(kd) == expected
    assert [*kd.images[0].get_extent()] == [0, 60, 40, 0]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [style.words for style in (OBJECT, RIGHT, WRONG, MISSED)]


def test_no_two_kinds_of_box_look_alike_without_colour() -> None:
    kinds: list[BoxStyle] = [RIGHT, WRONG, MISSED]
    assert len({str(style.dashes) for style in kinds}) == len(kinds)
    assert len({style.colour for style in kinds}) == len(kinds)


def overlap(one: Box, other: Box) -> bool:
    return all(max(one[n], other[n]) < min(one[n + 2], other[n + 2]) for n in (0, 1))


def test_labels_stay_in_the_image_and_off_each_other() -> None:
    boxes: list[Box] = [(10, 10, 60, 60), (10, 12, 62, 60), (12, 10, 60, 58), (70, 0, 100, 30)]
    boxes += [(0, 70, 30, 100), (97, 97, 100, 100)]
    places = place_labels(boxes, [(20, 6)] * len(boxes), 100, 100)
    for number, place in enumerate(places):
        assert place[0] >= 0
        assert place[1] >= 0
        assert place[2] <= 100
        assert place[3] <= 100
        assert place[2] - place[0] == pytest.approx(20)
        assert not any(overlap(place, other) for other in places[:number])
        assert not overlap(place, boxes[number])


def test_a_lone_label_stands_on_its_box() -> None:
    assert place_labels([(10, 20, 60, 60)], [(20, 6)], 100, 100) == [(10, 14, 30, 20)]
    assert place_labels([], [], 100, 100) == []


def test_runs_are_drawn_in_one_figure_and_a_run_without_sheets_has_none(tmp_path: Path) -> None:
    names, folder = ("first", "second"), tmp_path / "figures"
    runs = [RunDirectory(tmp_path / name) for name in names]
    records = [made_run(name) for name in names]
    assert "detections" not in figures_of_runs(records, runs)
    for run in runs:
        run.path.mkdir()
        made_sheet("kd").write(detections_path(run.path, "kd"))
    made_sheet("gone").write(detections_path(runs[0].path, "gone"))  # no arm with rows
    assert [sheet.arm for sheet in read_detections(runs[0], records[0].arms)] == ["kd"]
    sheet = {"detections": figures_of_runs(records, runs)["detections"]}
    paths = save_figures(sheet, folder, ["png", "svg"])
    assert paths == [folder / "detections.png", folder / "detections.svg"]
    text = paths[1].read_text(encoding="utf-8")
    assert [f"{name}: kd<" in text for name in names] == [True, True]
    detections_path(runs[1].path, "kd").write_bytes(b"torn")
    with pytest.raises(UserError, match="is damaged"):
        figures_of_runs(records, runs)


def test_the_page_has_the_sheet_and_its_numbers() -> None:
    sheets = [made_sheet("kd"), made_sheet("other", found(), shade=200)]
    context = detection_context(sheets)
    assert context["still"].startswith("data:image/webp;base64,")
    table = detection_table(picture_of(*sheets))
    assert table.header == ("detector", "image 4", "image 4")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["the teacher", "2 of 2, 0 wrong", "2 of 2, 0 wrong"],
        ["kd", "1 of 2, 1 wrong", ""],
        ["other", "", "0 of 2, 0 wrong"],
    ]
    assert context["numbers"] == table


def test_a_sheet_without_any_box_is_drawn() -> None:
    scene = DetectedScene.of(0, np.zeros((40, 20, 3), np.uint8), present(), found(), found())
    figure = detections_figure(picture_of(DetectionSheet("kd", 0, 1, NAMES, [scene])))
    assert len(figure.axes) == 3
