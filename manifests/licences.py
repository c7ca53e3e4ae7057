"""Licences of assets: SPDX identifiers, what may be used for what, and the attribution that they ask for."""

import html
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

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

_TEXTS = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC-BY-NC-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
}


def commercial_safe(licence: str) -> bool:
    """Whether an SPDX expression allows commercial use and derived works; False when it is unknown or not stated.

    `A OR B` is safe if one of them is, `A AND B` if both are. Parentheses are not read: such an expression is unsafe.
    """
    return any(
        all(term.strip() in COMMERCIAL_SAFE for term in choice.split(" AND ")) for choice in licence.split(" OR ")
    )


@dataclass(frozen=True, kw_only=True)
class LicencePolicy:
    """Which licences may enter a lock. An asset that is refused stays in the lock with the status `licence_refused`."""

    allow: frozenset[str] | None = None
    """Only these expressions; None for any."""
    deny: frozenset[str] = frozenset()
    """Never these; wins over `allow`."""
    commercial_only: bool = False
    """Only what `commercial_safe` accepts: drops `NOASSERTION` too."""

    def accepts(self, licence: str) -> bool:
        """Whether an asset under this SPDX expression may be used."""
        if licence in self.deny or (self.allow is not None and licence not in self.allow):
            return False
        return commercial_safe(licence) if self.commercial_only else True


def attribution_markdown(records: Iterable[AssetRecord]) -> str:
    """The text of `ATTRIBUTION.md`: every licence with the credits that its assets ask for.

    Assets with the same credit share a line. Text from outside is kept on one line and escaped.
    """
    credits: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        credits[record.licence][record.attribution].append(record.uid)
    lines = ["# Attribution", "", "The assets that this dataset draws from, by licence."]
    for licence in sorted(credits):
        by_credit = credits[licence]
        number = sum(len(uids) for uids in by_credit.values())
        lines += ["", f"## {_clean(licence)} ({number} asset{'s' if number != 1 else ''})", ""]
        if licence == NOASSERTION:
            lines += ["No licence is known for these assets: find out before you publish anything made with them.", ""]
        elif licence in _TEXTS:
            lines += [f"Licence text: <{_TEXTS[licence]}>", ""]
        for credit in sorted(by_credit):
            uids = sorted(by_credit[credit])
            which = f"`{_clean(uids[0])}`" if len(uids) == 1 else f"{len(uids)} assets"
            lines.append(f"* {which}: {_clean(credit) or 'no author stated'}")
    return "\n".join(lines) + "\n"


def _clean(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("`", "'").replace("[", "\\[")
