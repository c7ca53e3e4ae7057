"""`table.md`: what a study found, for people."""

from collections.abc import Iterable, Sequence

from randscene.train.evaluation_tables import markdown_table, paper_columns
from randscene.train.protocols import load_protocol
from randscene.train.scaling_findings import Cell, Comparison, Curve, Findings, Gap
from randscene.train.scaling_measures import Measure, measure_of, measures, title
from randscene.train.scaling_statistics import CONFIDENCE, Interval
from randscene.train.scaling_study import EvaluationSet, Study

Columns = Sequence[tuple[str, Measure]]
"""Metrics, and how they are shown."""


def table_markdown(study: Study, found: Findings) -> str:
    """What is still lacking; tables for each evaluation set; then comparisons and curves."""
    lines = [f"# {study.name}", ""]
    if found.units_done < found.units:
        lines += [f"**Not finished: {found.units_done} of {found.units} runs are there.**", ""]
        lines += [*_gap_lines(found.gaps), ""]
    lines += [
        f"Mean over n seeds ± half of its {100 * CONFIDENCE:g} % interval (Student's t over seeds; none for one seed). "
        "A seed's value is the mean over the set's views. `missing` is the share of instances that were predicted as "
        "nothing.",
        "",
    ]
    for kind in dict.fromkeys(kind for wanted in study.evaluation for kind in wanted.protocols):
        lines += [f"{kind}: {_definition(kind)}.", ""]
    for wanted in study.evaluation:
        cells = [cell for cell in found.cells if cell.set == wanted.name]
        if cells:
            lines += [f"## {wanted.name}", "", *_set_tables(study, wanted, cells)]
    if found.comparisons:
        lines += _comparison_lines(found.comparisons)
    if found.curves:
        lines += _curve_lines(found.curves)
    return "\n".join(lines)


def _gap_lines(gaps: Iterable[Gap]) -> list[str]:
    """A line for each thing that an arm lacks, with the seeds whose runs lack it."""
    lines = []
    for gap in gaps:
        what = "is not trained" if gap.set is None else f"lacks {gap.kind} on {gap.set}"
        seeds = ", ".join(map(str, gap.seeds))
        lines.append(f"* {gap.arm} {what} (seed{'s' * (len(gap.seeds) > 1)} {seeds})")
    return lines


def _set_tables(study: Study, wanted: EvaluationSet, cells: Sequence[Cell]) -> list[str]:
    """Of each protocol the paper's columns, then the others; the loss stands at the end of the last table."""
    there = {cell.metric for cell in cells}
    loss = [(metric, shown) for metric, shown in _columns("loss") if metric in there]
    lines = []
    for kind in wanted.protocols:
        columns = [(metric, shown) for metric, shown in _columns(kind) if metric in there]
        if not columns:
            continue
        paper = [column for column in columns if column[1].paper]
        others = [column for column in columns if not column[1].paper]
        if kind == wanted.protocols[-1]:
            others, loss = [*others, *loss], []
        lines += [f"{kind}:", "", *_table(study, cells, paper), *_table(study, cells, others)]
    return [*lines, *_table(study, cells, loss)]


def _table(study: Study, cells: Sequence[Cell], columns: Columns) -> list[str]:
    """A row for each arm that has a value; nothing without columns."""
    if not columns:
        return []
    digits = {
        metric: shown.digits_of([cell.mean.value for cell in cells if cell.metric == metric])
        for metric, shown in columns
    }
    rows = []
    for arm in study.arms:
        own = {cell.metric: cell for cell in cells if cell.arm.name == arm.name and cell.metric in digits}
        if own:
            values = (shown.text(own[name].mean, digits[name]) if name in own else "" for name, shown in columns)
            rows.append([arm.name, f"{next(iter(own.values())).scenes:,}", _counts(own.values()), *values])
    head = ["arm", "scenes", "n", *(shown.title for _, shown in columns)]
    return [*markdown_table(head, rows).splitlines(), ""]


def _comparison_lines(comparisons: Iterable[Comparison]) -> list[str]:
    lines = [
        "## Comparisons",
        "",
        f"Second less first on the same scenes and seeds, with the {100 * CONFIDENCE:g} % interval of a bootstrap over "
        "seeds and scenes. **Bold**: the interval does not hold 0; of equal arms about one in twenty is so by chance.",
        "",
    ]
    rows = []
    for item in comparisons:
        text = _shown(item.metric).difference_text(item.difference)
        clear = item.difference.low is not None and not item.difference.contains(0)
        facts = [item.first, item.second, item.set, title(item.metric), str(item.seeds), str(item.scenes)]
        rows.append([*facts, f"**{text}**" if clear else text])
    head = ["first", "second", "set", "metric", "seeds", "scenes", "difference"]
    return [*lines, *markdown_table(head, rows, words=range(4)).splitlines(), ""]


def _curve_lines(curves: Iterable[Curve]) -> list[str]:
    lines = [
        "## Curves",
        "",
        "y = a + b N^-c through the means, N scenes; intervals of a bootstrap over seeds and scenes.",
        "",
    ]
    rows = []
    for curve in curves:
        fit, factor = curve.fit, _shown(curve.metric).factor
        # Parameters of a law that is none say nothing; `table.json` has them.
        parameters = ["", "", ""]
        if not fit.undetermined and fit.a and fit.b and fit.c:
            parameters = [_parameter(fit.a, factor), _parameter(fit.b, factor), _parameter(fit.c)]
        answer = f"no: {fit.undetermined}" if fit.undetermined else "yes"
        answer += f" ({fit.note})" if fit.note else ""
        rows.append([curve.family, curve.set, title(curve.metric), *parameters, answer])
    head = ["sizes", "set", "metric", "a", "b", "c", "determined"]
    return [*lines, *markdown_table(head, rows, words={0, 1, 2, 6}).splitlines(), ""]


def _parameter(interval: Interval, factor: int = 1) -> str:
    """`1.284 [1.202, 1.384]`, or the value alone."""
    if interval.low is None or interval.high is None:
        return f"{factor * interval.value:.4g}"
    return f"{factor * interval.value:.4g} [{factor * interval.low:.4g}, {factor * interval.high:.4g}]"


def _columns(kind: str) -> Columns:
    return [(f"{kind}/{column}", shown) for column, shown in measures(kind).items()]


def _definition(kind: str) -> str:
    """Which columns of `table.json` the paper's are: the protocol's choice."""
    return ", ".join(f"{column.title} is `{column.name}`" for column in paper_columns(load_protocol(kind)))


def _shown(metric: str) -> Measure:
    found = measure_of(metric)
    assert found is not None, metric  # findings compare and fit what is shown alone
    return found


def _counts(cells: Iterable[Cell]) -> str:
    counts = sorted({len(cell.values) for cell in cells})
    return "-".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
