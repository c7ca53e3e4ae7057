"""`randscene evaluate`."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from randscene.cli.completion import protocols
from randscene.cli.console import check_folder, console, progress_bar, stops_cleanly
from randscene.errors import SpecError
from randscene.files import write_atomic

if TYPE_CHECKING:
    from randscene.train.evaluation_report import EvaluationReport
    from randscene.train.evaluation_tables import Comparison
    from randscene.train.output_layouts import PredictionReading
    from randscene.train.scaling_statistics import Interval

PROTOCOL_NAMES = "iscene, iscene-quick, midi-fixed, midi-legacy, scenegen, partcrafter or gen3dsr"
LAYOUT_NAMES = "midi, scenegen, partcrafter, gen3dsr, iscene or glb"
EACH = "Once for all folders or once for each."
TITLES = {
    "scene": "scene",
    "object": "object",
    "object_matched": "object, matched",
    "object_realigned": "object, realigned",
}


def evaluate(
    predictions: Annotated[
        list[Path], typer.Argument(help="Folders of predictions, as `--layout` says; each is a method to compare.")
    ],
    dataset: Annotated[Path, typer.Option("--dataset", help="Folder with the ground truth, as `--truth` says.")],
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            help=f"What the numbers mean: {PROTOCOL_NAMES}; iscene by default. May be given several times.",
            autocompletion=protocols,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for scores, tables and pictures.")] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="The methods' names, once for each; else their folders'.")
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option("--layout", help=f"Who wrote the predictions: randscene (default), {LAYOUT_NAMES}. {EACH}"),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option("--match", help=f"How instances find the true ones: id or hungarian; by the layout. {EACH}"),
    ] = None,
    frame: Annotated[
        list[str] | None,
        typer.Option(
            "--frame", help=f"Of the predictions: view, world, camera, free or heading; by the layout. {EACH}"
        ),
    ] = None,
    up_axis: Annotated[
        list[str] | None, typer.Option("--up-axis", help=f"Up in the predictions: Y or Z; by the layout. {EACH}")
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option("--scale", help=f"What brings the frame view into [-0.5, 0.5], such as 0.5 from [-1, 1]. {EACH}"),
    ] = None,
    truth: Annotated[
        str, typer.Option("--truth", help="What --dataset is: dataset (ours), midi (3D-FRONT test rooms) or glb.")
    ] = "dataset",
    truth_up_axis: Annotated[
        str | None, typer.Option("--truth-up-axis", help="Up in a truth of GLB files: Y or Z.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only samples of this split.")] = None,
    by_split: Annotated[bool, typer.Option("--by-split", help="Also tell the means of each split.")] = False,
    require_all: Annotated[
        bool, typer.Option("--require-all", help="A sample without a prediction counts as one that failed.")
    ] = False,
    worst: Annotated[int, typer.Option(min=0, help="Draw so many of the worst scenes (needs --out).")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Scenes scored at once; default: all cores.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the surface points and of the intervals.")] = 0,
) -> None:
    """Score predictions: Chamfer distance, F-score and IoU after robust alignment, by scene and by object.

    Example: randscene evaluate predictions --dataset dataset --out scores

    Example: randscene evaluate ours theirs --dataset dataset --out scores --worst 10

    Example: randscene evaluate ours midi --layout randscene --layout midi --dataset dataset --out scores
    """
    from randscene.train.compared_methods import check_methods, name_methods
    from randscene.train.evaluate import evaluate as score
    from randscene.train.evaluation_report import check_replaceable
    from randscene.train.evaluation_tables import Comparison
    from randscene.train.protocols import load_protocol
    from randscene.train.truth_layouts import truth_reading

    begun = time.monotonic()
    if worst and out is None:
        raise SpecError("--worst draws pictures; give --out, the folder to write them to")
    if out is not None:
        check_folder(out)
    protocols = [load_protocol(one) for one in dict.fromkeys(protocol or ["iscene"])]
    methods = name_methods(predictions, name or [])
    options = {"--match": match, "--frame": frame, "--up-axis": up_axis, "--scale": scale}
    readings = read_as(list(methods), layout or [], {option: words or [] for option, words in options.items()})
    kind = truth_reading(truth, up_axis=truth_up_axis)
    if len(methods) > 1:
        check_methods(methods, same_views=not require_all, readings=readings, depth=kind.depth)
    flat = len(protocols) == 1 and len(methods) == 1
    for rules, method in itertools.product(protocols, methods):
        if out is not None:
            own = _folder(out, rules.name, method, flat=flat)
            check_replaceable(own, rules, seed, reading=readings[method], truth=kind)
    comparisons = []
    bar = progress_bar()
    with stops_cleanly("nothing was written; run the same command again"), bar:
        for rules in protocols:
            reports = {}
            for method, folder in methods.items():
                several = len(methods) * len(protocols) > 1
                task = bar.add_task(f"{rules.name}, {method}" if several else "evaluate", total=None)
                reports[method] = score(
                    folder,
                    dataset,
                    rules,
                    reading=readings[method],
                    truth=kind,
                    split=split,
                    require_all=require_all,
                    by_split=by_split,
                    workers=workers,
                    seed=seed,
                    progress=_follow(bar, task),
                )
            comparisons.append(Comparison(reports=reports))
    for comparison in comparisons:
        if len(methods) > 1:
            show_comparison(comparison)
        else:
            show(next(iter(comparison.reports.values())))
        if by_split:
            show_splits(comparison)
    if len(methods) > 1 and len(protocols) > 1:
        show_ranks(comparisons)
    views = sum(len(report.scenes) for comparison in comparisons for report in comparison.reports.values())
    console.print(f"{time.monotonic() - begun:.1f} s for {views} views")
    if out is not None:
        with stops_cleanly("the output is incomplete; run the same command again"):
            write(comparisons, methods, dataset, out, worst)


def read_as(
    methods: Sequence[str], layouts: Sequence[str], options: Mapping[str, Sequence[str]]
) -> "dict[str, PredictionReading]":
    """How each method's folder is read. An option that was given once holds for all: but for our own layout beside
    others, which states frame, up axis and scale itself. One that was given once for each may say `default`.

    Parameters
    ----------
    methods : sequence of str
    layouts : sequence of str
        As given.
    options : mapping of str to sequence of str
        `--match`, `--frame`, `--up-axis` and `--scale`, as given.

    Raises
    ------
    SpecError
        If an option was given neither once nor once for each, or does not fit its layout.
    """
    from randscene.train.output_layouts import RANDSCENE, prediction_reading

    names = [one or RANDSCENE for one in _for_each("--layout", layouts, len(methods))]
    said = {option: _for_each(option, words, len(methods)) for option, words in options.items()}
    found = {}
    for place, (method, name) in enumerate(zip(methods, names)):
        own = {option: words[place] for option, words in said.items()}
        if name == RANDSCENE and set(names) != {RANDSCENE}:
            own |= {option: None for option, words in options.items() if len(words) == 1 and option != "--match"}
        scale = own["--scale"]
        try:
            number = None if scale is None else float(scale)
        except ValueError:
            raise SpecError(f"--scale {scale} is no number") from None
        found[method] = prediction_reading(
            name, match=own["--match"], frame=own["--frame"], up_axis=own["--up-axis"], scale=number
        )
    return found


def _for_each(option: str, words: Sequence[str], count: int) -> list[str | None]:
    if len(words) not in (0, 1, count):
        raise SpecError(f"{option} was given {len(words)} times for {count} folders; give it once, or once for each")
    said = list(words) * (count if len(words) == 1 else 1) or ["default"] * count
    return [None if word == "default" else word for word in said]


def write(comparisons: "list[Comparison]", methods: dict[str, Path], dataset: Path, out: Path, worst: int) -> None:
    """Write everything into `out`: flat for one method under one protocol, else `PROTOCOL/METHOD/...`."""
    from randscene.train.evaluation_ranks import ranks_markdown
    from randscene.train.worst_cases import write_worst_cases

    paths: list[Path] = []
    flat = len(comparisons) == 1 and len(methods) == 1
    for comparison in comparisons:
        name = comparison.protocol.name
        for method, report in comparison.reports.items():
            paths += report.write(_folder(out, name, method, flat=flat))
        paths += comparison.write(out if flat else out / name)
    if len(comparisons) > 1 and len(methods) > 1:
        paths.append(out / "ranks.md")
        write_atomic(paths[-1], ranks_markdown(comparisons))
    console.print("written: " + ", ".join(map(str, paths)))
    if worst:
        for comparison in comparisons:
            for method, report in comparison.reports.items():
                own = _folder(out, comparison.protocol.name, method, flat=flat) / "worst"
                with progress_bar() as bar:
                    follow = _follow(bar, bar.add_task("worst scenes", total=None))
                    drawn = write_worst_cases(report, methods[method], dataset, own, worst, progress=follow)
                console.print(f"{len(drawn)} worst scenes drawn: {own}")


def _folder(out: Path, protocol: str, method: str, *, flat: bool) -> Path:
    return out if flat else out / protocol / method


def show(report: "EvaluationReport") -> None:
    """Print the means with their intervals as a table, F-scores in percent."""
    means = report.intervals()
    table = Table(title=f"{report.protocol.name}: {len(report.scenes)} views, {report.n_instances} instances")
    for name in ("level", "CD squared", "CD unsquared", f"F at {report.protocol.tau:g}, %", "box IoU", "voxel IoU"):
        table.add_column(name, justify="left" if name == "level" else "right", no_wrap=True)
    for level, title in TITLES.items():
        voxels = {"scene": "voxel_iou", "object": "object_voxel_iou"}.get(level)
        table.add_row(
            title,
            _text(means[f"{level}_cd_squared"]),
            _text(means[f"{level}_cd_unsquared"]),
            _text(means[f"{level}_f_score"], 2, factor=100),
            _text(means[f"{level}_aabb_iou"]),
            _text(means[voxels]) if voxels else "",
        )
    _print_whole(table)
    if report.n_missing:
        console.print(
            f"{report.n_missing} of {report.n_instances} instances have no predicted mesh: each counts with "
            f"Chamfer distances {2 * report.protocol.missing_distance**2:.4g} (squared) and "
            f"{2 * report.protocol.missing_distance:.4g}, F-score and IoU 0"
        )
    show_notes("", report)
    overlap = means["part_overlap"]
    if overlap is not None:
        console.print(f"mean overlap between the instances of a prediction: {overlap.value:.4f} (IoU of filled voxels)")
    if report.n_fell_back:
        console.print(f"{report.n_fell_back} alignments fell back to an earlier stage")


def show_notes(name: str, report: "EvaluationReport") -> None:
    """Print what to know of one method's instances and frame; `name` goes before it."""
    if report.n_surplus:
        console.print(f"{name}{report.n_surplus} predicted instances are surplus: they count in their scenes alone")
    if report.reading.frame == "free":
        console.print(f"{name}scenes that look another way than the truth are scaled wrongly; see --frame heading")


def show_comparison(comparison: "Comparison") -> None:
    """Print a row a method, and below it the paired tests."""
    from randscene.train.evaluation_tables import p_text

    first = next(iter(comparison.reports.values()))
    columns = comparison.columns
    table = Table(title=f"{comparison.protocol.name}: {len(first.scenes)} views, {first.n_instances} instances")
    for name in ("method", *(column.title for column in columns), "missing"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for method, means in comparison.intervals().items():
        cells = [_lines(c.text(m.value if m else None), c.interval_text(m)) for c, m in zip(columns, means)]
        table.add_row(method, *cells, str(comparison.reports[method].n_missing))
    _print_whole(table)
    for method, report in comparison.reports.items():
        show_notes(f"{method}: ", report)
    table = Table(title="paired on the same scenes, second minus first")
    for name in ("first, second", *(column.title for column in columns)):
        table.add_column(name, justify="left" if name == "first, second" else "right", no_wrap=True)
    for a, b, tests in comparison.tests():
        table.add_row(
            _lines(f"{a},", b),
            *(
                "-"
                if one is None
                else _lines(column.text(one.difference.value), column.interval_text(one.difference), p_text(one.p))
                for column, one in zip(columns, tests)
            ),
        )
    _print_whole(table)


def show_splits(comparison: "Comparison") -> None:
    """Print a row a split and method."""
    columns = comparison.columns
    table = Table(title=f"{comparison.protocol.name}: by split")
    for name in ("split", "method", "views", *(column.title for column in columns), "missing"):
        table.add_column(name, justify="left" if name in ("split", "method") else "right", no_wrap=True)
    for split, method, report in comparison.splits():
        means = report.intervals()
        shown = [(column, means[column.name]) for column in columns]
        cells = [_lines(c.text(m.value if m else None), c.interval_text(m)) for c, m in shown]
        table.add_row(split, method, str(len(report.scenes)), *cells, str(report.n_missing))
    _print_whole(table)


def show_ranks(comparisons: "list[Comparison]") -> None:
    """Print each method's rank under each protocol, and where the order changes."""
    from randscene.train.evaluation_ranks import change_text, rank_changes, rank_rows

    table = Table(title="rank by mean, 1 is best")
    for name in ("measure", "method", *(comparison.protocol.name for comparison in comparisons)):
        table.add_column(name, justify="left" if name in ("measure", "method") else "right", no_wrap=True)
    for title, method, ranks in rank_rows(comparisons):
        table.add_row(title, method, *("-" if rank is None else str(rank) for rank in ranks))
    _print_whole(table)
    changes = rank_changes(comparisons)
    for change in changes:
        console.print(change_text(change))
    if not changes:
        console.print("no two methods change places")


def _follow(bar: Progress, task: TaskID) -> Callable[[int, int], None]:
    def update(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return update


def _print_whole(table: Table) -> None:
    """Print a table as wide as it is: a line that a narrow terminal breaks is better than a number that is cut."""
    wide = console.options.update(max_width=1000)
    table.width = console.measure(table, options=wide).maximum
    console.print(table)


def _text(interval: "Interval | None", digits: int = 4, *, factor: int = 1) -> str:
    if interval is None:
        return "-"
    value, low, high = (
        None if one is None else f"{factor * one:.{digits}f}" for one in (interval.value, interval.low, interval.high)
    )
    return _lines(value or "-", f"[{low}, {high}]" if low and high else "")


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)
