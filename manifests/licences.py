"""Licences of assets: SPDX expressions, what may be used for what, and the attribution that they ask for.

Expressions are read by the `license-expression` package, against the licence list of SPDX
(https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/).
"""

import difflib
import functools
import html
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from randscene.manifests.asset_record import AssetRecord

NOASSERTION = "NOASSERTION"
"""SPDX's word for a licence that nobody has stated."""

COMMERCIAL_SAFE = frozenset(
    {
        "CC0-1.0", "0BSD", "MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unlicense", "Zlib",
        "CC-BY-1.0", "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-3.0-US", "CC-BY-4.0",
        "CC-BY-SA-1.0", "CC-BY-SA-2.0", "CC-BY-SA-2.5", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "PDDL-1.0", "CC-PDDC",
    }
)  # fmt: skip
"""Licences that allow commercial use and derived works. Those that forbid either (`-NC`, `-ND`) and unknown ones are
not here; share-alike ones are, since they restrict how results are licensed, not what they may be used for."""

NO_CREDIT_NEEDED = frozenset({"CC0-1.0", "0BSD", "MIT-0", "Unlicense", "PDDL-1.0", "CC-PDDC", NOASSERTION})
"""Licences that ask for no credit, and the lack of one, which asks for nothing and allows nothing."""

_LONGEST = 1000
"""Characters of an expression that are read; more is no expression that a person wrote."""
_BREAKS = re.compile(r"[\s_-]*\bv(?=\d)|(?<=[a-z])v(?=\d)|(?<=[a-uw-z])(?=\d)|[\s_-]+")
"""Where people leave SPDX's hyphens out: at blanks, and before a version, which they call `v3` or `3`."""
_CREATIVE_COMMONS = re.compile(r"CC-(BY(?:-NC)?(?:-SA|-ND)?)-(\d\.\d)")


def spdx_spelling(licence: str) -> str:
    """An expression in SPDX's own spelling: `mit and (cc0-1.0)` is `MIT AND CC0-1.0`.

    Text that is no expression is kept, on one line; nothing at all is `NOASSERTION`.
    """
    text = " ".join(licence.split())
    if not text:
        return NOASSERTION
    tree = _tree(text)
    return text if tree is None else str(tree.render())


def unknown_names(licence: str) -> list[str]:
    """The parts of an expression that are not on SPDX's list (`NOASSERTION` is known)."""
    return [name for name in _leaves(licence) if name != NOASSERTION and not _known(name)]


def nearest_name(name: str) -> str:
    """The SPDX name that is most like text which is none; empty where none is.

    A version is what people leave out most: what only lacks one comes first, of several the latest.
    """
    word = re.sub(r"-licen[cs]e$", "", _BREAKS.sub("-", name.strip().casefold()).replace("cc-0", "cc0"))
    known = {key.casefold(): key for key in sorted(_licensing().known_symbols)}
    if word in known:
        return known[word]
    longer = sorted(key for key in known if word and key.startswith(word))
    versions = [key for key in longer if re.fullmatch(r"[-.\d]*(-only)?", key.removeprefix(word))]
    if longer:
        common = [key for key in longer if known[key] in COMMERCIAL_SAFE]
        return known[(versions or common or longer)[-1]]
    close = difflib.get_close_matches(word, known, n=1)
    return known[close[0]] if close else ""


def commercial_safe(licence: str) -> bool:
    """Whether an SPDX expression allows commercial use and derived works; False when it is unknown or not stated.

    `A OR B` is safe if one of them is, `A AND B` if both are, `A WITH exception` if A is and SPDX lists the exception.
    """
    return _holds(licence, _safe)


def asks_for_credit(licence: str) -> bool:
    """Whether every way to use an asset under this expression needs a credit. Unknown licences are taken to ask."""
    return not _holds(licence, lambda name: name in NO_CREDIT_NEEDED)


def lacks_credit(record: AssetRecord) -> bool:
    """Whether an asset's licence asks for a credit that nobody has stated."""
    return not record.attribution.strip() and asks_for_credit(record.licence)


def credit_line(*, name: object, author: object, licence: str, origin: object = "") -> str:
    """A credit with what the Creative Commons licences ask for: `"Name" by Author (origin), LICENCE`.

    What comes from outside is kept on one line and to a bounded length. Empty without an author: half a credit would
    hide that one is missing.
    """
    title, whom, where = one_line(name), one_line(author), one_line(origin)
    if not whom:
        return ""
    what = f'"{title}" by {whom}' if title else f"by {whom}"
    return f"{what} ({where}), {licence}" if where else f"{what}, {licence}"


def one_line(value: object, *, longest: int = 200) -> str:
    """Text from outside on one line, without control characters and not too long; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    text = " ".join("".join(char if char.isprintable() else " " for char in value).split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


@dataclass(frozen=True, kw_only=True)
class LicencePolicy:
    """Which licences may be used. An asset is accepted if one of the choices that its expression offers is."""

    allow: frozenset[str] | None = None
    """Only these licences or whole expressions; None for any."""
    deny: frozenset[str] = frozenset()
    """Never these; wins over `allow`."""
    commercial_only: bool = False
    """Only what `commercial_safe` accepts: drops `NOASSERTION` too."""

    def accepts(self, licence: str) -> bool:
        """Whether an asset under this SPDX expression may be used."""
        whole = spdx_spelling(licence)
        deny = _spellings(self.deny)
        allow = None if self.allow is None else _spellings(self.allow)
        if whole in deny:
            return False

        def may(name: str) -> bool:
            # SPDX's exceptions only add permissions: who allows a licence allows it with any of them.
            if {name, _base(name)} & deny or (self.commercial_only and not _safe(name)):
                return False
            return allow is None or whole in allow or name in allow or (_known(name) and _base(name) in allow)

        return _holds(whole, may)

    def unknown_names(self) -> list[str]:
        """Names in `allow` and `deny` that are not on SPDX's list: most likely slips of the pen."""
        return sorted({name for text in (self.allow or frozenset()) | self.deny for name in unknown_names(text)})


def attribution_markdown(records: Iterable[AssetRecord]) -> str:
    """The text of `ATTRIBUTION.md`: every licence, where its text is, and the credits that its assets ask for.

    Assets with the same credit share a line. Text from outside is kept on one line and escaped. Assets whose licence
    asks for a credit that nobody has stated are marked.
    """
    credits: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    missing = 0
    for record in records:
        credits[record.licence][record.attribution].append(record.uid)
        missing += lacks_credit(record)
    lines = ["# Attribution", "", "The assets that this dataset draws from, by licence."]
    if missing:
        lines += ["", f"**The credit that the licence asks for is not known: {_assets(missing)}.** Find it first."]
    for licence in sorted(credits):
        by_credit = credits[licence]
        lines += ["", f"## {_clean(licence)} ({_assets(sum(len(uids) for uids in by_credit.values()))})", ""]
        if licence == NOASSERTION:
            lines += ["No licence is known for these assets: find out before you publish anything made with them.", ""]
        elif links := [f"<{link}>" for name in _leaves(licence) if (link := licence_link(name))]:
            lines += [f"Licence text: {', '.join(links)}", ""]
        for credit in sorted(by_credit):
            uids = sorted(by_credit[credit])
            which = f"`{_clean(uids[0])}`" if len(uids) == 1 else f"{len(uids)} assets"
            none = "**no author stated, though the licence asks for one**" if asks_for_credit(licence) else "no author"
            lines.append(f"* {which}: {_clean(credit) or none}")
    return "\n".join(lines) + "\n"


def licence_link(name: str) -> str:
    """Where the text of one SPDX licence stands; empty when SPDX does not know it."""
    base = _base(name)
    if base == "CC0-1.0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    if match := _CREATIVE_COMMONS.fullmatch(base):
        return f"https://creativecommons.org/licenses/{match[1].lower()}/{match[2]}/"
    return f"https://spdx.org/licenses/{base}.html" if _known(base) else ""


def _assets(number: int) -> str:
    return f"{number} asset{'s' if number != 1 else ''}"


def _clean(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("`", "'").replace("[", "\\[")


def _base(name: str) -> str:
    return name.partition(" WITH ")[0]


def _safe(name: str) -> bool:
    return name in COMMERCIAL_SAFE or (_known(name) and _base(name) in COMMERCIAL_SAFE)


@functools.lru_cache(maxsize=256)
def _spellings(names: frozenset[str]) -> frozenset[str]:
    return frozenset(spdx_spelling(name) for name in names)


@functools.cache
def _licensing() -> Any:
    from license_expression import LicenseSymbol, Licensing, get_license_index

    symbols = []
    for entry in get_license_index():
        key = entry.get("spdx_license_key") or ""
        # LicenseRef names mean whatever the document that uses them says: nobody else knows them.
        if key and not key.startswith("LicenseRef-"):
            older = [name for name in entry.get("other_spdx_license_keys") or () if not name.startswith("LicenseRef-")]
            symbols.append(LicenseSymbol(key, aliases=tuple(older), is_exception=bool(entry.get("is_exception"))))
    return Licensing(symbols)


@functools.lru_cache(maxsize=4096)
def _tree(licence: str) -> Any:
    """The expression as a tree of `AND`, `OR` and symbols; None when it is not one."""
    if len(licence) > _LONGEST:
        return None
    try:
        return _licensing().parse(licence)
    except MemoryError:
        raise
    except Exception:  # besides its own errors the parser raises whatever it stumbles over in text of another kind
        return None


@functools.lru_cache(maxsize=4096)
def _known(name: str) -> bool:
    tree = _tree(name)
    return tree is not None and not _licensing().unknown_license_keys(tree)


def _holds(licence: str, leaf: Callable[[str], bool]) -> bool:
    tree = _tree(licence)
    return leaf(licence) if tree is None else _evaluate(tree, leaf)


def _evaluate(tree: Any, leaf: Callable[[str], bool]) -> bool:
    licensing = _licensing()
    if isinstance(tree, licensing.OR):
        return any(_evaluate(part, leaf) for part in tree.args)
    if isinstance(tree, licensing.AND):
        return all(_evaluate(part, leaf) for part in tree.args)
    return leaf(tree.render())


def _leaves(licence: str) -> list[str]:
    """The licences in an expression, each once, in order of appearance."""
    tree = _tree(licence)
    return [licence] if tree is None else list(dict.fromkeys(symbol.render() for symbol in tree.get_literals()))
