"""Counts of concordant and tied pairs of float32 logits by sorting; exact, in numba.

Source: Knight, "A computer method for calculating Kendall's tau with ungrouped data", JASA 61
(1966).
"""

from typing import Any

import numpy as np

from rkkd_cli.losses.kernels.compiled import compiled, exact


@exact
def count_inversions(values: Any, buffer: Any) -> int:
    """Return the number of pairs i < j with values[i] > values[j]; merge-sorts ``values``."""
    size, count, width = len(values), 0, 1
    while width < size:
        for left in range(0, size, 2 * width):
            middle, right = min(left + width, size), min(left + 2 * width, size)
            i, j = left, middle
            for position in range(left, right):
                if j >= right or (i < middle and values[i] <= values[j]):
                    buffer[position] = values[i]
                    i += 1
                else:
                    buffer[position] = values[j]
                    count += middle - i
                    j += 1
        values[:] = buffer
        width *= 2
    return count


@exact
def count_ties(x: Any, y: Any) -> int:
    """Return the number of pairs that are equal in x and in y; equal entries are neighbours."""
    count, run = 0, 0
    for i in range(1, len(x)):
        run = run + 1 if x[i] == x[i - 1] and y[i] == y[i - 1] else 0
        count += run
    return count


@exact
def count_in_order(s: Any, t: Any) -> tuple[int, int, int]:
    """Return the counts of ``compare_all_pairs`` for finite logits in ascending order of (t, s)."""
    pairs = len(s) * (len(s) - 1) // 2
    tied_in_t, tied_in_both = count_ties(t, t), count_ties(s, t)
    by_s = s.copy()
    discordant = count_inversions(by_s, np.empty_like(s))
    tied_in_s = count_ties(by_s, by_s)
    concordant = pairs - tied_in_t - tied_in_s + tied_in_both - discordant
    return concordant - discordant, pairs - tied_in_s, pairs - tied_in_t


@compiled("void(float32[:, ::1], float32[:, ::1], int64[:, ::1])")
def count_each_in_order(s: Any, t: Any, counts: Any) -> None:
    """Write the counts (B, 3) of :func:`count_in_order` of logits (B, C)."""
    for b in range(len(s)):
        counts[b, 0], counts[b, 1], counts[b, 2] = count_in_order(s[b], t[b])


def count_by_sorting(s: Any, t: Any, counts: Any) -> None:
    """Write the counts (B, 3) of pairs of finite logits (B, C) in any order."""
    order = np.argsort(s, axis=1)
    s, t = np.take_along_axis(s, order, axis=1), np.take_along_axis(t, order, axis=1)
    order = np.argsort(t, axis=1, kind="stable")
    s, t = np.take_along_axis(s, order, axis=1), np.take_along_axis(t, order, axis=1)
    count_each_in_order(s, t, counts)
