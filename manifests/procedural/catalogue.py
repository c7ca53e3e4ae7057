"""The catalogue: which families there are, in which order assets come, and how one is built."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from randscene import seeding
from randscene.errors import AssetError
from randscene.manifests.procedural import (
    families_abstract,
    families_containers,
    families_plants,
    families_seats,
    families_storage,
    families_tables,
    families_tableware,
    families_toys,
    families_vessels,
)
from randscene.manifests.procedural.glb_export import export_glb
from randscene.manifests.procedural.model import Model

Family = Callable[[np.random.Generator], Model]

_SUPPORTS: dict[str, Family] = {
    "table_rectangular": families_tables.table_rectangular,
    "table_round": families_tables.table_round,
    "table_l_shaped": families_tables.table_l_shaped,
    "desk": families_tables.desk,
    "table_oval": families_tables.table_oval,
    "table_side": families_tables.table_side,
    "table_trestle": families_tables.table_trestle,
}
_OTHERS: dict[str, Family] = {
    "mug": families_tableware.mug,
    "chair": families_seats.chair,
    "vase": families_vessels.vase,
    "toy_blocks": families_toys.toy_blocks,
    "lamp": families_storage.lamp,
    "ball": families_toys.ball_toy,
    "crate": families_containers.crate,
    "plant": families_plants.plant,
    "kettle": families_tableware.kettle,
    "book_stack": families_containers.book_stack,
    "shelf": families_storage.shelf,
    "knot": families_abstract.knot,
    "stool": families_seats.stool,
    "bottle": families_vessels.bottle,
    "barrel": families_containers.barrel,
    "bowl": families_tableware.bowl,
    "clock": families_containers.clock,
    "bench": families_seats.bench,
    "toy_car": families_toys.toy_car,
    "cactus": families_plants.cactus,
    "pot": families_tableware.pot,
    "sofa": families_seats.sofa,
    "sculpture": families_abstract.sculpture,
    "goblet": families_tableware.goblet,
    "gift_box": families_containers.gift_box,
    "cabinet": families_storage.cabinet,
    "rocket": families_toys.rocket,
    "basket": families_vessels.basket,
    "gear": families_abstract.gear,
    "candlestick": families_vessels.candlestick,
    "mushroom": families_plants.mushroom,
    "dumbbell": families_abstract.dumbbell,
    "stones": families_plants.stones,
    "ring_tower": families_abstract.ring_tower,
}

FAMILIES: Mapping[str, Family] = MappingProxyType({**_SUPPORTS, **_OTHERS})
"""Name of each family -> function from a generator to a Model (Z up, metres, standing on z = 0, front towards -Y)."""

_PER_SEED = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ProceduralAsset:
    """One asset of the endless catalogue; (family, seed) decides it wholly, and so does its uid."""

    uid: str
    family: str
    seed: int


def enumerate_assets(count: int, seed: int = 0) -> Iterator[ProceduralAsset]:
    """The first `count` assets of the catalogue.

    Every third one is a table or desk, the others take turns; both go round their families, so any prefix holds
    all kinds that fit into it, and a longer list begins with the shorter one.

    Parameters
    ----------
    count : int
        How many, non-negative.
    seed : int
        Catalogue to take them from, non-negative; different seeds share no asset.

    Raises
    ------
    ValueError
        If an argument is negative.
    """
    if count < 0 or seed < 0:
        raise ValueError(f"count and seed must not be negative, not {count} and {seed}")
    supports, others = tuple(_SUPPORTS), tuple(_OTHERS)
    for i in range(count):
        turn, names = (i // 3, supports) if i % 3 == 0 else (i - i // 3 - 1, others)
        yield asset(names[turn % len(names)], seed * _PER_SEED + turn // len(names))


def asset(family: str, seed: int) -> ProceduralAsset:
    """The catalogue's entry for one family and asset seed."""
    return ProceduralAsset(uid=f"procedural-{family}-{seed:06d}", family=family, seed=seed)


def build_model(family: str, seed: int) -> Model:
    """The Model of one asset (Z up, metres).

    Raises
    ------
    AssetError
        If there is no such family.
    """
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise AssetError("unknown_family", f"no procedural family called {family}: choose one of {known}")
    return FAMILIES[family](seeding.generator("procedural", family, seed))


def build_glb(family: str, seed: int) -> bytes:
    """The .glb file of one asset: glTF 2.0 binary, Y up, metres, CC0-1.0. Same arguments, same bytes.

    Parameters
    ----------
    family : str
        A key of `FAMILIES`.
    seed : int
        The asset's seed, non-negative.

    Raises
    ------
    AssetError
        If there is no such family.
    """
    return export_glb(build_model(family, seed), asset(family, seed).uid)
