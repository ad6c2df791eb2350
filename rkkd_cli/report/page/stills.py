"""The static figures of a page: what is seen without JavaScript, and on paper."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib import rc_context
from matplotlib.figure import Figure

from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.report import gradients
from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.curves import QUANTITIES, quantity_figure
from rkkd_cli.report.grid_figures import GridPicture, grid_figures
from rkkd_cli.report.style import STYLE


def panel_stills(curves: Sequence[ArmCurve], published: PublishedCurves | None) -> dict[str, str]:
    """Return a picture of each panel, by its key, as a data URI."""
    draw: dict[str, Callable[[], Figure]] = {
        one.column: partial(quantity_figure, one, curves, published) for one in QUANTITIES
    }
    if gradients.has_diagnostics(curves):
        for number, panel in enumerate(gradients.PANELS):
            draw[f"gradients{number}"] = partial(gradients.panel_figure, panel, curves)
    return _pictures(draw)


def grid_stills(picture: GridPicture) -> dict[str, str]:
    """Return the figures of a grid by their names, as data URIs."""
    figures = grid_figures(picture)
    return _pictures({name: partial(draw, picture) for name, draw in figures.items()})


def _pictures(draw: Mapping[str, Callable[[], Figure]]) -> dict[str, str]:
    pictures = {}
    with rc_context({**STYLE, "font.family": "sans-serif"}):
        for name, one in draw.items():
            file = io.BytesIO()
            one().savefig(file, format="svg", metadata={"Date": None})
            pictures[name] = data_uri(file.getvalue(), "image/svg+xml")
    return pictures


def data_uri(content: bytes, kind: str) -> str:
    """Return the content as a URI that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
