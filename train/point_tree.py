"""Nearest points of a cloud: a balanced tree of boxes, searched by compiled code.

Clouds here are surfaces, and what is asked about lies near them but seldom on them. The box around a patch of surface
is thin, so that few boxes are nearer than the nearest point; of a k-d tree's half-spaces many more would be entered.
Eight boxes, or the points of a leaf, are measured at once, in loops without branches that become vector instructions.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.compiled import compiled

_LEAF = 16
"""Room for points in a leaf; fewer lie in it."""
_HALVINGS = 3
_CHILDREN = 2**_HALVINGS
"""Boxes below a node."""


class PointTree:
    """A cloud ordered so that near points lie near each other in memory, with a box around each run of them.

    Searches are exact. Of points equally near any may be found, but the same one for the same input.

    Parameters
    ----------
    points : (N, 3) float64
        Finite; at least one.

    Attributes
    ----------
    order : (N,) int64
        The given cloud's rows in the tree's order.
    points : (N, 3) float64
        The cloud in that order. Searches name its rows.
    """

    def __init__(self, points: NDArray[Any]) -> None:
        cloud = np.ascontiguousarray(points, np.float64)
        n_halvings = 0
        while len(cloud) >> n_halvings >= _LEAF:
            n_halvings += 1
        self.order, boxes, starts = _compiled()[0](cloud, n_halvings)
        self.points: NDArray[Any] = cloud[self.order]
        self._nodes = _nodes(boxes, n_halvings)
        self._leaves = np.full((len(starts) - 1, 3, _LEAF), np.inf)
        leaf = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        self._leaves[leaf, :, np.arange(len(cloud)) - starts[leaf]] = self.points
        self._starts = starts

    def __len__(self) -> int:
        return len(self.points)

    def search(
        self,
        queries: NDArray[Any],
        rows: NDArray[Any],
        nearest: NDArray[Any],
        squared: NDArray[Any],
        reach: float = np.inf,
    ) -> None:
        """Write the k points nearest to some of the queries, the nearest first, into `nearest` and `squared`.

        Parameters
        ----------
        queries : (M, 3) float64
        rows : (R,) int64
            Which of the queries to search for.
        nearest : (M, k) int32
            Rows of `points`, -1 where fewer than k lie within reach. What stands there before is a guess: the nearer
            to the truth, the faster the search. Its rows must differ from each other; a -1 among them is no guess.
        squared : (M, k) float64
            Their squared distances, infinite where there is none.
        reach : float
            Only points nearer than this count.
        """
        tree = (self.points, self._nodes, self._leaves, self._starts)
        _compiled()[1](queries, rows, *tree, float(reach) ** 2, nearest, squared)

    def nearest(self, queries: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The nearest point of each query.

        Parameters
        ----------
        queries : (M, 3) float64
            Faster if neighbours come one after the other, as in `points` of another tree.

        Returns
        -------
        distance : (M,) float64
        row : (M,) int32
            Of `points`.
        """
        rows = np.full((len(queries), 1), -1, np.int32)
        squared = np.empty((len(queries), 1))
        self.search(np.ascontiguousarray(queries, np.float64), np.arange(len(queries)), rows, squared)
        return np.sqrt(squared[:, 0]), rows[:, 0]


@functools.cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    return compiled(_build), compiled(_search)


def _nodes(boxes: NDArray[Any], n_halvings: int) -> NDArray[Any]:
    """The boxes of a tree of halves, (nodes, 6), as those of a tree of eighths, (nodes, 6, 8); the root may have fewer.

    Boxes that are not there are infinitely far away. A node's children, and the leaves behind the last node, are
    numbered in the same order as the boxes.
    """
    if n_halvings == 0:
        levels = [(0, 0)]
    else:
        first = n_halvings % _HALVINGS or _HALVINGS
        levels = [(0, first), *((depth, _HALVINGS) for depth in range(first, n_halvings, _HALVINGS))]
    nodes = []
    for depth, halvings in levels:
        below = 1 << (depth + halvings)
        level = np.full((1 << depth, 6, _CHILDREN), np.inf)
        level[:, :, : 1 << halvings] = boxes[below - 1 : 2 * below - 1].reshape(1 << depth, -1, 6).transpose(0, 2, 1)
        nodes.append(level)
    return np.concatenate(nodes)


def _build(points: NDArray[Any], n_halvings: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Order, boxes and runs of a cloud halved `n_halvings` times, each box across its longest side.

    Boxes are the nodes of a complete binary tree, node i's halves being 2 i + 1 and 2 i + 2: (nodes, 6) low x, y, z,
    high x, y, z. The last row of nodes holds the runs [starts[j], starts[j + 1]) of the order.
    """
    n_inner = (1 << n_halvings) - 1
    n_nodes = 2 * n_inner + 1
    order = np.arange(len(points))
    boxes = np.empty((n_nodes, 6))
    first = np.empty(n_nodes + 1, np.int64)
    last = np.empty(n_nodes, np.int64)
    first[0], last[0] = 0, len(points)
    for node in range(n_nodes):
        low, high = first[node], last[node]
        x0 = y0 = z0 = np.inf
        x1 = y1 = z1 = -np.inf
        for i in range(low, high):
            row = order[i]
            x, y, z = points[row, 0], points[row, 1], points[row, 2]
            x0, y0, z0 = min(x0, x), min(y0, y), min(z0, z)
            x1, y1, z1 = max(x1, x), max(y1, y), max(z1, z)
        boxes[node, 0], boxes[node, 1], boxes[node, 2] = x0, y0, z0
        boxes[node, 3], boxes[node, 4], boxes[node, 5] = x1, y1, z1
        if node >= n_inner:
            continue
        axis, side = 0, x1 - x0
        if y1 - y0 > side:
            axis, side = 1, y1 - y0
        if z1 - z0 > side:
            axis = 2
        middle = (low + high) >> 1
        # Quickselect: the lower half of the run before its middle, the upper half behind.
        begin, end = low, high
        while end - begin > 1:
            a, b, c = (
                points[order[begin], axis],
                points[order[(begin + end) >> 1], axis],
                points[order[end - 1], axis],
            )
            pivot = max(min(a, b), min(max(a, b), c))
            i, j = begin, end - 1
            while i <= j:
                while points[order[i], axis] < pivot:
                    i += 1
                while points[order[j], axis] > pivot:
                    j -= 1
                if i <= j:
                    order[i], order[j] = order[j], order[i]
                    i += 1
                    j -= 1
            if middle <= j:
                end = j + 1
            elif middle >= i:
                begin = i
            else:
                break
        first[2 * node + 1], last[2 * node + 1] = low, middle
        first[2 * node + 2], last[2 * node + 2] = middle, high
    first[n_nodes] = len(points)
    return order, boxes, first[n_inner:].copy()


def _search(
    queries: NDArray[Any],
    rows: NDArray[Any],
    points: NDArray[Any],
    nodes: NDArray[Any],
    leaves: NDArray[Any],
    starts: NDArray[Any],
    reach_squared: float,
    nearest: NDArray[Any],
    squared: NDArray[Any],
) -> None:
    """See `PointTree.search`."""
    k = nearest.shape[1]
    best = np.empty(k)
    who = np.empty(k, np.int32)
    n_children, room = nodes.shape[2], leaves.shape[2]
    gaps, apart = np.empty(n_children), np.empty(room)
    waiting, how_far = np.empty(256, np.int64), np.empty(256)
    n_root = 0
    for child in range(n_children):
        if nodes[0, 0, child] < np.inf:
            n_root += 1
    count = 0
    for row in rows:
        x, y, z = queries[row, 0], queries[row, 1], queries[row, 2]
        # k points in hand bound the k-th distance: those guessed, else those of the query before, which may be near.
        # A little more, so that these points themselves are found again.
        guessed = True
        for j in range(k):
            guessed = guessed and nearest[row, j] >= 0
        bound = 0.0 if guessed or count == k else np.inf
        if bound == 0:
            for j in range(k):
                guess = nearest[row, j] if guessed else who[j]
                dx, dy, dz = x - points[guess, 0], y - points[guess, 1], z - points[guess, 2]
                bound = max(bound, dx * dx + dy * dy + dz * dz)
        bound = min(bound * (1 + 1e-12) + 1e-300, reach_squared)
        count = 0
        top = 1
        waiting[0], how_far[0] = 0, 0.0
        while top > 0:
            top -= 1
            if how_far[top] >= bound:
                continue
            node = waiting[top]
            if node < len(nodes):
                for child in range(n_children):
                    dx = max(max(nodes[node, 0, child] - x, x - nodes[node, 3, child]), 0.0)
                    dy = max(max(nodes[node, 1, child] - y, y - nodes[node, 4, child]), 0.0)
                    dz = max(max(nodes[node, 2, child] - z, z - nodes[node, 5, child]), 0.0)
                    gaps[child] = dx * dx + dy * dy + dz * dz
                first = 1 if node == 0 else 1 + n_root + n_children * (node - 1)
                base = top
                for child in range(n_children):
                    if gaps[child] < bound:
                        # The nearest comes last, to be taken first.
                        place = top
                        while place > base and how_far[place - 1] < gaps[child]:
                            how_far[place], waiting[place] = how_far[place - 1], waiting[place - 1]
                            place -= 1
                        how_far[place], waiting[place] = gaps[child], first + child
                        top += 1
                continue
            leaf = node - len(nodes)
            for i in range(room):
                dx, dy, dz = leaves[leaf, 0, i] - x, leaves[leaf, 1, i] - y, leaves[leaf, 2, i] - z
                apart[i] = dx * dx + dy * dy + dz * dz
            for i in range(room):
                distance = apart[i]
                if distance < bound:
                    place = count if count < k else k - 1
                    while place > 0 and best[place - 1] > distance:
                        best[place], who[place] = best[place - 1], who[place - 1]
                        place -= 1
                    best[place], who[place] = distance, starts[leaf] + i
                    if count < k:
                        count += 1
                    if count == k:
                        bound = best[k - 1]
        for j in range(k):
            nearest[row, j] = who[j] if j < count else -1
            squared[row, j] = best[j] if j < count else np.inf
