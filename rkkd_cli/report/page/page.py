"""The page as a whole: the template, filled in."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from bokeh.resources import Resources
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rkkd_cli import __version__
from rkkd_cli.analysis.compare import Comparison
from rkkd_cli.errors import printable
from rkkd_cli.report.findings_text import LEGEND
from rkkd_cli.report.page import drawing, facts, panels, tables
from rkkd_cli.report.page.detections import detection_context
from rkkd_cli.report.page.headline import headline_of
from rkkd_cli.report.page.heatmaps import Heatmap, heatmaps_of
from rkkd_cli.report.page.judged import compare_arms_of, comparison_blocks, printable_findings
from rkkd_cli.report.page.sources import PageRun, PageSource
from rkkd_cli.report.page.stills import grid_stills, panel_stills, retrieval_still
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.retrieval_picture import RetrievalPicture
from rkkd_cli.report.run_text import published_note, unfinished_text
from rkkd_cli.report.style import DROP_COLOUR, ON_DARK

MAX_ROWS_UNFOLDED = 16
MAX_SMOOTHING = 25  # epochs on each side
# Characters that could end a script element, or begin another one, inside JSON.
SCRIPT_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def report_page(source: PageSource) -> str:
    """Return the whole page: HTML with its styles, scripts, figures and data."""
    whole = CurvePicture.of(source.runs, source.published)
    picture = panels.drawn_in_page(whole)
    within = [compare_arms_of(run) for run in source.runs]
    heatmaps = [
        heatmaps_of(run.grid.picture, f"grid-{index}") if run.grid else []
        for index, run in enumerate(source.runs)
    ]
    max_bytes = facts.MAX_BYTES // len(source.runs)
    drawn = panels.panels_of(picture)
    groups, seeds = panels.toggles_of(picture), panels.seeds_of(picture.curves)
    data = {
        "groups": [asdict(toggle) for toggle in groups],
        "seeds": seeds,
        "tQuantiles": panels.t_quantiles(len(seeds)),
        "onDark": ON_DARK,
        "dropColour": DROP_COLOUR,
        "panels": [{"item": drawing.panel_item(panel), **asdict(panel)} for panel in drawn],
        "figures": [heatmap.item for of_run in heatmaps for heatmap in of_run],
    }
    runs = [
        _run_context(run, of_run, comparisons, max_bytes)
        for run, of_run, comparisons in zip(source.runs, heatmaps, within, strict=True)
    ]
    return _fill_in(
        whole.task.main_column,
        title=_title(source),
        data=Markup(json_in_script(data)),
        groups=groups,
        seeds=seeds,
        max_smoothing=min(MAX_SMOOTHING, max(len(curve.means) for curve in picture.curves) // 4),
        runs=runs,
        judged_anywhere=any(f.verdict != "not judged" for run in runs for f in run["findings"]),
        comparisons=comparison_blocks(source.runs, within),
        panels=_panel_contexts(picture, drawn),
        published=printable(source.published.source) if source.published else "",
        arms=len(whole.curves),
        drawn=len(picture.curves),
        thinned=panels.is_thinned(picture),
        few_shown=len(picture.curves) > panels.MAX_SHOWN_AT_FIRST,
    )


def _fill_in(main_column: str, **context: Any) -> str:
    """Return the template with this context, its scripts, and its style for the main metric."""
    bokeh_script = Resources(mode="inline", components=["bokeh"]).js_raw[0]
    scripts = [Markup(bokeh_script), Markup(_read("report.js"))]
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.from_string(_read("report.html.j2")).render(
        version=__version__,
        style=Markup(_read("report.css").replace("test_acc", main_column)),
        scripts=scripts,
        policy=_content_policy(scripts),
        max_rows_unfolded=MAX_ROWS_UNFOLDED,
        findings_legend=LEGEND,
        **context,
    )


def json_in_script(data: Any) -> str:
    """Return the data as JSON that is safe inside a script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(SCRIPT_ESCAPES)


def _title(source: PageSource) -> str:
    """Return the titles of the runs, without what they are based on: that is in their setting."""
    titles = dict.fromkeys(
        run.experiment.title.removesuffix(f"; based on {run.experiment.based_on}")
        for run in source.runs
    )
    text = " and ".join(title for title in titles if title)
    return printable(text or " and ".join(run.name for run in source.runs))


def _run_context(
    run: PageRun, heatmaps: Sequence[Heatmap], comparisons: Sequence[Comparison], max_bytes: int
) -> dict[str, Any]:
    experiment = run.experiment
    stills = grid_stills(run.grid.picture) if run.grid else {}
    return {
        "name": printable(run.name),
        "headline": headline_of(run, comparisons),
        "warnings": [printable(text) for text in run.manifest.warnings],
        "findings": printable_findings(run),
        "based_on": printable(experiment.based_on),
        "finding": printable(experiment.finding),
        "source": printable(experiment.source),
        "notes": [printable(line) for line in experiment.notes.splitlines() if line.strip()],
        "setting": facts.setting_of(run),
        "environment": facts.environment_of(run),
        "unfinished": unfinished_text(run),
        "command": facts.command_of(run),
        "repeat": facts.repeat_of(run),
        "downloads": list(facts.downloads_of(run, max_bytes)),
        "summaries": tables.summary_tables(run),
        "published_note": published_note(run.published.values()) if run.published else "",
        "retrieval": _retrieval_context(run) if run.sheets else None,
        "detections": detection_context(run.detections) if run.detections else None,
        "heatmaps": heatmaps,
        "stills": stills,
        "first_still": "heatmap" if "heatmap" in stills else "marginals",
        "cells": tables.cells_table(run.grid, run.name) if run.grid else None,
        "grid_notes": [printable(note) for note in run.grid.notes] if run.grid else [],
    }


def _retrieval_context(run: PageRun) -> dict[str, Any]:
    picture = RetrievalPicture.of([(sheet.arm, sheet) for sheet in run.sheets])
    return {
        "title": picture.title,
        "still": retrieval_still(picture),
        "numbers": tables.retrieval_table(picture),
    }


def _panel_contexts(
    picture: CurvePicture, drawn: Sequence[panels.CurvePanel]
) -> list[dict[str, Any]]:
    shown = [picture.curves[index] for index in panels.shown_at_first(picture.curves)]
    stills = panel_stills(picture.only(shown))
    digits = {picture.task.main_column: 2}
    return [
        {
            "key": panel.key,
            "title": panel.title,
            "label": panel.label,
            "own_axis": panel.own_axis,
            "remark": panel.remark,
            "still": stills.get(panel.key),
            "lines": panel.lines,
            "drops": panel.drops,
            "terms": [term for term in panel.columns.values() if term],
            "numbers": tables.difference_table(panel.title, picture, panel.key.partition("-")[2])
            if panel.remark
            else tables.curve_table(
                panel.columns, panel.title, picture.curves, digits.get(panel.key, 3)
            ),
        }
        for panel in drawn
    ]


def _content_policy(scripts: Sequence[str]) -> str:
    """Return a content security policy that allows only these scripts, and no network."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
