"""The recorder's clock against the exchange's, from the messages that carry both times.

A message arrives later than it was sent by a latency that is often close to its minimum, so local minus exchange time
has a sharp lower envelope. Its estimate is the highest line below all points, the edge of the lower convex hull at the
mean time (Moon, Skelly & Towsley, Estimation and removal of clock skew from network delay measurements, INFOCOM 1999).
The smallest latency cannot be told from the offset and is part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clock:
    """local time = exchange time + offset + drift (local time - origin) + latency, with latency >= 0.

    Attributes:
        origin: Local time of the first message, nanoseconds since 1970.
        offset: Seconds at `origin`; negative when the recorder runs behind. It holds the smallest latency.
        drift: Seconds per second.
        latency: 50th, 95th and 99th percentile of what remains, seconds above the smallest.
    """

    origin: int
    offset: float
    drift: float
    latency: tuple[float, float, float]

    def exchange_time(self, local: np.ndarray) -> np.ndarray:
        """Local times (int64 nanoseconds) on the exchange's clock, int64 nanoseconds."""
        error = self.offset + self.drift * 1e-9 * (local - self.origin)
        return local - np.round(error * 1e9).astype(np.int64)


def fit_clock(local: np.ndarray, exchange: np.ndarray) -> Clock:
    """Fit the lower envelope of local minus exchange time.

    Args:
        local: (n,) int64 nanoseconds, ascending.
        exchange: (n,) int64 nanoseconds of the same messages.
    """
    time = (local - local[0]) * 1e-9
    difference = (local - exchange) * 1e-9
    left, right = _edge(time, difference, at=float(time.mean()))
    drift = 0.0 if left == right else float((difference[right] - difference[left]) / (time[right] - time[left]))
    offset = float(difference[left] - drift * time[left])
    latency = np.percentile(difference - offset - drift * time, (50, 95, 99))
    return Clock(int(local[0]), offset, drift, (float(latency[0]), float(latency[1]), float(latency[2])))


def _edge(x: np.ndarray, y: np.ndarray, at: float) -> tuple[int, int]:
    """The two indices of the lower convex hull's edge above `at` (the same index twice if all x are equal)."""
    order = np.lexsort((y, x))
    first = np.r_[True, np.diff(x[order]) > 0]  # of points at one time only the lowest can lie on the hull
    hull: list[int] = []
    for point in order[first].tolist():
        while len(hull) > 1 and _turns_right(x, y, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    right = min(max(int(np.searchsorted(x[hull], at)), 1), len(hull) - 1)
    return hull[right - 1] if len(hull) > 1 else hull[0], hull[right]


def _turns_right(x: np.ndarray, y: np.ndarray, a: int, b: int, c: int) -> bool:
    """Whether b lies on or above the chord from a to c."""
    return bool((x[b] - x[a]) * (y[c] - y[a]) <= (y[b] - y[a]) * (x[c] - x[a]))
