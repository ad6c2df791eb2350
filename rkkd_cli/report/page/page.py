"""The page as a whole: what stands in it, put into its template."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rkkd_cli import __version__
from rkkd_cli.errors import printable
from rkkd_cli.report.arms import ArmCurve, arm_curves
from rkkd_cli.report.page import drawing, facts, panels, tables
from rkkd_cli.report.page.heatmaps import heatmaps_of
from rkkd_cli.report.page.judged import findings_in, comparison_blocks
from rkkd_cli.report.page.sources import PageRun, PageSource
from rkkd_cli.report.page.stills import grid_stills, panel_stills
from rkkd_cli.report.style import ON_DARK

MANY_ROWS = 16  # a table of more is folded
DIGITS = {"test_acc": 2}
# What JSON may hold inside a script element: nothing that ends it or begins another.
HARMLESS = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def report_page(source: PageSource) -> str:
    """Return the whole page: HTML with its styles, scripts, figures and data inside."""
    all_curves = arm_curves(source.named_metrics)
    curves = panels.drawn_in_page(all_curves)
    heatmaps = [
        heatmaps_of(run.grid.picture, f"grid-{number}") if run.grid else []
        for number, run in enumerate(source.runs)
    ]
    budget = facts.MOST // len(source.runs)
    drawn = panels.panels_of(curves, source.published)
    items = [drawing.panel_item(panel) for panel in drawn]
    data = {
        "groups": [asdict(group) for group in panels.groups_of(curves, source.published)],
        "seeds": panels.seeds_of(curves),
        "onDark": ON_DARK,
        "panels": [{"item": one, **asdict(panel)} for one, panel in zip(items, drawn, strict=True)],
        "figures": [one.item for maps in heatmaps for one in maps],
    }
    scripts = [Markup(drawing.bokeh_script()), Markup(_text("report.js"))]
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.from_string(_text("report.html.j2")).render(
        title=_title(source),
        version=__version__,
        style=Markup(_text("report.css")),
        scripts=scripts,
        policy=_policy(scripts),
        data=Markup(json_in_script(data)),
        groups=data["groups"],
        seeds=data["seeds"],
        widest=_widest(curves),
        runs=[_run(run, heatmaps[number], budget) for number, run in enumerate(source.runs)],
        comparisons=comparison_blocks(source.runs),
        panels=_panels(source, curves, drawn),
        published=printable(source.published.source) if source.published else "",
        arms=len(all_curves),
        drawn=len(curves),
        thinned=panels.is_thinned(curves),
        many_rows=MANY_ROWS,
        many=len(curves) > panels.MOST_AT_FIRST,
    )


def json_in_script(data: Any) -> str:
    """Return the data as JSON that may stand inside a script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(HARMLESS)


def _title(source: PageSource) -> str:
    titles = dict.fromkeys(run.experiment.title for run in source.runs)
    said = " and ".join(title for title in titles if title)
    return printable(said) or panels.named([run.name for run in source.runs])


def _run(run: PageRun, heatmaps: Sequence[Any], budget: int) -> dict[str, Any]:
    experiment = run.experiment
    return {
        "name": printable(run.name),
        "findings": findings_in(run),
        "finding": printable(experiment.finding),
        "source": printable(experiment.source),
        "notes": [printable(line) for line in experiment.notes.splitlines() if line.strip()],
        "setting": facts.setting_of(run),
        "environment": facts.environment_of(run),
        "command": facts.command_of(run),
        "downloads": list(facts.downloads_of(run, budget)),
        "summaries": [tables.summary_table(run), *tables.selected_tables(run)],
        "heatmaps": heatmaps,
        "stills": grid_stills(run.grid.picture) if run.grid else {},
        "cells": tables.cells_table(run.grid, run.name) if run.grid else None,
        "grid_notes": [printable(note) for note in run.grid.notes] if run.grid else [],
    }


def _panels(
    source: PageSource, curves: Sequence[ArmCurve], drawn: Sequence[panels.CurvePanel]
) -> list[dict[str, Any]]:
    shown = [curves[number] for number in panels.shown_at_first(curves)]
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


def _widest(curves: Sequence[ArmCurve]) -> int:
    """Return the largest number of epochs on each side of one that smoothing may take in."""
    return min(25, max(int(curve.rows["epoch"].nunique()) for curve in curves) // 4)


def _policy(scripts: Sequence[str]) -> str:
    """Return a policy by which only these scripts run, and nothing is fetched from anywhere."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
