"""Evaluations side by side: tables of methods, paired tests between them, and their order under each protocol."""

import dataclasses
import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.errors import PredictionError
from randscene.files import write_atomic
from randscene.train.evaluation_report import EvaluationReport
from randscene.train.evaluation_statistics import PairedTest, paired_test
from randscene.train.protocols import BoxIou, ChamferMeasure, ObjectLevel, Protocol
from randscene.train.scaling_statistics import Interval

COMPARISON_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Column:
    """One measure as the tables show it."""

    title: str
    name: str
    """Column of a report's rows."""
    factor: int
    """100 for percent."""
    digits: int
    lower_is_better: bool

    def text(self, value: float | None) -> str:
        """`value` as shown, `-` if there is none."""
        return "-" if value is None else f"{self.factor * value:.{self.digits}f}"

    def interval_text(self, interval: Interval | None) -> str:
        """`[low, high]`, empty if there is none."""
        if interval is None or interval.low is None or interval.high is None:
            return ""
        return f"[{self.text(interval.low)}, {self.text(interval.high)}]"

    def with_interval(self, interval: Interval | None) -> str:
        """`value [low, high]`."""
        value = self.text(None if interval is None else interval.value)
        return f"{value} {self.interval_text(interval)}".rstrip()


def paper_columns(protocol: Protocol) -> tuple[Column, ...]:
    """CD-S, F-S, CD-O, F-O and IoU-B: the columns of I-Scene's tables, in their order, as `protocol` defines each.

    Objects are all true ones, missing ones with the penalty.
    """
    chamfer, objects = protocol.chamfer, protocol.object_level
    return (
        Column(title="CD-S", name=f"scene_{chamfer}", factor=1, digits=4, lower_is_better=True),
        Column(title="F-S", name="scene_f_score", factor=100, digits=2, lower_is_better=False),
        Column(title="CD-O", name=f"{objects}_{chamfer}", factor=1, digits=4, lower_is_better=True),
        Column(title="F-O", name=f"{objects}_f_score", factor=100, digits=2, lower_is_better=False),
        Column(title="IoU-B", name="scene_aabb_iou", factor=1, digits=4, lower_is_better=False),
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several methods under one protocol, on the same views."""

    reports: Mapping[str, EvaluationReport]
    """By the method's name, in the order of the tables' rows; at least one."""

    def __post_init__(self) -> None:
        first = next(iter(self.reports.values()))
        for name, report in self.reports.items():
            if [scene.key for scene in report.scenes] != [scene.key for scene in first.scenes]:
                raise PredictionError(f"{name} was scored on other views than {next(iter(self.reports))}")

    @property
    def protocol(self) -> Protocol:
        return next(iter(self.reports.values())).protocol

    @property
    def columns(self) -> tuple[Column, ...]:
        return paper_columns(self.protocol)

    def intervals(self) -> dict[str, list[Interval | None]]:
        """For each method its means with their intervals, in the order of `columns`."""
        found = {name: report.intervals() for name, report in self.reports.items()}
        return {name: [each[column.name] for column in self.columns] for name, each in found.items()}

    def tests(self) -> list[tuple[str, str, list[PairedTest | None]]]:
        """Each two methods (first, second) and the tests of second minus first, in the order of `columns`."""
        keys = next(iter(self.reports.values())).statistics_keys()
        rows = {name: report.rows() for name, report in self.reports.items()}
        seed = next(iter(self.reports.values())).seed
        return [
            (
                a,
                b,
                [
                    paired_test([row[c.name] for row in rows[a]], [row[c.name] for row in rows[b]], keys, seed)
                    for c in self.columns
                ],
            )
            for a, b in itertools.combinations(self.reports, 2)
        ]

    def splits(self) -> list[tuple[str, str, EvaluationReport]]:
        """(split, method, its scenes of that split), split after split; empty unless the reports are to tell them."""
        parts = {name: report.splits() for name, report in self.reports.items() if report.by_split}
        splits = sorted({split for each in parts.values() for split in each})
        return [(split, name, each[split]) for split in splits for name, each in parts.items() if split in each]

    def ranks(self) -> list[dict[str, int | None]]:
        """For each column the methods' ranks by mean: 1 is best, equal means share a rank, None without a mean."""
        means = {name: report.means() for name, report in self.reports.items()}
        ranks: list[dict[str, int | None]] = []
        for column in self.columns:
            sign = 1 if column.lower_is_better else -1
            values = {
                name: None if (mean := each[column.name]) is None else sign * mean for name, each in means.items()
            }
            present = [value for value in values.values() if value is not None]
            ranks.append(
                {
                    name: None if value is None else 1 + sum(other < value for other in present)
                    for name, value in values.items()
                }
            )
        return ranks

    def to_json(self) -> str:
        """The paired tests as JSON text."""
        content = {
            "schema": COMPARISON_SCHEMA,
            "protocol": self.protocol.name,
            "methods": list(self.reports),
            "tests": [
                {
                    "first": first,
                    "second": second,
                    "second_minus_first": {
                        column.name: None if test is None else dataclasses.asdict(test)
                        for column, test in zip(self.columns, tests, strict=True)
                    },
                }
                for first, second, tests in self.tests()
            ],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Means with intervals, a row a method; below, a table of paired tests if there are several methods."""
        head = ["method", *map(_markdown_title, self.columns), "missing"]
        rows = [
            [
                markdown_cell(name),
                *(column.with_interval(one) for column, one in zip(self.columns, each, strict=True)),
                f"{self.reports[name].n_missing} of {self.reports[name].n_instances}",
            ]
            for name, each in self.intervals().items()
        ]
        brackets = "In brackets: 95 % bootstrap intervals over scenes."
        text = f"{_about(self)}\n{brackets}\n\n{markdown_table(head, rows)}"
        if len(self.reports) > 1:
            head = ["second minus first", *(column.title for column in self.columns)]
            rows = [
                [
                    markdown_cell(f"{b} - {a}"),
                    *(paired_text(c, test) for c, test in zip(self.columns, tests, strict=True)),
                ]
                for a, b, tests in self.tests()
            ]
            text += (
                "\nPaired on the same views: mean difference, its interval, and p of a two-sided sign-flip test over "
                f"scenes, not corrected for their number.\n\n{markdown_table(head, rows)}"
            )
        if parts := self.splits():
            head = ["split", "method", "views", *map(_markdown_title, self.columns), "missing"]
            rows = []
            for split, name, report in parts:
                means = report.intervals()
                cells = [column.with_interval(means[column.name]) for column in self.columns]
                missing = f"{report.n_missing} of {report.n_instances}"
                rows.append([markdown_cell(split), markdown_cell(name), str(len(report.scenes)), *cells, missing])
            text += f"\nBy split.\n\n{markdown_table(head, rows)}"
        return text

    def to_latex(self) -> str:
        """A `booktabs` table: means alone, a row a method, the best of several in bold."""
        head = " & ".join(
            ["Method"]
            + [f"{c.title} ${chr(92)}{'downarrow' if c.lower_is_better else 'uparrow'}$" for c in self.columns]
        )
        means = {name: report.means() for name, report in self.reports.items()}
        shown = {name: [column.text(each[column.name]) for column in self.columns] for name, each in means.items()}
        ranks = self.ranks()
        best = [
            {shown[name][place] for name, rank in ranks[place].items() if rank == 1 and len(shown) > 1}
            for place in range(len(self.columns))
        ]
        lines = [
            # What is equal in print is equally bold.
            " & ".join(
                [_latex(name), *(f"\\textbf{{{text}}}" if text in best[i] else text for i, text in enumerate(texts))]
            )
            for name, texts in shown.items()
        ]
        return "\n".join(
            [
                *(f"% {line}" for line in _about(self).splitlines() if line),
                f"\\begin{{tabular}}{{l{'c' * len(self.columns)}}}",
                "\\toprule",
                f"{head} \\\\",
                "\\midrule",
                *(f"{line} \\\\" for line in lines),
                "\\bottomrule",
                "\\end{tabular}",
                "",
            ]
        )

    def write(self, out: Path) -> list[Path]:
        """Write `table.md`, `table.tex` and, for several methods, `comparison.json` into `out`; returns their paths."""
        texts = {"table.md": self.to_markdown(), "table.tex": self.to_latex()}
        if len(self.reports) > 1:
            texts["comparison.json"] = self.to_json()
        for name, text in texts.items():
            write_atomic(out / name, text)
        return [out / name for name in texts]


def paired_text(column: Column, test: PairedTest | None) -> str:
    """`difference [low, high], p = ...`, `-` without a test."""
    return "-" if test is None else f"{column.with_interval(test.difference)}, {p_text(test.p)}"


def p_text(p: float) -> str:
    """`p = ...`, or a bound where the digits end."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


_CHAMFER: dict[ChamferMeasure, str] = {
    "cd_squared": "sum of both mean squared distances",
    "cd_unsquared": "sum of both mean distances",
    "cd_half": "half the sum of both mean distances",
}
_OBJECTS: dict[ObjectLevel, str] = {
    "object": "where the scene's alignment leaves them",
    "object_realigned": "each normalised and aligned by itself",
}
_BOXES: dict[BoxIou, str] = {
    "scene": "of the scenes' boxes",
    "objects": "mean over objects, after the scene's alignment",
    "objects_before_alignment": "mean over objects, before alignment",
}


def _about(comparison: Comparison) -> str:
    report = next(iter(comparison.reports.values()))
    protocol = report.protocol
    text = (
        f"Protocol {protocol.name}: {len(report.scenes)} views, {report.n_instances} instances.\n"
        f"CD: {_CHAMFER[protocol.chamfer]}. F: at {protocol.tau:g}, in percent. "
        f"Objects: {_OBJECTS[protocol.object_level]}. IoU-B: {_BOXES[protocol.box_iou]}."
    )
    if any(each.n_missing for each in comparison.reports.values()):
        missing = ", ".join(f"{name} {each.n_missing}" for name, each in comparison.reports.items() if each.n_missing)
        text += f"\nMissing instances, which count with the penalty: {missing}."
    if any(each.n_surplus for each in comparison.reports.values()):
        surplus = ", ".join(f"{name} {each.n_surplus}" for name, each in comparison.reports.items() if each.n_surplus)
        text += f"\nSurplus instances, which count in their scenes alone: {surplus}."
    overlaps = {name: each.means()["part_overlap"] for name, each in comparison.reports.items()}
    if told := [f"{name} {overlap:.4f}" for name, overlap in overlaps.items() if overlap is not None]:
        text += f"\nMean overlap between the instances of a prediction: {', '.join(told)}."
    return text


def _markdown_title(column: Column) -> str:
    return f"{column.title} {'↓' if column.lower_is_better else '↑'}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]], words: Collection[int] = frozenset({0})) -> str:
    """Lines of a table whose columns `words` are words, the first one by default, and whose others are numbers."""
    lines = [head, ["---" if place in words else "---:" for place in range(len(head))], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown_cell(text: str) -> str:
    """Text that does not end its cell."""
    return text.replace("|", "\\|")


_LATEX = {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
