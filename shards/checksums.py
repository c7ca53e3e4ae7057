"""SHA256SUMS: the hashes of a dataset's tars in the form that `sha256sum --check` reads."""

import re
from collections.abc import Mapping

from randscene.errors import DatasetError
from randscene.shards.store import Store

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (shards/[A-Za-z0-9_]+-\d{6,}\.tar)")


def write_checksums(store: Store, hashes: Mapping[str, str]) -> None:
    """Write the file; `hashes` maps a tar's name in the dataset folder to its SHA-256.

    Run `sha256sum --check SHA256SUMS` in the folder to compare. The hashes are those of the indexes: what the file adds
    is that a tar whose index was lost can be told from a damaged one.

    Raises
    ------
    RandsceneError
        If it cannot be written.
    """
    store.write(NAME, "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)))


def read_checksums(store: Store) -> dict[str, str]:
    """The hashes by tar name; empty when there is no such file.

    Raises
    ------
    DatasetError
        If a line is not a hash and a name of a shard.
    """
    try:
        lines = store.read(NAME).decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DatasetError(f"{store.url}/{NAME}, line {number}: not a hash and a shard; remove the file")
        found[match[2]] = match[1]
    return found
