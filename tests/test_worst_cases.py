"""Pictures of the worst scenes: the right ones, of what was compared, with something to see."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_evaluate import KEYS, SMALL, dataset_source, predict
from test_evaluation_statistics import scene_scores

from randscene.seeding import generator
from randscene.train.evaluate import evaluate
from randscene.train.evaluation_report import EvaluationReport
from randscene.train.ground_truth import read_ground_truth
from randscene.train.metrics import chamfer
from randscene.train.prediction_reader import read_prediction
from randscene.train.protocols import ISCENE
from randscene.train.voxel_picture import CARD
from randscene.train.worst_cases import (
    PAPER,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    ComparedClouds,
    compared_clouds,
    worst_case_sheet,
    worst_scenes,
    write_worst_cases,
)

__all__ = ["dataset_source"]  # a fixture

FAST = dataclasses.replace(SMALL, points_per_object=800, registration=None, realigned_objects=False)
SIZE = 120


def ball(centre, radius: float, stream: int) -> np.ndarray:
    points = generator(stream).normal(size=(3000, 3))
    return np.asarray(centre) + radius * points / np.linalg.norm(points, axis=1, keepdims=True)


def sheet(predicted: dict[int, np.ndarray], true: list[np.ndarray], scores=None) -> np.ndarray:
    clouds = ComparedClouds(predicted=predicted, true=true)
    return worst_case_sheet(scores or scene_scores("000001_000", 0.25), clouds, ISCENE, SIZE)


def panels(picture: np.ndarray) -> list[np.ndarray]:
    """The three pictures, without words."""
    gap, top = (picture.shape[1] - 3 * SIZE) // 4, picture.shape[0] - SIZE - (picture.shape[1] - 3 * SIZE) // 4
    return [picture[top : top + SIZE, gap + i * (SIZE + gap) :][:, :SIZE].astype(int) for i in range(3)]


def share_like(panel: np.ndarray, colour: tuple[int, int, int]) -> float:
    """Share of pixels whose hue is `colour`'s, however it is lit; the background and its lines are none."""
    bright = panel.max(axis=2) > 70
    direction = panel / np.maximum(np.linalg.norm(panel, axis=2, keepdims=True), 1)
    return float((bright & (direction @ (np.array(colour) / np.linalg.norm(colour)) > 0.985)).mean())


LEFT, RIGHT = ball((-0.5, 0, 0), 0.3, 1), ball((0.5, 0, 0), 0.3, 2)


def test_prediction_and_truth_are_seen_and_told_apart():
    overlay, instances, truth = panels(sheet({1: LEFT}, [RIGHT]))
    half = SIZE // 2
    assert share_like(overlay[:, :half], PREDICTION_COLOUR) > 0.05
    assert share_like(overlay[:, half:], TRUTH_COLOUR) > 0.05
    assert share_like(overlay[:, half:], PREDICTION_COLOUR) == share_like(overlay[:, :half], TRUTH_COLOUR) == 0
    assert (instances[:, :half].max(axis=2) > 70).any()
    assert not (instances[:, half:].max(axis=2) > 70).any()
    assert (truth[:, half:].max(axis=2) > 70).any()
    for one in (overlay, instances, truth):
        assert (np.abs(one - CARD).max(axis=2) > 20).mean() > 0.01  # not blank


def test_an_instance_has_one_colour_in_both_pictures():
    both = panels(sheet({2: RIGHT}, [LEFT, RIGHT]))
    np.testing.assert_array_equal(both[1][:, SIZE // 2 + 5 :], both[2][:, SIZE // 2 + 5 :])
    alone = panels(sheet({1: RIGHT}, [LEFT, RIGHT]))
    assert not np.array_equal(alone[1], both[1])


def test_equal_input_gives_equal_pictures_and_other_input_others():
    one = sheet({1: LEFT}, [RIGHT])
    assert np.array_equal(one, sheet({1: LEFT}, [RIGHT]))
    assert not np.array_equal(one, sheet({1: LEFT + np.array([0, 0, 0.2])}, [RIGHT]))
    assert not np.array_equal(one, sheet({1: LEFT}, [RIGHT], scene_scores("000001_000", 0.26)))


def test_scores_are_written_above_the_pictures():
    picture = sheet({1: LEFT}, [RIGHT])
    words = picture[: picture.shape[0] - SIZE - 5]
    assert (np.abs(words.astype(int) - PAPER).max(axis=2) > 60).mean() > 0.01


def test_what_reaches_out_of_the_cube_is_shown_smaller_or_left_out():
    inside, reaching, far = (panels(sheet({1: LEFT - [shift, 0, 0]}, [RIGHT])) for shift in (0, 0.5, 40))
    assert share_like(reaching[0], TRUTH_COLOUR) < share_like(inside[0], TRUTH_COLOUR)
    assert share_like(reaching[0], PREDICTION_COLOUR) > 0.01
    assert share_like(far[0], TRUTH_COLOUR) > 0.01
    assert share_like(far[0], PREDICTION_COLOUR) == 0


def test_nothing_predicted_still_shows_the_truth():
    overlay, instances, truth = panels(sheet({}, [LEFT, RIGHT]))
    assert share_like(overlay, TRUTH_COLOUR) > 0.05
    assert not (instances.max(axis=2) > 70).any()
    assert (truth.max(axis=2) > 70).any()


def test_the_worst_scenes_come_first_and_equal_ones_by_key():
    values = {"000001_000": 0.2, "000002_000": 0.9, "000003_001": 0.5, "000003_000": 0.5}
    report = EvaluationReport(
        protocol=ISCENE, seed=0, scenes=tuple(scene_scores(key, value) for key, value in values.items())
    )
    assert [one.key for one in worst_scenes(report, 3)] == ["000002_000", "000003_000", "000003_001"]
    assert len(worst_scenes(report, 9)) == 4


@pytest.fixture
def predictions(tmp_path) -> Path:
    predict(tmp_path / "p", 0, meshes={2: None})
    predict(tmp_path / "p", 1, change=lambda vertices: vertices * [1, 1, 0.2] + [0.2, 0, 0.1])
    return tmp_path / "p"


def test_the_clouds_drawn_are_those_that_were_scored(dataset_source, predictions):
    aligned = dataclasses.replace(SMALL, points_per_object=500)
    for protocol in (FAST, aligned):
        report = evaluate(predictions, dataset_source, protocol, workers=1, seed=3)
        for truth, scene in zip(read_ground_truth(dataset_source), report.scenes, strict=True):
            clouds = compared_clouds(truth, read_prediction(predictions / truth.key), protocol, 3)
            again = chamfer(np.concatenate(list(clouds.predicted.values())), np.concatenate(clouds.true))
            assert again.squared_sum == scene.scene.cd_squared
    assert [sorted(clouds.predicted), len(clouds.true)] == [[1, 2, 3], 3]


def test_files_are_named_by_place_and_key_and_older_ones_go(dataset_source, predictions, tmp_path):
    report = evaluate(predictions, dataset_source, FAST, workers=1)
    out, seen = tmp_path / "worst", []
    paths = write_worst_cases(
        report, predictions, dataset_source, out, 2, size=SIZE, progress=lambda *s: seen.append(s)
    )
    order = [scene.key for scene in worst_scenes(report, 2)]
    assert [path.name for path in paths] == [f"01_{order[0]}.png", f"02_{order[1]}.png"]
    assert sorted(order) == list(KEYS)
    assert seen == [(1, 2), (2, 2)]
    first, second = (np.asarray(Image.open(path)) for path in paths)
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
    (out / "mine.png").write_bytes(b"")
    before = paths[0].read_bytes()
    assert write_worst_cases(report, predictions, dataset_source, out, 1, size=SIZE) == paths[:1]
    assert sorted(path.name for path in out.iterdir()) == [paths[0].name, "mine.png"]
    assert paths[0].read_bytes() == before


def test_a_scene_that_was_not_predicted_is_drawn_as_the_truth_alone(dataset_source, tmp_path):
    predict(tmp_path / "p", 0)
    report = evaluate(tmp_path / "p", dataset_source, FAST, workers=1, require_all=True)
    paths = write_worst_cases(report, tmp_path / "p", dataset_source, tmp_path / "worst", 1, size=SIZE)
    assert paths[0].name == f"01_{KEYS[1]}.png"
    overlay, instances, _ = panels(np.asarray(Image.open(paths[0])))
    assert share_like(overlay, TRUTH_COLOUR) > 0.02
    assert not (instances.max(axis=2) > 70).any()
    assert json.loads(report.to_json())["n_missing_instances"] == 3
