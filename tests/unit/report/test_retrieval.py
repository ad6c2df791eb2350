"""The retrieval sheet: its file, what is drawn of it, and its place on the page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from report_runs import made_run

from rkkd_cli.errors import UserError
from rkkd_cli.records.retrieval import RetrievalSheet
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.figures import figures_of_runs, save_figures
from rkkd_cli.report.page.page import report_page
from rkkd_cli.report.page.sources import PageSource
from rkkd_cli.report.page.tables import retrieval_table
from rkkd_cli.report.retrieval import FRAMES, retrieval_figure
from rkkd_cli.report.retrieval_picture import RetrievalPicture, read_sheets

CLASSES = [["cat", "cat", "dog", "cat"], ["dog", "cat", "cat", "dog"]]
RIGHT = [[True, False, True], [False, False, True]]


def made_sheet(
    arm: str, channels: int = 3, size: tuple[int, int] = (4, 6), brightness: int = 0, epoch: int = 9
) -> RetrievalSheet:
    """Return a sheet of two queries with three neighbours each."""
    shape = (2, 4, channels, *size)
    images = np.arange(np.prod(shape)).reshape(shape) % 200 + brightness
    return RetrievalSheet(arm, 0, epoch, images.astype(np.uint8), np.array(CLASSES))


def drawn(*sheets: RetrievalSheet) -> Figure:
    return retrieval_figure(RetrievalPicture.of([(sheet.arm, sheet) for sheet in sheets]))


def frames_of(figure: Figure) -> list[list[bool]]:
    """Which of the drawn neighbours are framed as right, panel by panel."""
    right = to_hex(FRAMES[True]["edgecolor"])
    return [
        [
            to_hex(patch.get_edgecolor()) == right
            for patch in axes.patches
            if isinstance(patch, Rectangle) and to_hex(patch.get_edgecolor(), True)[-2:] != "00"
        ]
        for axes in figure.axes
    ]


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    sheet, path = made_sheet("kd"), tmp_path / "retrieval" / "kd.safetensors"
    sheet.write(path)
    first = path.read_bytes()
    sheet.write(path)
    read = RetrievalSheet.read(path)
    assert path.read_bytes() == first
    assert (read.arm, read.seed, read.epoch) == ("kd", 0, 9)
    assert np.array_equal(read.images, sheet.images)
    assert read.classes.tolist() == CLASSES
    assert read.right.tolist() == RIGHT


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "kd.safetensors"
    made_sheet("kd").write(path)
    whole = path.read_bytes()
    turned = whole.replace(b"[2,4,3,4,6]", b"[4,2,3,4,6]")
    nameless = whole.replace(b"epoch", b"hcope")
    for content in (b"", whole[:-1], whole.replace(b"dog", b"do"), nameless, turned, b"\xff" * 99):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"kd\.safetensors is damaged .*; remove it") as caught:
            RetrievalSheet.read(path)
        assert "\n" not in str(caught.value)


def test_a_panel_has_the_query_apart_and_a_row_for_each_arm() -> None:
    figure = drawn(made_sheet("kd"), made_sheet("rkd"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["cat", "dog"]
    assert frames_of(figure) == [2 * rows for rows in RIGHT]
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["kd", "rkd"]
        query, *found = [image.get_extent() for image in axes.images]
        assert len(found) == 6
        assert all(left > query[1] for left, *_ in found)
        sides = [((right - left), (bottom - top)) for left, right, bottom, top in [query, *found]]
        assert [down / across for across, down in sides] == pytest.approx([4 / 6] * 7)
    assert figure.get_suptitle() == "Nearest test images after epoch 9, seed 0, the nearest first"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_are_drawn_as_they_are_or_in_grey(channels: int) -> None:
    sheet = made_sheet("kd", channels)
    shown = drawn(sheet).axes[0].images[0].get_array()
    query = sheet.images[0, 0]
    expected = query.transpose(1, 2, 0) if channels == 3 else query.mean(axis=0)
    assert np.array_equal(np.asarray(shown), expected)


def test_arms_that_see_other_images_have_other_panels() -> None:
    figure = drawn(
        made_sheet("kd"), made_sheet("other", brightness=50), made_sheet("last", epoch=3)
    )
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [["kd", "last"]] * 2 + [["other"]] * 2
    assert figure.get_suptitle().startswith("Nearest test images after each arm's last epoch, ")


def test_of_many_arms_the_first_are_drawn_and_the_title_says_so() -> None:
    figure = drawn(*(made_sheet(f"arm{n}") for n in range(15)))
    assert len(figure.axes[0].texts) == 12
    assert figure.get_suptitle().endswith("(the first 12 of 15 arms)")


def test_runs_are_drawn_in_one_figure_and_a_run_without_sheets_has_none(tmp_path: Path) -> None:
    names, folder = ("first", "second"), tmp_path / "figures"
    runs = [RunDirectory(tmp_path / name) for name in names]
    records = [made_run(name) for name in names]
    assert "retrieval" not in figures_of_runs(records, runs)
    for run in runs:
        run.path.mkdir()
        made_sheet("kd").write(run.retrieval("kd"))
    made_sheet("gone").write(runs[0].retrieval("gone"))  # no arm with rows
    assert [sheet.arm for sheet in read_sheets(runs[0], records[0].arms)] == ["kd"]
    sheet = {"retrieval": figures_of_runs(records, runs)["retrieval"]}
    paths = save_figures(sheet, folder, ["png", "svg"])
    assert paths == [folder / "retrieval.png", folder / "retrieval.svg"]
    text = paths[1].read_text(encoding="utf-8")
    assert [f"{name}: kd<" in text for name in names] == [True, True]
    assert "gone" not in text


def test_the_page_has_the_sheet_and_its_numbers() -> None:
    sheets = [made_sheet("kd"), made_sheet("kd_rank")]
    runs = [replace(made_run("with"), sheets=sheets), made_run("without")]
    page = report_page(PageSource(runs))
    assert page.count('id="retrieval-heading') == 1
    assert page.count("data:image/webp;base64,") == 1
    table = retrieval_table(RetrievalPicture.of([(sheet.arm, sheet) for sheet in sheets]))
    assert table.header == ("arm", "cat", "dog")
    rows = [[cell.text for cell in row] for row in table.rows]
    assert rows == [[arm, "2 of 3", "1 of 3"] for arm in ("kd", "kd_rank")]
