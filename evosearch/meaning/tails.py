"""What an elementwise function does far out. A claim is fitted at some far places and kept only where it holds at others, out to
1e8; what does not settle there, such as a function of log x, is `undetermined` unless its limit follows from the graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evosearch.language.graph import walk
from evosearch.meaning.bounds import bounds, limit
from evosearch.meaning.curve import Curve
from evosearch.meaning.numeric import Array, evaluate_all

WINDOW: Array = np.linspace(0.0, 512.0, 8193)  # resolves angular frequencies up to 50
START = 1024.0
_WIDE: Array = np.linspace(0.0, 512.0, 1025)  # for the slower ones, in windows that are 4, 16, ... times as far and as wide
_SCALES = 4.0 ** np.arange(1, 8)
_OCTAVES: Array = np.asarray(2.0 ** np.arange(2, 27))
FAR: Array = START * 2.0 ** (np.arange(256) / 16.02)  # 16 places an octave, on no common multiple, to 6.6e7
_BEYOND: Array = 10.0 ** np.arange(8.25, 31, 2)


@dataclass(frozen=True)
class Tail:
    """What the function does far out: `line` (slope x + intercept), `oscillation` (between slope x + low and slope x + high, or
    with an amplitude that grows as |x|^power, more slowly than a power where that is 0), `power` (grows as |x|^power),
    `logarithm`, `exponential`, `unbounded` (grows in another way), `undefined` (not a number), `undetermined` (none of these
    holds at all the far places). `sign` is where a growing one goes; an oscillation whose extremes no two windows share is
    not `settled`."""

    kind: str
    slope: float = 0.0
    intercept: float = 0.0
    power: float = 0.0
    low: float = 0.0
    high: float = 0.0
    sign: float = 1.0
    settled: bool = True


def tail(c: Curve, side: float) -> Tail:
    window = c.f(side * (START + WINDOW))
    if np.isfinite(window).all():
        scale = 1.0 if _oscillates(c, side * (START + WINDOW), window) else _slow_scale(c, side)
        if scale:
            return _oscillation(c, side, scale)
    found = _smooth(c, side)
    if found.kind in ("undefined", "exponential") or _holds(c, side, found):
        return found
    return _from_the_graph(c, side)


def _from_the_graph(c: Curve, side: float) -> Tail:
    end = limit(c.value, side)
    if math.isnan(end):
        return Tail("undetermined")
    return Tail("unbounded", sign=math.copysign(1.0, end)) if math.isinf(end) else Tail("line", intercept=end)


def _smooth(c: Curve, side: float) -> Tail:
    """The tail that values at octaves from 4 to 6.7e7 suggest."""
    x = side * _OCTAVES
    f = c.f(x)
    if np.isnan(f[-1]):
        return Tail("undefined")
    usable = int(np.argmax(~np.isfinite(f))) if not np.isfinite(f).all() else f.size
    if usable < 4:  # beyond float64 within 32 of 0
        return Tail("exponential" if np.isfinite(c.f(np.linspace(-8.0, 8.0, 65))).any() else "undefined", sign=float(np.sign(f[-1])))
    complete = usable == f.size
    x, f = x[:usable], f[:usable]
    if complete and (line := _line(c, x, f)) is not None:
        return line
    sign = float(np.sign(f[-1]))
    step = np.diff(f)
    if complete and abs(step[-1] / step[-2] - 1) < 0.02 and abs(step[-1] / step[-9] - 1) < 0.02:
        return Tail("logarithm", sign=sign)
    power = np.log2(np.abs(f[1:] / f[:-1]))[-9:]
    if not np.isfinite(power[-3:]).all() or power[-1] > 1.3 * power[-2] > 0:
        return Tail("exponential", sign=sign)
    if complete and power[-1] > 0.02 and abs(power[-1] - power[-7]) < min(0.03, 0.05 * power[-1]):  # that of x log x drifts
        return Tail("power", power=round(float(power[-1]), 2), sign=sign)
    return Tail("undetermined")


def _line(c: Curve, x: Array, f: Array) -> Tail | None:
    """A line, level or not, that the last octaves agree on; a remainder c x^-p shrinks by one ratio an octave (Aitken)."""
    unit = c.unit
    ends = []
    for last in (f.size, f.size - 2, f.size - 6):
        first, second = f[last - 1] - f[last - 2], f[last - 2] - f[last - 3]
        ratio = first / second if abs(first) > 1e-8 * unit else 0.0
        ends.append(f[last - 1] + first * ratio / (1 - ratio) if abs(ratio) < 0.95 else math.nan)
    settled = abs(ends[0] - ends[1]) <= 1e-6 * (unit + abs(ends[0])) and abs(ends[0] - ends[2]) <= 1e-4 * (unit + abs(ends[0]))
    if settled:
        return Tail("line", intercept=_round(ends[0], unit))
    slope = (f[-1] - f[-2]) / (x[-1] - x[-2])
    intercept = f[-1] - slope * x[-1]
    rest = np.abs(f[-4:-2] - slope * x[-4:-2] - intercept).max()
    if rest <= 1e-6 * (unit + abs(intercept)) + 1e-15 * abs(f[-1]):
        return Tail("line", _round(slope, 1e-5 * min(1.0, abs(slope))), _round(intercept, unit))
    return None


def _round(value: float, unit: float) -> float:
    """Seven decimals, what cancellation leaves at x = 1e8; more of a small function."""
    return round(float(value), 7 - math.floor(math.log10(max(unit, 1e-290)))) + 0.0


def _holds(c: Curve, side: float, found: Tail) -> bool:
    """Whether the claim is true at other far places too: between the octaves, and as far as 1e30 where rounding leaves a value."""
    x = side * FAR
    f, noise = c.f(x), 8 * c.noise(x)
    last = x.size // 2
    if found.kind == "line":
        slack = noise + 1e-9 * np.abs(f)
        gap = np.maximum(np.abs(f - found.slope * x - found.intercept) - slack, 0.0)
        if gap[last:].max() > gap[: last // 2].max() * 1.01 + 1e-6 * c.unit * (1 + 1e-8 * abs(found.slope) * np.abs(x[-1])):
            return False
    elif found.kind != "undetermined":
        step = np.diff(f) * found.sign
        if (step < -np.maximum(noise[1:], noise[:-1]))[last:].any():
            return False
    return found.kind != "undetermined" and _holds_beyond(c, side, found)


def _holds_beyond(c: Curve, side: float, found: Tail) -> bool:
    x = side * _BEYOND
    f, doubled = c.f(x), c.f(2 * x)
    noise = 1e-12 * _largest(c, x)  # what cancellation may leave
    clear = np.isfinite(f) & np.isfinite(doubled)
    if found.kind == "line":
        far = np.abs(f - found.slope * x - found.intercept) > 1e-3 * (c.unit + abs(found.intercept) + np.abs(found.slope * x)) + noise
        return not bool((clear & far).any())
    return bool((found.sign * (doubled - f) >= -noise)[clear].all())


def _largest(c: Curve, x: Array) -> Array:
    """The largest finite |part| of the function at each place: cancellation leaves its last bits."""
    parts = np.abs(np.stack(evaluate_all(list(walk(c.value)), {"x": x})))
    return np.asarray(np.where(np.isfinite(parts), parts, 0.0).max(0))


def _oscillates(c: Curve, x: Array, f: Array) -> bool:
    bend = np.diff(f, 2)
    noise = 16 * float(c.noise(x[:: x.size // 64]).max())
    if abs(x[0]) > START:  # farther out cancellation is more than the last bits of x
        noise += 2e-15 * float(_largest(c, x[[0, -1]]).max())
    bend = bend[np.abs(bend) > 1e-11 * np.abs(f).max() + noise]
    return int(np.count_nonzero(bend[1:] * bend[:-1] < 0)) > 4


def _slow_scale(c: Curve, side: float) -> float:
    """The first scale at which a window shows an oscillation; 0 without one."""
    x = side * _SCALES[:, None] * (START + _WIDE)
    for scale, places, f in zip(_SCALES, x, c.f(x), strict=True):
        if np.isfinite(f).all() and _oscillates(c, places, f):
            return float(scale)
    return 0.0


def _oscillation(c: Curve, side: float, scale: float) -> Tail:
    """The line through the smoothed values of two windows, and how far the function strays from it in them and in a third."""
    starts = scale * START * np.array([1.0, 4.0, 16.0])
    places = side * (starts[:, None] + scale * WINDOW)
    values = c.f(places)
    if not np.isfinite(values).all():
        return Tail("undefined") if np.isnan(values).any() else Tail("undetermined")
    weight = np.square(np.hanning(WINDOW.size))
    mean = values @ weight / weight.sum()
    middle = side * (starts + scale * 256.0)
    slope = float((mean[1] - mean[0]) / (middle[1] - middle[0]))
    sizes = np.ptp(values - slope * places, axis=1) / 2
    if abs(slope * middle[1]) < 0.02 * sizes.max():  # what smoothing leaves of a level one
        slope = 0.0
    intercept = float(mean[0] - slope * middle[0])
    stray = values - slope * places
    sizes = np.abs(stray - intercept).max(1)
    if np.abs(mean[2] - slope * middle[2] - intercept) > 0.2 * sizes.max() + 1e-3 * abs(intercept):
        return Tail("undetermined")
    if sizes.max() > 50 * np.median(np.abs(stray - intercept)):  # poles, or peaks that a window may miss
        return _from_the_graph(c, side)
    power = np.diff(np.log(np.maximum(sizes, 1e-300))) / np.diff(np.log(starts + 512 * scale))
    if (power < -0.05).all():
        return Tail("line", round(slope, 4) + 0.0, round(intercept, 4) + 0.0)
    if (power > 0.02).all():
        steady = abs(power[1] - power[0]) < 0.05 * power[1]
        if not steady and not _rises(sizes):
            return Tail("undetermined")
        return Tail("oscillation", power=round(float(power[1]), 2) if steady else 0.0, low=-math.inf, high=math.inf)
    (low, low_settled), (high, high_settled) = (_extreme(c, places, stray, slope, sign) for sign in (-1.0, 1.0))
    if math.isnan(low + high):
        return Tail("undetermined")
    outer = bounds(c.value) if slope == 0 else (-math.inf, math.inf)
    near = 1e-4 * (high - low)
    low, high = (outer[0] if low < outer[0] + near else low), (outer[1] if high > outer[1] - near else high)
    settled = (low_settled or low == outer[0]) and (high_settled or high == outer[1])
    return Tail("oscillation", round(slope, 5) + 0.0, round(intercept, 4) + 0.0, 0.0, low, high, settled=settled)


def _rises(sizes: Array) -> bool:
    """Whether the amplitude gains as much from the second window to the third as from the first to the second, as a logarithm."""
    return bool(sizes[2] - sizes[1] > 0.9 * (sizes[1] - sizes[0]))


def _extreme(c: Curve, places: Array, stray: Array, slope: float, sign: float) -> tuple[float, bool]:
    """What the largest (or smallest) values of the three windows agree on, or tend to, and whether they do; NaN where they are far apart."""
    tops = []
    for x, v in zip(places, sign * stray, strict=True):
        at, width = float(x[np.argmax(v)]), abs(float(x[1] - x[0]))
        for _ in range(3):
            around = at + width * np.linspace(-1, 1, 41)
            near = sign * (c.f(around) - slope * around)
            at, width = float(around[np.argmax(near)]), width / 15
        tops.append(float(near.max()))
    size = float(np.ptp(stray)) / 2
    first, second = tops[1] - tops[0], tops[2] - tops[1]
    if max(abs(first), abs(second)) <= 2e-3 * size and abs(second) <= 0.5 * abs(first) + 1e-6 * size:
        ratio = second / first if abs(first) > 1e-6 * size else 0.0
        return sign * (tops[2] + second * ratio / (1 - ratio)), max(abs(first), abs(second)) <= 1e-6 * size
    return sign * max(tops) if max(abs(first), abs(second)) <= 2e-2 * size else math.nan, False
