"""rkkd: ablation studies of knowledge distillation, with and without a ranking loss.

The tensor functions live in :mod:`rkkd_cli.losses` and :mod:`rkkd_cli.models`; importing this
package alone imports neither torch nor anything else that is slow.
"""

__version__ = "0.1.0"
