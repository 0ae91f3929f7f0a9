# SPDX-License-Identifier: Apache-2.0
"""What the chapter predicts, in numbers; nothing here measures."""

import math


def least_squares(rows: list[tuple[list[float], float]]) -> list[float]:
    """The factors F that come closest to sum(F[i] * x[i]) = y for all rows (x, y)."""
    size = len(rows[0][0])
    matrix = [[sum(x[i] * x[j] for x, _ in rows) for j in range(size)]
              + [sum(x[i] * y for x, y in rows)] for i in range(size)]  # fmt: skip
    for pivot in range(size):
        best = max(range(pivot, size), key=lambda row: abs(matrix[row][pivot]))
        matrix[pivot], matrix[best] = matrix[best], matrix[pivot]
        if abs(matrix[pivot][pivot]) < 1e-12:
            raise ValueError("the points do not tell the factors apart")
        for row in range(size):
            if row != pivot:
                factor = matrix[row][pivot] / matrix[pivot][pivot]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[pivot], strict=True)]
    return [matrix[i][size] / matrix[i][i] for i in range(size)]


def fit_quality(measured: list[float], predicted: list[float]) -> float:
    """R squared: 1 when the model explains every difference between the points, 0 when none."""
    mean = sum(measured) / len(measured)
    total = sum((y - mean) ** 2 for y in measured)
    left = sum((y - p) ** 2 for y, p in zip(measured, predicted, strict=True))
    return 1 - left / total if total else float(left == 0)


def kick_model(points: list[dict]) -> dict:
    """cost per packet = c + H * kicks + I * interrupts, of POINTS with k, kicks, interrupts
    (both for each packet) and cost. Relative errors count: a tenth at k = 256 as much as at k = 1.

    `crossover` is H/I, None unless both came out positive; r2 is of the logarithms."""
    rows = [([1 / p["cost"], p["kicks"] / p["cost"], p["interrupts"] / p["cost"]], 1) for p in points]
    c, hypercall, interrupt = least_squares(rows)
    predicted = [c + hypercall * p["kicks"] + interrupt * p["interrupts"] for p in points]
    sound = min(predicted) > 0
    quality = fit_quality([math.log(p["cost"]) for p in points], [math.log(y) for y in predicted]) if sound else 0.0
    crossover = hypercall / interrupt if hypercall > 0 and interrupt > 0 else None
    return {"c": c, "H": hypercall, "I": interrupt, "crossover": crossover, "r2": quality, "predicted": predicted}


def bounded_iops(limit: float, cpu_bound: float) -> float:
    """The chapter's bottleneck model: the smaller of what device and CPU can do."""
    return min(limit, cpu_bound)


def si(value: float | None, digits: int = 3) -> str:
    """VALUE as people write it: 12.3 k, 4.56 M."""
    if value is None:
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.{digits}g} {letter}" if abs(value) < 999.5 * size else f"{value / size:.0f} {letter}"
    return f"{value:.{digits}g}" if abs(value) < 999.5 else f"{value:.0f}"
