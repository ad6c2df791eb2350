"""How the kernels are compiled. Imports numba: only the kernels import this."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def exact(function: F) -> F:
    """Compile what only compiled functions call, keeping to the order of its operations."""
    return _inner(function, {"contract"})


def summing(function: F) -> F:
    """Compile what only compiled functions call, its sums in any order."""
    return _inner(function, {"contract", "reassoc"})


def _inner(function: F, fastmath: set[str]) -> F:
    # Without what Python and C would call it by, it is compiled a quarter sooner.
    unwrapped: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    kernel: F = njit(fastmath=fastmath, error_model="numpy", **unwrapped)(function)
    return kernel


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
