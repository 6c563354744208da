"""Pairs of rows and columns whose costs have the least sum.

As SciPy's `linear_sum_assignment`, which takes longer to load (0.5 s of processor time) than a clip's faces
take to be paired: they are some ten in a frame, and few of them compete.
"""

import numpy as np


def assigned(cost: np.ndarray) -> list[tuple[int, int]]:
    """(row, column) of each pair, rows rising; each is used once, and all of the fewer ones are.

    Shortest augmenting paths (Crouse, 2016, "On implementing 2D rectangular assignment algorithms").

    Args:
      cost: f[n, m], finite.
    """
    cost = np.asarray(cost, np.float64)
    if cost.shape[0] > cost.shape[1]:
        return sorted((row, column) for column, row in assigned(cost.T))
    rows, columns = cost.shape
    of_column = np.full(columns, -1)  # the row that each has
    of_row = np.full(rows, -1)
    potentials = np.zeros(rows), np.zeros(columns)
    for row in range(rows):
        _augment(cost, row, of_row, of_column, potentials)
    return [(row, int(column)) for row, column in enumerate(of_row)]


def _augment(
    cost: np.ndarray,
    start: int,
    of_row: np.ndarray,
    of_column: np.ndarray,
    potentials: tuple[np.ndarray, np.ndarray],
) -> None:
    """Gives one more row a column, others other ones where that is cheaper; all but `cost` in place.

    With the potentials u of rows and v of columns cost - u - v is not below 0, and 0 for each pair.
    """
    u, v = potentials
    shortest = np.full(len(v), np.inf)  # of the ways to each column
    came_from = np.full(len(v), -1)  # the row before it
    done = np.zeros(len(v), bool)
    row, length, visited = start, 0.0, []
    while True:
        visited.append(row)
        way = length + cost[row] - u[row] - v
        shorter = ~done & (way < shortest)
        shortest[shorter], came_from[shorter] = way[shorter], row
        column = int(np.argmin(np.where(done, np.inf, shortest)))
        length = shortest[column]
        done[column] = True
        if of_column[column] < 0:
            break
        row = int(of_column[column])
    u[start] += length
    others = [one for one in visited if one != start]
    u[others] += length - shortest[of_row[others]]
    v[done] -= length - shortest[done]
    while True:
        row = int(came_from[column])
        of_column[column] = row
        of_row[row], column = column, of_row[row]
        if row == start:
            return
