"""rkkd: ablation studies of knowledge distillation, with and without a ranking loss.

    from rkkd_cli import load_experiment, open_run, run

The tensor functions live in :mod:`rkkd_cli.losses` and :mod:`rkkd_cli.models`; importing this
package alone imports neither torch nor anything else that is slow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rkkd_cli.api.recorded_run import Run, open_run
    from rkkd_cli.api.runs import load_experiment, run

__all__ = ["Run", "load_experiment", "open_run", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rkkd_cli.api import recorded_run, runs

    return getattr(runs if hasattr(runs, name) else recorded_run, name)


def __dir__() -> list[str]:
    """List those names too, for completion in a notebook."""
    return sorted({*globals(), *__all__})
