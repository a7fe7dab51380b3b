"""Whether A and B agree: bit for bit, unless the subject states why it rounds differently."""

from collections.abc import Mapping
from math import inf, isfinite, isnan

from frostproof.training.observation import Bits, Trial

ROUNDING = {"float64": 1e-6, "float32": 1e-6, "bfloat16": 0.03}
"""The largest difference that counts as rounding, by dtype, relative to the largest value of the
tensor or to 1. In float64 it is far above what a few iterations make of one ulp, and far below any
update; in bfloat16 it is a few ulp."""

WHEN_COMPILED = {"float64": 1e-3, "float32": 1e-2, "bfloat16": 0.25}
"""The same for compiled steps. They may compute in float32 what the step computes in Python's
floats, such as the correction of Adam's bias: that is dozens of units in the last place of float32
in each step, and a dozen steps made 1e-4 of it."""


def is_rounding(trial: Trial, left: Bits | None, right: Bits | None) -> bool:
    """Whether two tensors of one size differ by rounding alone, where the subject allows it."""
    if not trial.allows_rounding or left is None or right is None or len(left) != len(right):
        return False
    difference = rounding(left, right, trial.case.dtype)
    trial.rounding = max(trial.rounding, difference or 0.0)
    return difference is not None


def rounding(
    left: Bits, right: Bits, dtype: str, limits: Mapping[str, float] = ROUNDING
) -> float | None:
    """The largest difference between two tensors, in units in the last place.

    None where it is larger than rounding makes it: than the limit, by dtype.
    """
    from frostproof.training.bits import ulp, values

    if left == right:
        return 0.0
    old, new = values(left, dtype), values(right, dtype)
    # Infinite values and NaNs must be the same in both. How large a rounding is, they do not tell.
    pairs = zip(old, new, strict=True)
    unequal = [(x, y) for x, y in pairs if x != y and not (isnan(x) and isnan(y))]
    largest = max([1.0, *(abs(x) for x in old if isfinite(x))])
    sizes = (abs(x - y) if isfinite(x) and isfinite(y) else inf for x, y in unequal)
    difference = max(sizes, default=0.0)
    return difference / ulp(largest, dtype) if difference <= limits[dtype] * largest else None
