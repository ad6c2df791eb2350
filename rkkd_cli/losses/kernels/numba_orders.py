"""Counts of concordant and tied pairs of float32 logits by comparing all pairs; exact, in numba."""

from typing import Any

import numpy as np

from rkkd_cli.losses.kernels.compiled import compiled, exact

ZERO = np.int32(0)


@exact
def compare_all_pairs(s: Any, t: Any) -> tuple[int, int, int]:
    """Return concordant less discordant pairs, and those not tied in s and in t; NaN is tied."""
    balance = untied_in_s = untied_in_t = 0
    for i in range(len(s)):
        si, ti = s[i], t[i]
        b, x, y = ZERO, ZERO, ZERO
        for n in range(len(s) - 1 - i):
            j = np.uintp(i + 1 + n)  # unsigned: a loop over a signed index is not vectorised
            u = np.int32(si > s[j]) - np.int32(si < s[j])
            v = np.int32(ti > t[j]) - np.int32(ti < t[j])
            b += np.int32(u * v)
            x += np.int32(u != 0)
            y += np.int32(v != 0)
        balance += int(b)
        untied_in_s += int(x)
        untied_in_t += int(y)
    return balance, untied_in_s, untied_in_t


@compiled("void(float32[:, ::1], float32[:, ::1], int64[:, ::1])")
def count_by_comparing(s: Any, t: Any, counts: Any) -> None:
    """Write the counts (B, 3) of :func:`compare_all_pairs` of logits (B, C)."""
    for b in range(len(s)):
        counts[b, 0], counts[b, 1], counts[b, 2] = compare_all_pairs(s[b], t[b])
