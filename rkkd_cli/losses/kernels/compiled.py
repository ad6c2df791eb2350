"""How the CPU kernels are compiled. Imports numba, so only the kernels import this module."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def exact(function: F) -> F:
    """Compile a function that only compiled functions call; its operations keep their order."""
    return _compile_inner(function, {"contract"})


def summing(function: F) -> F:
    """Compile a function that only compiled functions call; its sums may be reordered."""
    return _compile_inner(function, {"contract", "reassoc"})


def _compile_inner(function: F, fastmath: set[str]) -> F:
    # Without wrappers for Python and C it compiles a quarter faster.
    no_wrappers: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    kernel: F = njit(fastmath=fastmath, error_model="numpy", **no_wrappers)(function)
    return kernel


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for these types at once, and cache it on disk if possible.

    numba's cache is a folder beside the source, or else one of the user's. Without a writable
    folder, or on a full disk, the function is compiled without a cache.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        kernel: Callable[..., Any]
        try:
            kernel = compile_with(cache=True)(function)
        except (OSError, RuntimeError):
            kernel = compile_with()(function)
        return kernel

    compile_with = partial(njit, signature, error_model="numpy", nogil=True, fastmath={"contract"})
    return decorate
