"""Which dataset was probably meant by a path that is near one."""

from randscene.shards.store import Store


def meant_folder(store: Store) -> str:
    """What to do about a folder that holds no dataset, as the end of a message; only a local one is searched."""
    folder = store.local
    if folder is not None:
        if (folder.parent / "dataset.json").is_file():  # its shards, say
            return f"the folder around it is one: {folder.parent}"
        if folder.is_file():
            return "it is a file; give the folder that holds dataset.json"
        inside = sorted(found.parent.name for found in folder.glob("*/dataset.json"))
        if inside:
            return f"it holds {', '.join(inside[:5])}{', ...' * (len(inside) > 5)}: give {folder / inside[0]}"
    return "check the path"
