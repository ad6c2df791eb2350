"""Counts of ordered and tied pairs of float32 logits by sorting, compiled by numba: exact."""

from typing import Any

import numpy as np

from rkkd_cli.losses.kernels.compiled import compiled, exact


@exact
def inversions(values: Any, spare: Any) -> int:
    """Return the pairs i < j with values i > j; sorts ``values``, by merging."""
    size, count, width = len(values), 0, 1
    while width < size:
        for left in range(0, size, 2 * width):
            middle, right = min(left + width, size), min(left + 2 * width, size)
            i, j = left, middle
            for place in range(left, right):
                if j >= right or (i < middle and values[i] <= values[j]):
                    spare[place] = values[i]
                    i += 1
                else:
                    spare[place] = values[j]
                    count += middle - i
                    j += 1
        values[:] = spare
        width *= 2
    return count


@exact
def tied(first: Any, second: Any) -> int:
    """Return the pairs that are equal in both; equal ones stand together."""
    count, run = 0, 0
    for i in range(1, len(first)):
        run = run + 1 if first[i] == first[i - 1] and second[i] == second[i - 1] else 0
        count += run
    return count


@exact
def ordered(s: Any, t: Any) -> tuple[int, int, int]:
    """Return the counts of numba_orders, of finite logits in ascending order of (t, s).

    Knight, "A computer method for calculating Kendall's tau with ungrouped data", JASA 61 (1966).
    """
    pairs = len(s) * (len(s) - 1) // 2
    tied_in_t, tied_in_both = tied(t, t), tied(s, t)
    by_s = s.copy()
    discordant = inversions(by_s, np.empty_like(s))
    tied_in_s = tied(by_s, by_s)
    concordant = pairs - tied_in_t - tied_in_s + tied_in_both - discordant
    return concordant - discordant, pairs - tied_in_s, pairs - tied_in_t


@compiled("void(float32[:, ::1], float32[:, ::1], int64[:, ::1])")
def sorted_images(s: Any, t: Any, counts: Any) -> None:
    """Write the counts (B, 3) of :func:`ordered` of logits (B, C)."""
    for b in range(len(s)):
        counts[b, 0], counts[b, 1], counts[b, 2] = ordered(s[b], t[b])


def images(s: Any, t: Any, counts: Any) -> None:
    """Write the counts (B, 3) of pairs of finite logits (B, C) in any order."""
    order = np.argsort(s, axis=1)
    s, t = np.take_along_axis(s, order, axis=1), np.take_along_axis(t, order, axis=1)
    order = np.argsort(t, axis=1, kind="stable")
    s, t = np.take_along_axis(s, order, axis=1), np.take_along_axis(t, order, axis=1)
    sorted_images(s, t, counts)
