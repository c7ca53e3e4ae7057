"""The order of methods under several protocols, and where it changes."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from randscene.train.evaluation_tables import Comparison, markdown_cell, markdown_table


@dataclass(frozen=True, kw_only=True)
class RankChange:
    """Two methods whose order two protocols see differently."""

    column: str
    """Title, such as CD-S."""
    better: str
    """Before `worse` under `under`, behind it under `not_under`."""
    worse: str
    under: str
    not_under: str


def rank_rows(comparisons: Sequence[Comparison]) -> list[tuple[str, str, list[int | None]]]:
    """(column's title, method, its rank under each protocol), for every column and method.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of the same methods, one a protocol; at least one.
    """
    ranks = [comparison.ranks() for comparison in comparisons]
    return [
        (column.title, name, [each[place][name] for each in ranks])
        for place, column in enumerate(comparisons[0].columns)
        for name in comparisons[0].reports
    ]


def rank_changes(comparisons: Sequence[Comparison]) -> list[RankChange]:
    """Where two methods' order under a protocol is the opposite of their order under the first that ranks them."""
    names = [comparison.protocol.name for comparison in comparisons]
    by_column: dict[str, dict[str, list[int | None]]] = {}
    for title, method, each in rank_rows(comparisons):
        by_column.setdefault(title, {})[method] = each
    changes = []
    for title, methods in by_column.items():
        for a, b in itertools.combinations(methods, 2):
            first: tuple[str, bool] | None = None
            for name, rank_a, rank_b in zip(names, methods[a], methods[b], strict=True):
                if rank_a is None or rank_b is None or rank_a == rank_b:
                    continue
                if first is None:
                    first = name, rank_a < rank_b
                elif first[1] != (rank_a < rank_b):
                    better, worse = (a, b) if first[1] else (b, a)
                    changes.append(RankChange(column=title, better=better, worse=worse, under=first[0], not_under=name))
    return changes


def ranks_markdown(comparisons: Sequence[Comparison]) -> str:
    """The ranks by protocol as a table, and below it every change of order."""
    rows: list[list[str]] = [
        [title, markdown_cell(method), *("-" if rank is None else str(rank) for rank in ranks)]
        for title, method, ranks in rank_rows(comparisons)
    ]
    head = ["measure", "method", *(comparison.protocol.name for comparison in comparisons)]
    changes = [f"* {change_text(change)}\n" for change in rank_changes(comparisons)]
    below = "".join(changes) if changes else "No two methods change places.\n"
    return f"Rank of each method by its mean, 1 is best.\n\n{markdown_table(head, rows)}\n{below}"


def change_text(change: RankChange) -> str:
    """One line."""
    return (
        f"{change.column}: {change.better} is better than {change.worse} under {change.under}, "
        f"worse under {change.not_under}"
    )
