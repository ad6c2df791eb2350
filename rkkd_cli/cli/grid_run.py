"""What ``rkkd grid`` does: begin a grid, go on with it, or extend it."""

from functools import partial

from rkkd_cli.cli.output.grid_result import grid_ended
from rkkd_cli.cli.output.run_result import Result
from rkkd_cli.cli.runtime.engines import Place, cells_per_job
from rkkd_cli.cli.runtime.execute import Manner, begin, go_on
from rkkd_cli.cli.runtime.grid import GridRequest
from rkkd_cli.config.compatibility import extended
from rkkd_cli.train.distributed.ranks import Group


def run_grid(
    request: GridRequest,
    place: Place,
    most_cells: int | None,
    minutes: float,
    retry: bool,
    fail_fast: bool,
    quiet: bool,
    published: str | None,
    loggers: tuple[str, ...] = (),
    ranks: Group | None = None,
) -> Result:
    """Train the cells that are left, and return the whole grid."""
    finish = partial(grid_ended, published=published)
    most_arms = cells_per_job(request.planned(), place, most_cells)
    manner = Manner(
        minutes, quiet, place.engine, most_arms, retry, fail_fast, finish, place.threads,
        place.device, loggers, ranks,
    )  # fmt: skip
    run = request.begun()
    if run is None:
        return begin(request.experiment, request.out, request.name, False, manner)
    return go_on(run, lambda _: request.experiment, manner, extended)
