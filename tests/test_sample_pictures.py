"""Pictures of samples: what is in front hides, what is right is right, and the sheet shows what the model made."""

import dataclasses

import numpy as np
import pytest
import torch
from shard_fixtures import make_sample
from tiny_model import TINY_MODEL
from torch import nn

from randscene.train.batch import LatentSource
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.image_conditioner import crop_images
from randscene.train.sample_pictures import COLUMNS, sample_sheet, whole_scenes
from randscene.train.settings import load_settings, with_overrides
from randscene.train.structure_encoder import LoadedDecoder
from randscene.train.voxel_picture import CARD, instance_colours, voxel_picture

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = with_overrides(
    load_settings("mini"),
    [
        *TINY_MODEL,
        "sampling.steps=2",
        "data.encoder=synthetic",
    ],
)
RED, BLUE = (255, 0, 0), (0, 0, 255)
SIZE = 96


def box(low, high):
    axes = [np.arange(start, stop) for start, stop in zip(low, high)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.uint8)


def shown(picture, colour):
    """(P, 2) rows and columns of the pixels that are mostly of a colour (red or blue)."""
    channel = int(np.argmax(colour))
    others = np.delete(picture.astype(int), channel, axis=-1).max(-1)
    return np.argwhere(picture[..., channel].astype(int) > others + 60)


def empty(picture):
    """Pixels that no voxel covers: those of the empty cube's picture."""
    return (picture == voxel_picture([], len(picture))).all(-1)


class CoarseDecoder(nn.Module):
    """Occupied where the first channel is large, in cells of 4^3 voxels: quick, and something to see from noise."""

    def __init__(self):
        super().__init__()
        self.latent_channels, self.threshold = 8, nn.Parameter(torch.tensor(2.0))

    def forward(self, latents):
        return nn.functional.interpolate(latents[:, :1] - self.threshold, scale_factor=4)


def coarse_latent(coords):
    """The latent that `CoarseDecoder` takes for the cells of `coords`."""
    latent = torch.zeros(8, 16, 16, 16)
    latent[0][tuple((coords // 4).T.astype(int))] = 4
    return latent


@pytest.fixture(scope="module")
def decoder():
    return LoadedDecoder(module=CoarseDecoder(), name="coarse", sha256="0" * 64, config={})


@pytest.fixture(scope="module")
def views():
    return [make_sample(scene, 1, resolution=48, objects=(2, 3), latents=True) for scene in range(2)]


@pytest.fixture(scope="module")
def batch(views):
    batch = whole_scenes(views, SETTINGS, LatentSource(SETTINGS))
    parts = [view.instance_coords(number + 1) for view in views for number in range(view.n_instances)]
    return dataclasses.replace(
        batch,
        scene_latents=torch.stack([coarse_latent(view.coords) for view in views]),
        instance_latents=torch.stack([coarse_latent(coords) for coords in parts]),
    )


def test_the_nearer_grid_hides_the_farther_one_whatever_their_order():
    near, far = box((24, 4, 24), (40, 8, 40)), box((24, 50, 4), (40, 54, 20))
    for grids, colours in (([near, far], [RED, BLUE]), ([far, near], [BLUE, RED])):
        picture = voxel_picture(grids, SIZE, colours=colours)
        alone = voxel_picture([far], SIZE, colours=[BLUE])
        covered = ~empty(voxel_picture([near], SIZE))
        assert len(shown(alone, BLUE)) > len(shown(picture, BLUE))
        assert not covered[tuple(shown(picture, BLUE).T)].any()


def test_right_is_right_up_is_up_and_farther_is_higher_as_seen_from_above():
    def middle(x, y, z):
        return np.argwhere(~empty(voxel_picture([box((x, y, z), (x + 6, y + 6, z + 6))], SIZE))).mean(axis=0)

    row, column = middle(30, 30, 30)
    assert abs(row - (SIZE - 1) / 2) < 4 and abs(column - (SIZE - 1) / 2) < 4
    assert middle(40, 30, 30)[1] > column + 5 and abs(middle(40, 30, 30)[0] - row) < 1
    assert middle(30, 30, 40)[0] < row - 5 and abs(middle(30, 30, 40)[1] - column) < 1
    assert row - 6 < middle(30, 40, 30)[0] < row - 2, "a floor that rises less than a wall: a little from above"


@pytest.mark.parametrize("size", [32, 96, 97])
def test_the_whole_cube_lies_inside_the_picture_and_a_solid_has_no_hole(size):
    cube = box((0, 0, 0), (64, 64, 64))
    picture = voxel_picture([cube], size, colours=[RED])
    covered = ~empty(picture)
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    assert rows[0] > 0 and rows[-1] < size - 1 and columns[0] > 0 and columns[-1] < size - 1
    assert len(rows) > 0.9 * size, "the cube fills the picture"
    assert covered[rows[0] + 1 : rows[-1], columns[0] + 1 : columns[-1]].all()


def test_thin_walls_are_shaded_by_where_they_face():
    """One voxel thick, as surface shells are: the gradient of their occupancy vanishes on the average."""
    floor, wall = box((16, 16, 31), (48, 48, 32)), box((16, 31, 16), (48, 32, 48))
    left, right = (np.stack([31 + sign * (axis := np.arange(-12, 12)), 31 + axis], -1) for sign in (1, -1))
    turned = [
        np.concatenate([np.insert(side, 2, z, axis=1) for z in range(20, 44)]).astype(np.uint8)
        for side in (left, right)
    ]
    brightness = []
    for grid in (floor, wall, *turned):
        picture = voxel_picture([grid], SIZE, colours=[(200, 200, 200)])
        brightness.append(np.median(picture[~empty(picture)]))
    top, front, away, towards = brightness
    assert top > 1.05 * front
    assert abs(away - towards) > 0.15 * front


def test_instances_have_the_colours_of_the_preview_page_and_a_shared_voxel_the_first_ones():
    grids = [box((4 + 20 * place, 20, 20), (16 + 20 * place, 32, 32)) for place in range(3)]
    picture = voxel_picture(grids, SIZE)
    for grid, colour in zip(grids, instance_colours(3)):
        pixels = picture[~empty(voxel_picture([grid], SIZE))].astype(float)
        hue = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
        assert np.median(hue @ (np.array(colour) / np.linalg.norm(colour))) > 0.99
    both = voxel_picture([grids[0], grids[0]], SIZE, colours=[RED, BLUE])
    assert len(shown(both, RED)) > 100 and len(shown(both, BLUE)) == 0
    assert len(set(instance_colours(12))) == 12 and instance_colours(13)[12] == instance_colours(1)[0]


def test_pictures_of_nothing_show_the_empty_cube():
    nothing = np.zeros((0, 3), np.uint8)
    plain = voxel_picture([], SIZE)
    assert (plain == CARD).all(-1).any() and plain.min() > 0
    np.testing.assert_array_equal(voxel_picture([nothing, nothing], SIZE), plain)
    one = voxel_picture([nothing, box((20, 20, 20), (30, 30, 30))], SIZE, colours=[RED, BLUE])
    assert len(shown(one, RED)) == 0 and len(shown(one, BLUE)) > 50


def test_whole_scenes_hold_every_instance_once_in_the_order_of_its_id(views):
    batch = whole_scenes(views, SETTINGS, LatentSource(SETTINGS))
    assert batch.keys == tuple(view.key for view in views)
    assert batch.instances.tolist() == [number + 1 for view in views for number in range(view.n_instances)]
    assert batch.scene_of.tolist() == [group for group, view in enumerate(views) for _ in range(view.n_instances)]
    assert len({view.n_instances for view in views}) > 1, "groups of different sizes"
    np.testing.assert_array_equal(batch.scene_latents, [view.latents[0] for view in views])
    np.testing.assert_array_equal(batch.instance_latents, np.concatenate([view.latents[1:] for view in views]))
    images = [torch.as_tensor(crop_images(view, SETTINGS.conditioner.image_size)) for view in views]
    expected = torch.cat([*(group[:1] for group in images), *(group[1:] for group in images)])
    assert batch.images.dtype == torch.uint8 and torch.equal(batch.images, expected)


class Oracle(nn.Module):
    """A model that knows the truth: its velocity points to the latents of the images' own group."""

    def __init__(self, batch):
        super().__init__()
        self.pos_emb = torch.zeros(1)  # where a flow model lies
        self.batch, self.in_channels, self.resolution = batch, 8, 16

    @property
    def flow(self):
        return self

    def conditioner(self, images):
        scene = (self.batch.images[: len(self.batch.keys)] == images[0]).flatten(1).all(1).nonzero()[0].item()
        self.truth = torch.cat(
            [self.batch.scene_latents[scene : scene + 1], self.batch.instance_latents[self.batch.scene_of == scene]]
        )
        return torch.zeros(len(images), 1, 1)

    def grouped(self, x_scene, x_instance, t, cond_scene, cond_instance, scene_of):
        velocity = (torch.cat([x_scene, x_instance]) - self.truth) / (t[0] / 1000)
        return velocity[: len(x_scene)], velocity[len(x_scene) :]


def test_a_model_that_knows_the_truth_gives_the_pictures_of_the_truth(batch, decoder):
    sheet = sample_sheet(Oracle(batch), decoder, batch, SETTINGS, size=SIZE)
    gap = max(2, SIZE // 32)
    rows = len(batch.keys)
    assert sheet.dtype == np.uint8 and sheet.shape[1] == len(COLUMNS) * (SIZE + gap) + gap
    top = sheet.shape[0] - rows * (SIZE + gap)
    for row in range(rows):
        line = sheet[top + row * (SIZE + gap) :][: SIZE - 12]  # above the words
        image, truth, instances, scene = (line[:, gap + column * (SIZE + gap) :][:, :SIZE] for column in range(4))
        np.testing.assert_array_equal(instances, truth)
        np.testing.assert_array_equal(empty_rows(scene), empty_rows(truth))
        assert image.max() > 100 and (image == 0).mean() > 0.2
        assert len(np.unique(truth.reshape(-1, 3), axis=0)) > 50


def test_given_the_views_their_own_voxels_are_the_truth(views, batch, decoder):
    sheet = sample_sheet(Oracle(batch), decoder, batch, SETTINGS, views=views, size=SIZE)
    gap = max(2, SIZE // 32)
    top = sheet.shape[0] - SIZE - gap
    shown = sheet[top:][: SIZE - 12, gap + SIZE + gap :][:, :SIZE]
    parts = [views[-1].instance_coords(number + 1) for number in range(views[-1].n_instances)]
    np.testing.assert_array_equal(shown, voxel_picture(parts, SIZE)[: SIZE - 12])
    assert not np.array_equal(sheet, sample_sheet(Oracle(batch), decoder, batch, SETTINGS, size=SIZE))


def empty_rows(part):
    """Pixels without voxels, of the upper part of a picture."""
    return (part == voxel_picture([], SIZE)[: len(part)]).all(-1)


def test_a_sheet_is_the_same_again_and_another_with_another_seed_and_leaves_the_model_as_it_was(batch, decoder):
    model = ConditionedFlow(SETTINGS)
    model.flow.reset_parameters(torch.Generator().manual_seed(1))
    nn.init.normal_(model.flow.out_layer.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    model.train()
    before = torch.get_rng_state()
    sheet = sample_sheet(model, decoder, batch, SETTINGS, size=64)
    assert model.training and torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(sample_sheet(model, decoder, batch, SETTINGS, size=64), sheet)
    other = sample_sheet(model, decoder, batch, SETTINGS, size=64, seed=1)
    assert other.shape == sheet.shape and not np.array_equal(other, sheet)


def test_an_instance_that_a_group_gives_twice_is_drawn_once(views, decoder):
    from randscene.train.batch import build_batch

    settings = with_overrides(SETTINGS, ["data.instances_per_scene=5"])
    repeated = build_batch(views[:1], settings, LatentSource(settings), positions=[0])
    assert len(set(repeated.instances.tolist())) < 5
    whole = whole_scenes(views[:1], settings, LatentSource(settings))
    model = ConditionedFlow(settings)
    sheets = [sample_sheet(model, decoder, batch, settings, size=64) for batch in (repeated, whole)]
    np.testing.assert_array_equal(*sheets)
