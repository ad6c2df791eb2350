"""The report in a real browser: drawn, quiet, without a network, and usable in every way."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_runs import ATTACK, made_published, made_run

from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.page.page import report_page
from rkkd_cli.report.page.sources import PageRun, PageSource

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GRID = ROOT / "results" / "alpha-temperature-digits-sample"
PHONE = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}
LEGIBLE = 4.5  # WCAG AA, for text of any size

VALUES = """key => {
    const model = Bokeh.documents.map(d => d.roots()[0]).find(
        m => m.left[0].axis_label.startsWith(key));
    return model.renderers.filter(r => r.tags.length).map(
        r => ({visible: r.visible, y: [...r.data_source.data.y]}));
}"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_page(PageSource([made_run()], made_published())), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(page_file: Path, show: Any) -> Iterator[Any]:
    """The page in one window, for tests that leave its curves as they are."""
    with show(page_file) as page:
        yield page


def pixels(page: Any, selector: str) -> Any:
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB"))


def tooltips(page: Any, selector: str) -> str:
    """Return what is told when the mouse moves down the middle of a figure."""
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    for height in range(60, int(box["height"]) - 40, 4):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + height)
        told = " ".join(one.inner_text() for one in page.locator(".bk-tooltip-content").all())
        if told.strip():
            return told
    return ""


def test_every_panel_is_drawn_in_colours(opened: Any) -> None:
    panels = opened.locator(".live").all()
    assert len(panels) == 10  # differences, curves, diagnostics
    for panel in panels:
        key = panel.get_attribute("id")
        assert len(np.unique(pixels(opened, f"#{key}").reshape(-1, 3), axis=0)) > 50
    assert not opened.locator("img.still").first.is_visible()


def test_toggling_an_arm_changes_what_is_drawn(page_file: Path, show: Any) -> None:
    with show(page_file) as page:
        before = pixels(page, "#live-kl")
        assert [one["visible"] for one in page.evaluate(VALUES, "difference")] == [True]
        page.get_by_label("kd_rank (n = 3)").uncheck()
        page.wait_for_timeout(200)
        assert [one["visible"] for one in page.evaluate(VALUES, "difference")] == [False]
        visible = [one["visible"] for one in page.evaluate(VALUES, "KL")]
        assert visible == [True, False, True, True]
        assert not np.array_equal(before, pixels(page, "#live-kl"))
        assert "3 of 4 curves" in page.locator("#status").inner_text()
        page.get_by_label("kd_rank, published").focus()
        page.keyboard.press("Space")
        assert [one["visible"] for one in page.evaluate(VALUES, "KL")][3] is False


def test_seeds_and_smoothing_change_the_numbers(page_file: Path, show: Any) -> None:
    with show(page_file) as page:
        whole = page.evaluate(VALUES, "KL")
        page.locator("input[name=seed][value='0']").uncheck()
        fewer = page.evaluate(VALUES, "KL")
        assert fewer[0]["y"] != whole[0]["y"]
        page.locator("input[name=seed][value='0']").check()
        assert page.evaluate(VALUES, "KL") == whole
        page.locator("#smoothing").focus()
        page.keyboard.press("ArrowRight")
        smooth = page.evaluate(VALUES, "KL")
        assert page.locator("#window").inner_text() == "Mean over 3 epochs"
        expected = np.convolve(whole[0]["y"], np.ones(3) / 3, mode="valid")
        assert smooth[0]["y"][1:-1] == pytest.approx(expected)
        assert smooth[2] == whole[2], "published curves stay as they are"
        for box in page.locator("input[name=seed]").all():
            box.uncheck()
        shown = [one["visible"] for one in page.evaluate(VALUES, "KL")]
        assert shown == [False, False, True, True]
        for box in page.locator("input[name=group]").all():
            box.uncheck()
        page.wait_for_timeout(100)


def test_hovering_tells_arm_epoch_and_value(opened: Any) -> None:
    told = tooltips(opened, "#live-test_acc")
    assert "kd (n = 3)" in told
    assert "kd_rank, published" in told
    assert re.search(r"epoch \d+", told)
    assert re.search(r"\d+\.\d+ ± \d", told)


def test_a_table_is_sorted_by_keyboard(opened: Any) -> None:
    table = opened.locator("section[aria-labelledby=arms-heading] table.sortable").first
    column = table.locator("thead th").nth(3)
    column.locator("button").focus()
    orders = []
    for order in ("ascending", "descending"):
        opened.keyboard.press("Enter")
        assert column.get_attribute("aria-sort") == order
        cells = table.locator("tbody tr td:nth-child(4)").all()
        orders.append([float(cell.get_attribute("data-value")) for cell in cells])
    assert orders[0] == sorted(orders[1])
    assert orders[1] == orders[0][::-1]
    assert len(orders[0]) == 2


@pytest.mark.parametrize("settings", [PHONE, {"viewport": {"width": 800, "height": 600}}])
def test_nothing_overflows(page_file: Path, show: Any, settings: dict[str, Any]) -> None:
    with show(page_file, **settings) as page:
        width = settings["viewport"]["width"]
        for details in page.locator("details").all():
            details.evaluate("one => { one.open = true; }")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#live-rank").bounding_box()["width"] > 300


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(page_file: Path, show: Any, scheme: str) -> None:
    with show(page_file, color_scheme=scheme) as page:
        background = colour(page, "body", "backgroundColor")
        assert (luminance(background) < 0.1) == (scheme == "dark")
        for selector in ("body", "h1", "p.muted", "a[download]", "td", "caption", "th button"):
            assert contrast(colour(page, selector, "color"), background) >= LEGIBLE, selector
        card = colour(page, "#controls", "backgroundColor")
        assert contrast(colour(page, "#controls label", "color"), card) >= LEGIBLE
        ink = page.evaluate("Bokeh.documents[0].roots()[0].left[0].major_label_text_color")
        red, green, blue = (int(ink[place : place + 2], 16) for place in (1, 3, 5))
        assert contrast((red, green, blue), background) >= LEGIBLE


Colour = tuple[int, int, int]


def colour(page: Any, selector: str, name: str) -> Colour:
    said = page.locator(selector).first.evaluate(f"one => getComputedStyle(one).{name}")
    red, green, blue = (int(part) for part in re.findall(r"\d+", said)[:3])
    return red, green, blue


def luminance(one: Colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in (part / 255 for part in one)]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_without_javascript_the_static_figures_are_there(page_file: Path, show: Any) -> None:
    with show(page_file, ready=False, java_script_enabled=False) as page:
        stills = page.locator("img.still").all()
        assert len(stills) == 10
        for still in stills:
            assert still.is_visible()
            assert still.bounding_box()["width"] > 250
            assert still.get_attribute("alt")
        assert not page.locator("#controls").is_visible()
        assert len(np.unique(pixels(page, "img.still >> nth=0").reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("settings", [PHONE, {"viewport": {"width": 1400, "height": 900}}])
def test_the_first_screen_has_the_answer(
    tmp_path: Path, show: Any, settings: dict[str, Any]
) -> None:
    finished = tmp_path / "report.html"
    finished.write_text(report_page(PageSource([made_run(epochs=30)])), encoding="utf-8")
    with show(finished, **settings) as page:
        height = settings["viewport"]["height"]
        for selector in ("p.answer", ".numbers p >> nth=2", "#live-difference-test_acc"):
            box = page.locator(selector).bounding_box()
            assert box["y"] + box["height"] <= height, selector
        assert "−" in page.locator(".numbers p").nth(2).inner_text()


def test_a_screen_reader_finds_its_way(page_file: Path, show: Any) -> None:
    with show(page_file) as page:
        for role in ("banner", "main", "contentinfo", "status"):
            assert page.get_by_role(role).count() == 1
        names = [one.inner_text() for one in page.get_by_role("heading").all()]
        assert {"Arms", "Curves", "Setting", "Environment"} <= set(names)
        assert page.get_by_role("slider").count() == 1
        assert page.locator("th:not([scope])").count() == 0
        assert page.locator("table:not(:has(caption))").count() == 0
        unnamed = page.locator("[role=img]:not([aria-label]), img:not([alt])")
        assert unnamed.count() == 0
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        shown = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert shown == "solid"


def test_the_data_can_be_saved(opened: Any) -> None:
    with opened.expect_download() as saved:
        opened.get_by_role("link", name="made-metrics.csv").click()
    assert saved.value.suggested_filename == "made-metrics.csv"
    text = Path(saved.value.path()).read_bytes()
    assert text == made_run().files["metrics.csv"]


@pytest.mark.parametrize("more", [0, 8], ids=["one tooltip for all", "a tooltip for each"])
def test_text_out_of_files_stays_text(tmp_path: Path, show: Any, more: int) -> None:
    path = tmp_path / "hostile.html"
    further = tuple(f"{ATTACK}@x{number}" for number in range(more))
    run = made_run(ATTACK, text=ATTACK, arms=(ATTACK, *further), seeds=1, epochs=3)
    source = PageSource([run], made_published((ATTACK,)))
    path.write_text(report_page(source), encoding="utf-8")
    with show(path) as page:
        assert page.title() == ATTACK
        assert page.locator("h1").inner_text() == ATTACK
        assert page.locator("img:not([src^='data:'])").count() == 0
        assert ATTACK in tooltips(page, "#live-test_acc")
        assert page.locator("img:not([src^='data:'])").count() == 0


@pytest.mark.skipif(not GRID.is_dir(), reason="the sample runs are not here")
def test_a_grid_has_a_heatmap_and_few_curves_at_first(tmp_path: Path, show: Any) -> None:
    path = tmp_path / "grid.html"
    part = PageRun.read(RunDirectory(GRID), None)
    arms = part.metrics["arm"].unique()[:10]  # more only take longer
    few = replace(part, metrics=part.metrics[part.metrics["arm"].isin(arms)])
    path.write_text(report_page(PageSource([few])), encoding="utf-8")
    with show(path) as page:
        told = tooltips(page, "#live-grid-0-0")
        assert "alpha" in told
        assert "temperature" in told
        top = page.locator("#live-grid-0-0").bounding_box()["y"]
        assert top < page.get_by_role("heading", name="Verdicts").bounding_box()["y"]
        assert page.locator("input[name=group]:checked").count() == 5  # with two levels
        page.locator("#filter").fill("alpha=0.1 2.5")
        assert page.locator("input[name=group]:visible").count() == 1
        page.get_by_role("button", name="Show these").click()
        assert page.locator("input[name=group]:checked").count() == 6
        page.locator("#filter").fill("")
        page.get_by_role("button", name="Show these").click()
        assert all(one["visible"] for one in page.evaluate(VALUES, "KL"))
