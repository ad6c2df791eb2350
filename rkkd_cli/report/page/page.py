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
from rkkd_cli.errors import printable
from rkkd_cli.report.arms import ArmCurve, arm_curves
from rkkd_cli.report.page import drawing, facts, panels, tables
from rkkd_cli.report.page.heatmaps import Heatmap, heatmaps_of
from rkkd_cli.report.page.judged import comparison_blocks, printable_findings
from rkkd_cli.report.page.sources import PageRun, PageSource
from rkkd_cli.report.page.stills import grid_stills, panel_stills
from rkkd_cli.report.style import ON_DARK

MAX_ROWS_UNFOLDED = 16
MAX_SMOOTHING = 25  # epochs on each side
DIGITS = {"test_acc": 2}
# Characters that could end a script element, or begin another one, inside JSON.
SCRIPT_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def report_page(source: PageSource) -> str:
    """Return the whole page: HTML with its styles, scripts, figures and data."""
    all_curves = arm_curves([(run.name, run.metrics) for run in source.runs])
    curves = panels.drawn_in_page(all_curves)
    heatmaps = [
        heatmaps_of(run.grid.picture, f"grid-{index}") if run.grid else []
        for index, run in enumerate(source.runs)
    ]
    max_bytes = facts.MAX_BYTES // len(source.runs)
    drawn = panels.panels_of(curves, source.published)
    data = {
        "groups": [asdict(toggle) for toggle in panels.toggles_of(curves, source.published)],
        "seeds": panels.seeds_of(curves),
        "onDark": ON_DARK,
        "panels": [{"item": drawing.panel_item(panel), **asdict(panel)} for panel in drawn],
        "figures": [heatmap.item for of_run in heatmaps for heatmap in of_run],
    }
    bokeh_script = Resources(mode="inline", components=["bokeh"]).js_raw[0]
    scripts = [Markup(bokeh_script), Markup(_read("report.js"))]
    longest = max(int(curve.rows["epoch"].nunique()) for curve in curves)
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.from_string(_read("report.html.j2")).render(
        title=_title(source),
        version=__version__,
        style=Markup(_read("report.css")),
        scripts=scripts,
        policy=_content_policy(scripts),
        data=Markup(json_in_script(data)),
        groups=data["groups"],
        seeds=data["seeds"],
        max_smoothing=min(MAX_SMOOTHING, longest // 4),
        runs=[
            _run_context(run, of_run, max_bytes)
            for run, of_run in zip(source.runs, heatmaps, strict=True)
        ],
        comparisons=comparison_blocks(source.runs),
        panels=_panel_contexts(source, curves, drawn),
        published=printable(source.published.source) if source.published else "",
        arms=len(all_curves),
        drawn=len(curves),
        thinned=panels.is_thinned(curves),
        max_rows_unfolded=MAX_ROWS_UNFOLDED,
        few_shown=len(curves) > panels.MAX_SHOWN_AT_FIRST,
    )


def json_in_script(data: Any) -> str:
    """Return the data as JSON that is safe inside a script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(SCRIPT_ESCAPES)


def _title(source: PageSource) -> str:
    titles = dict.fromkeys(run.experiment.title for run in source.runs)
    text = " and ".join(title for title in titles if title)
    return printable(text or " and ".join(run.name for run in source.runs))


def _run_context(run: PageRun, heatmaps: Sequence[Heatmap], max_bytes: int) -> dict[str, Any]:
    experiment = run.experiment
    return {
        "name": printable(run.name),
        "findings": printable_findings(run),
        "finding": printable(experiment.finding),
        "source": printable(experiment.source),
        "notes": [printable(line) for line in experiment.notes.splitlines() if line.strip()],
        "setting": facts.setting_of(run),
        "environment": facts.environment_of(run),
        "command": facts.command_of(run),
        "downloads": list(facts.downloads_of(run, max_bytes)),
        "summaries": tables.summary_tables(run),
        "heatmaps": heatmaps,
        "stills": grid_stills(run.grid.picture) if run.grid else {},
        "cells": tables.cells_table(run.grid, run.name) if run.grid else None,
        "grid_notes": [printable(note) for note in run.grid.notes] if run.grid else [],
    }


def _panel_contexts(
    source: PageSource, curves: Sequence[ArmCurve], drawn: Sequence[panels.CurvePanel]
) -> list[dict[str, Any]]:
    shown = [curves[index] for index in panels.shown_at_first(curves)]
    stills = panel_stills(shown, source.published)
    return [
        {
            "key": panel.key,
            "title": panel.title,
            "own_axis": panel.own_axis,
            "still": stills[panel.key],
            "terms": [term for term in panel.columns.values() if term],
            "numbers": tables.curve_table(
                panel.columns, panel.title, curves, DIGITS.get(panel.key, 3)
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
