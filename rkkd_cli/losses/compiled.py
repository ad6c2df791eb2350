"""How the kernels are compiled. Imports numba: only the kernels import this."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for these types now, and keep it for other processes where possible.

    numba keeps it beside the source, or else in the user's cache; a full disk, or no folder that
    can be written, must stop nothing.
    """

    def compile_it(function: Callable[..., Any]) -> Callable[..., Any]:
        kernel: Callable[..., Any]
        try:
            kernel = decorated(cache=True)(function)
        except (OSError, RuntimeError):
            kernel = decorated()(function)
        return kernel

    decorated = partial(njit, signature, error_model="numpy", nogil=True, fastmath={"contract"})
    return compile_it
