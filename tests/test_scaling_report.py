"""The report of a study: the paper's columns first, nothing drawn that was not measured, gaps named."""

import dataclasses
import json

import pytest

from randscene.train import scaling_plot
from randscene.train.evaluation_tables import paper_columns
from randscene.train.protocols import PROTOCOLS, load_protocol
from randscene.train.scaling_findings import Cell, Comparison, Findings, gaps
from randscene.train.scaling_measures import Measure, measures
from randscene.train.scaling_plot import draw_curves, view_of
from randscene.train.scaling_report import table_json
from randscene.train.scaling_statistics import Interval, over_seeds
from randscene.train.scaling_study import parse_study
from randscene.train.scaling_tables import table_markdown
from randscene.train.scaling_units import Piece, Plan, Unit
from randscene.train.settings import load_settings

PROTOCOL = "iscene-quick"


@pytest.fixture
def study(tmp_path):
    """Two arms, three seeds, two sets."""
    arm, held = {"mixture": {"a": 1}}, {"dataset": "a", "protocols": [PROTOCOL], "loss": True}
    data = {
        "name": "trial",
        "data": {"a": "a"},
        "arms": {"one": arm, "two": arm},
        "seeds": [0, 1, 2],
        "evaluation": {"first": held, "second": held},
    }
    return parse_study(data, where="study", folder=tmp_path)


def cells_of(study, values):
    """Cells of values by arm, set and column; `total` is the loss."""
    return tuple(
        Cell(
            arm=study.arm(arm),
            scenes=1200,
            set=name,
            metric=f"{'loss' if column == 'total' else PROTOCOL}/{column}",
            values=tuple(of),
            mean=over_seeds(of),
        )
        for (arm, name, column), of in values.items()
    )


def findings_of(cells, **changes):
    return Findings(
        cells=cells, **{"comparisons": (), "curves": (), "gaps": (), "units": 6, "units_done": 6, **changes}
    )


def table_rows(text):
    """Cells of all tables' lines, without their rules."""
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if not line[0].startswith("---")]


def test_a_table_has_the_papers_columns_first_then_placement_missing_instances_and_the_loss(study):
    columns = ["total", "missing", "voxel_iou", "object_f_score", "scene_f_score", "object_cd_squared"]
    columns += [
        "scene_aabb_iou",
        "scene_cd_squared",
        "duplicate_rate",
        "yaw_error_deg",
        "centre_error",
        "scene_cd_half",
    ]
    values = {("one", "first", column): [0.5, 0.6, 0.7] for column in columns}
    paper, paper_row, others, others_row = table_rows(table_markdown(study, findings_of(cells_of(study, values))))
    assert paper[3:] == ["CD-S", "F-S, %", "CD-O", "F-O, %", "IoU-B"]
    assert others[3:] == ["centre", "yaw, degrees", "duplicates, %", "missing, %", "voxel IoU", "loss"]
    # Student's t of two degrees of freedom, 4.303, times 0.1 / sqrt(3)
    assert paper_row == ["one", "1,200", "3", "0.600 ± 0.248", "60.0 ± 24.8", "0.600 ± 0.248", *paper_row[6:]]
    assert others_row[-3:] == ["60.0 ± 24.8", "0.600 ± 0.248", "0.6000 ± 0.2484"]


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_the_papers_columns_are_those_that_the_protocol_publishes(protocol):
    shown = measures(protocol)
    paper = [(name, measure.factor) for name, measure in shown.items() if measure.paper]
    expected = paper_columns(load_protocol(protocol))
    assert paper == [(column.name, column.factor) for column in expected] == paper[:5] and len(shown) == 10


def test_an_arm_or_column_without_a_value_is_left_empty_or_out(study):
    values = {("one", "first", "total"): [0.5, 0.6], ("two", "first", "missing"): [0.25]}
    rows = table_rows(table_markdown(study, findings_of(cells_of(study, values))))
    assert rows[0] == ["arm", "scenes", "n", "missing, %", "loss"]
    assert [row[0] for row in rows[1:]] == ["one", "two"]
    assert rows[1][2:] == ["2", "", "0.5500 ± 0.6353"] and rows[2][2:] == ["1", "25.0", ""]
    alone = table_rows(table_markdown(study, findings_of(cells_of(study, {("one", "second", "total"): [0.5]}))))
    assert alone == [["arm", "scenes", "n", "loss"], ["one", "1,200", "1", "0.5000"]]


def test_an_interval_is_written_as_half_its_width_only_where_it_is_symmetric():
    measure = Measure(title="x", digits=2)
    assert measure.text(Interval(value=3.0, low=2.5, high=3.5), 2) == "3.00 ± 0.50"
    assert measure.text(Interval(value=3.0, low=2.5, high=3.6), 2) == "3.00 [2.50, 3.60]"
    assert measure.text(Interval(value=3.0, low=None, high=None), 2) == "3.00"
    percent = Measure(title="x", factor=100, digits=1)
    assert percent.text(Interval(value=0.3, low=0.25, high=0.5), 1) == "30.0 [25.0, 50.0]"


def test_what_spans_orders_of_magnitude_keeps_three_digits_of_its_smallest():
    distance = measures(PROTOCOL)["scene_cd_squared"]
    assert [distance.digits_of(of) for of in ([3.2, 14.0], [0.0039, 2.0], [0.0], [123.0], [1e-12])] == [2, 5, 2, 0, 6]
    narrow = Interval(value=0.001234, low=0.001211, high=0.00126)
    assert distance.difference_text(narrow) == "0.001234 [0.001211, 0.001260]"
    assert distance.difference_text(Interval(value=0.0, low=0.0, high=0.0)) == "0.00 ± 0.00"


def test_comparisons_whose_interval_does_not_hold_0_are_bold_and_no_others(study):
    ends = {"below": (-0.2, -0.1), "across": (-0.2, 0.15), "touching": (0.0, 0.3), "above": (0.05, 0.3), "none": None}
    compared = tuple(
        Comparison(
            first="one",
            second=name,
            set="first",
            metric=f"{PROTOCOL}/scene_f_score",
            seeds=3,
            scenes=9,
            difference=Interval(value=-0.11, low=both and both[0], high=both and both[1]),
        )
        for name, both in ends.items()
    )
    cells = cells_of(study, {("one", "first", "scene_f_score"): [0.1]})
    rows = table_rows(table_markdown(study, findings_of(cells, comparisons=compared)))[-5:]
    assert {row[1] for row in rows if row[-1].startswith("**")} == {"below", "above"}
    assert [row[3] for row in rows] == [f"{PROTOCOL} F-S, %"] * 5
    assert rows[1][-1] == "-11.0 [-20.0, 15.0]" and rows[0][-1] == "**-11.0 [-20.0, -10.0]**"


def test_an_unfinished_study_says_which_arms_lack_what_on_which_set(study):
    settings = load_settings("mini")

    def unit(arm, seed, *, steps=settings.optimiser.steps, lacks=()):
        kinds = [(name, kind) for name in ("first", "second") for kind in ("loss", PROTOCOL)]
        pieces = tuple(Piece(set=n, kind=k, views=1, done=bool(steps) and (n, k) not in lacks) for n, k in kinds)
        return Unit(
            arm=study.arm(arm), seed=seed, settings=settings, scenes=1, samples=1, steps_done=steps, pieces=pieces
        )

    lacks = [("second", PROTOCOL)]
    units = (
        *(unit("one", 0), unit("one", 1, steps=0), unit("one", 2, steps=0)),
        *(unit("two", 0, lacks=lacks), unit("two", 1, lacks=[*lacks, ("first", "loss")]), unit("two", 2)),
    )
    found = findings_of((), gaps=gaps(study, Plan(units=units, mine=units)), units_done=2)
    text = table_markdown(study, found)
    assert [line for line in text.splitlines() if line.startswith("*")] == [
        "**Not finished: 2 of 6 runs are there.**",
        "* one is not trained (seeds 1, 2)",
        f"* two lacks {PROTOCOL} on second (seeds 0, 1)",
        "* two lacks loss on first (seed 1)",
    ]
    told = json.loads(table_json(study, found))["lacking"]
    assert told[0] == {"arm": "one", "set": None, "kind": None, "seeds": [1, 2]} and len(told) == 3
    assert gaps(study, Plan(units=units[:1], mine=())) == ()


def test_only_what_was_measured_has_a_panel_and_it_shows_every_seed(study, monkeypatch):
    drawn = []
    monkeypatch.setattr(scaling_plot, "figure_png", lambda figure: drawn.append(figure) or b"")
    columns = ["scene_f_score", "missing", "total"]
    values = {(arm, "first", column): [0.2, 0.3, 0.7] for arm in ("one", "two") for column in columns}
    values |= {("one", "second", column): [0.2, 0.3, 0.9] for column in (*columns, "duplicate_rate")}
    values["one", "second", "scene_cd_half"] = [1.0, 2.0, 3.0]  # which the protocol does not show
    draw_curves(study, findings_of(cells_of(study, values)))
    panels = [axis for axis in drawn[0].axes if axis.axison]
    assert [axis.get_title() for axis in panels] == [
        *(f"first: {name}" for name in (f"{PROTOCOL} F-S, %", f"{PROTOCOL} missing, %", "loss")),
        *(f"second: {PROTOCOL} {name}" for name in ("F-S, %", "duplicates, %", "missing, %")),
        "second: loss",
    ]
    for axis in panels:
        (low, high), (left, right) = axis.get_ylim(), axis.get_xlim()
        points = [point for line in axis.lines if line.get_marker() == "o" for point in line.get_xydata()]
        assert len(points) == (6 if "first" in axis.get_title() else 3)
        assert all(left < x < right and low < y < high for x, y in points)
    assert len({tuple(line.get_xdata()) for line in panels[0].lines if line.get_marker() == "o"}) == 2, "side by side"


def test_nothing_that_has_a_panel_is_an_empty_picture(study):
    assert draw_curves(study, findings_of(())).startswith(b"\x89PNG")


def test_points_rule_a_panel_and_not_intervals_that_the_measure_cannot_reach(study):
    share, distance = Measure(title="x", factor=100, ceiling=1.0), Measure(title="x")

    def view(measure, values, low, high):
        [cell] = cells_of(study, {("one", "first", "missing"): values})
        return view_of(measure, [dataclasses.replace(cell, mean=Interval(value=values[0], low=low, high=high))])

    low, high = view(distance, [1.0, 2.0], -50.0, 70.0)
    assert -0.1 <= low < 1 < 2 < high < 3
    low, high = view(distance, [10.0, 11.0], 2.0, 70.0)
    assert 9 < low < 10 < 11 < high < 12
    low, high = view(distance, [1.0, 2.0], 0.9, 2.2)  # a narrow one is shown to its ends
    assert 0.8 < low < 0.9 and 2.2 < high < 2.3
    low, high = view(distance, [0.2, 1.2], -0.25, 1.5)
    assert -0.1 <= low < 0.2
    low, high = view(share, [0.4, 1.0], 0.2, 1.4)
    assert high < 110 and 10 < low < 20
    for value in (0.0, 0.5, 1.0):
        low, high = view(share, [value], None, None)
        assert low < 100 * value < high
