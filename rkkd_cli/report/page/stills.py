"""The static figures of a page, for readers without JavaScript and for print."""

import base64
import io
from collections.abc import Callable, Mapping
from functools import partial

from matplotlib import rc_context
from matplotlib.figure import Figure

from rkkd_cli.report import gradients
from rkkd_cli.report.curves import difference_figure, quantity_figure
from rkkd_cli.report.grid_figures import grid_figures
from rkkd_cli.report.grid_picture import GridPicture
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.retrieval import retrieval_figure
from rkkd_cli.report.retrieval_picture import RetrievalPicture
from rkkd_cli.report.style import STYLE

SHEET_DPI = 110


def panel_stills(picture: CurvePicture) -> dict[str, str]:
    """Return an SVG of each panel as a data URI, by the panel's key."""
    draw: dict[str, Callable[[], Figure]] = {
        f"difference-{q.column}": partial(difference_figure, q, picture)
        for q in picture.main_quantities
        if picture.differences_of(q.column)
    }
    for quantity in picture.quantities:
        draw[quantity.column] = partial(quantity_figure, quantity, picture)
    for index, panel in enumerate(gradients.recorded_panels(picture.curves)):
        draw[f"gradients{index}"] = partial(gradients.panel_figure, panel, picture.curves)
    return _svg_uris(draw)


def grid_stills(picture: GridPicture) -> dict[str, str]:
    """Return the figures of a grid as data URIs, by their names."""
    return _svg_uris(grid_figures(picture))


def retrieval_still(picture: RetrievalPicture) -> str:
    """Return the retrieval sheet as a data URI: as WebP, which takes a fourth of a PNG."""
    file = io.BytesIO()
    with rc_context({**STYLE, "font.family": "sans-serif"}):
        figure = retrieval_figure(picture)
        figure.savefig(file, format="webp", dpi=SHEET_DPI, pil_kwargs={"quality": 85})
    return data_uri(file.getvalue(), "image/webp")


def _svg_uris(draw: Mapping[str, Callable[[], Figure]]) -> dict[str, str]:
    uris = {}
    with rc_context({**STYLE, "font.family": "sans-serif"}):
        for name, draw_figure in draw.items():
            file = io.BytesIO()
            draw_figure().savefig(file, format="svg", metadata={"Date": None})
            uris[name] = data_uri(file.getvalue(), "image/svg+xml")
    return uris


def data_uri(content: bytes, media_type: str) -> str:
    """Return the content as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
