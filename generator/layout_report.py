"""LayoutReport: what the check of many scenes found, as data, as text and as files."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from randscene.files import write_atomic
from randscene.generator.layout_statistics import LayoutStatistics
from randscene.generator.scene_check import CHECKS, FAR, SceneCheck, Violation
from randscene.manifests.spec_sections import VerifySpec

REPORT_SCHEMA = 1
WORST = 20
"""Violations of each check, and assets, that a report names."""

MEANINGS = {
    "penetration": "pairs of meshes deeper inside one another than the tolerance",
    "floating": "objects above what carries them",
    "sunk": "objects below the ground",
    "overhang": "stacked objects whose outline leaves the supporting polygon",
    "disc_distance": "pairs of discs nearer than their radii and the gap",
    "disc_cover": "objects that reach out of their disc",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Offender:
    """An asset that takes part in violations of one check."""

    check: str
    uid: str
    file: str
    """Name of its file, without folders."""
    violations: int


@dataclass(frozen=True, kw_only=True)
class LayoutReport:
    """The outcome of `verify`."""

    tolerances: VerifySpec
    checked: Mapping[str, int]
    """By check: how many pairs, objects or discs were tested."""
    violations: Mapping[str, int]
    """By check: how many of them were beyond the tolerance."""
    violating_scenes: Mapping[str, int]
    """By check: in how many scenes."""
    worst: Mapping[str, tuple[Violation, ...]]
    """By check: those farthest beyond the tolerance, worst first."""
    offenders: tuple[Offender, ...]
    """The assets with the most violations, most first."""
    statistics: LayoutStatistics = field(repr=False)
    drawn: tuple[SceneCheck, ...] = field(repr=False)
    """Scenes for a drawing: those with the worst violations, then the first ones."""
    failures: Mapping[str, int]
    """Failed attempts at scenes by their typed reason."""
    notes: tuple[str, ...]
    seconds: float

    @property
    def scenes(self) -> int:
        return self.statistics.scenes

    @property
    def ok(self) -> bool:
        """Whether everything is within its tolerance."""
        return not any(self.violations.values())

    @property
    def worst_violation(self) -> Violation | None:
        """The one farthest beyond its tolerance, meshes and contacts before discs."""
        for checks in (CHECKS[:4], CHECKS[4:]):
            found = [violation for check in checks for violation in self.worst[check]]
            if found:
                return max(found, key=lambda violation: violation.ratio)
        return None

    def data(self) -> dict[str, Any]:
        """Everything but the drawings as plain data. Equal inputs give equal data, `seconds` apart."""
        return {
            "schema": REPORT_SCHEMA,
            "ok": self.ok,
            "scenes": self.scenes,
            "tolerances": self.tolerances.model_dump(),
            "checks": {
                check: {
                    "meaning": MEANINGS[check],
                    "checked": self.checked[check],
                    "violations": self.violations[check],
                    "scenes": self.violating_scenes[check],
                    "worst": [_entry(violation) for violation in self.worst[check]],
                }
                for check in CHECKS
            },
            "offenders": [asdict(offender) for offender in self.offenders],
            "statistics": self.statistics.summary(),
            "failures": dict(sorted(self.failures.items())),
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }

    def markdown(self) -> str:
        """The report as a page of text."""
        return "\n".join(_markdown(self)) + "\n"


class ReportBuilder:
    """Takes checked scenes in order and ends in a LayoutReport.

    Parameters
    ----------
    tolerances : VerifySpec
    files : mapping of str to str
        File name of each asset uid.
    drawn : int
        How many scenes to keep for a drawing.
    """

    def __init__(self, tolerances: VerifySpec, files: Mapping[str, str], drawn: int) -> None:
        self.statistics = LayoutStatistics()
        self._files = files
        self._tolerances = tolerances
        self._drawn = drawn
        self._first: list[SceneCheck] = []
        self._bad: list[SceneCheck] = []
        self._checked: Counter[str] = Counter()
        self._violations: Counter[str] = Counter()
        self._scenes: Counter[str] = Counter()
        self._offenders: Counter[tuple[str, str]] = Counter()
        self._worst: dict[str, list[Violation]] = {check: [] for check in CHECKS}

    def add(self, check: SceneCheck) -> None:
        """Take up one scene."""
        self.statistics.add(check)
        stacked = sum(item.layer > 0 for item in check.instances)
        self._checked["penetration"] += check.pairs
        self._checked["floating"] += len(check.instances)
        self._checked["sunk"] += len(check.instances) - stacked
        self._checked["overhang"] += stacked
        self._checked["disc_distance"] += len(check.disc_ratios)
        self._checked["disc_cover"] += len(check.layout.radii)
        self._scenes.update({violation.check for violation in check.violations})
        for violation in check.violations:
            self._violations[violation.check] += 1
            self._offenders.update((violation.check, uid) for uid in set(violation.uids))
            self._worst[violation.check] = _worst([*self._worst[violation.check], violation], WORST)
        if len(self._first) < self._drawn:
            self._first.append(check)
        if check.violations:
            self._bad = sorted([*self._bad, check], key=_badness)[: self._drawn]

    def finish(self, *, failures: Mapping[str, int], notes: Iterable[str], seconds: float) -> LayoutReport:
        """The report on what was taken up."""
        named = sorted(self._offenders.items(), key=lambda item: (-item[1], item[0]))[:WORST]
        bad = {check.scene for check in self._bad}
        drawn = [*self._bad, *(check for check in self._first if check.scene not in bad)]
        return LayoutReport(
            tolerances=self._tolerances,
            checked={check: self._checked[check] for check in CHECKS},
            violations={check: self._violations[check] for check in CHECKS},
            violating_scenes={check: self._scenes[check] for check in CHECKS},
            worst={check: tuple(self._worst[check]) for check in CHECKS},
            offenders=tuple(
                Offender(check=check, uid=uid, file=self._files[uid], violations=count) for (check, uid), count in named
            ),
            statistics=self.statistics,
            drawn=tuple(drawn[: self._drawn]),
            failures=dict(failures),
            notes=tuple(notes),
            seconds=seconds,
        )


def write_report(report: LayoutReport, folder: Path) -> list[Path]:
    """Write `report.json`, `report.md`, `histograms.png` and `layouts.png` into `folder`; returns their paths.

    Raises
    ------
    RandsceneError
        If the folder cannot be written.
    """
    # Matplotlib takes a while to load, and only the pictures need it.
    from randscene.generator.layout_plots import draw_histograms, draw_layouts

    files: dict[str, str | bytes] = {
        "report.json": json.dumps(report.data(), indent=2, sort_keys=True, allow_nan=False) + "\n",
        "report.md": report.markdown(),
        "histograms.png": draw_histograms(report),
        "layouts.png": draw_layouts(report),
    }
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]


def describe(violation: Violation) -> str:
    """A violation in one line."""
    uids = violation.uids
    first, value = f"instance {violation.instances[0]} ({uids[0]})", f"{violation.value:.3g} m"
    other = f"instance {violation.instances[1]} ({uids[1]})" if len(uids) > 1 else "the ground"
    what = {
        "penetration": f"{first} and {other} are up to {value} inside one another",
        "floating": f"{first} floats {value} above {other}",
        "nothing below": f"{first} has nothing of {other} below it",
        "sunk": f"{first} is sunk {value} into the ground",
        "overhang": f"{first} overhangs the supporting polygon of {other} by {value}",
        "disc_distance": f"the discs of {first} and {other} are {value} too near",
        "disc_cover": f"{first} reaches {value} out of its disc",
    }["nothing below" if violation.value == FAR else violation.check]
    return f"scene {violation.scene}: {what}, {violation.ratio:.3g} times the tolerance"


def _worst(violations: list[Violation], count: int) -> list[Violation]:
    return sorted(violations, key=lambda item: (-item.ratio, item.scene, item.instances))[:count]


def _badness(check: SceneCheck) -> tuple[float, int]:
    return -max(violation.ratio for violation in check.violations), check.scene


def _entry(violation: Violation) -> dict[str, Any]:
    return {
        "scene": violation.scene,
        "instances": list(violation.instances),
        "uids": list(violation.uids),
        "value_m": float(f"{violation.value:.6g}"),
        "tolerance_m": float(f"{violation.tolerance:.6g}"),
        "ratio": float(f"{violation.ratio:.6g}"),
    }


def _markdown(report: LayoutReport) -> Iterable[str]:
    summary = report.statistics.summary()
    sampler = summary["sampler"]
    yield "# Layout report"
    yield ""
    total = sum(report.violations.values())
    yield f"{report.scenes} scenes, {summary['instances']} objects: {total or 'no'} violations."
    yield from (f"\nNote: {note}." for note in report.notes)
    yield ""
    yield "| check | what counts | checked | violations | scenes | worst |"
    yield "|---|---|---|---|---|---|"
    for check in CHECKS:
        worst = f"{report.worst[check][0].ratio:.3g} x tolerance" if report.worst[check] else "-"
        numbers = f"{report.checked[check]} | {report.violations[check]} | {report.violating_scenes[check]}"
        yield f"| {check} | {MEANINGS[check]} | {numbers} | {worst} |"
    yield ""
    limits = report.tolerances
    yield (
        f"Tolerances over an object's largest extent: penetration {limits.penetration:g} (of the smaller object), "
        f"contact {limits.contact:g}, overhang {limits.overhang:g}."
    )
    for check in CHECKS:
        if report.worst[check]:
            yield f"\n## Worst: {check}\n"
            yield from (f"* {describe(violation)}" for violation in report.worst[check])
    if report.offenders:
        yield "\n## Assets with most violations\n"
        yield from (f"* {item.uid} ({item.file}): {item.check} {item.violations}" for item in report.offenders)
    yield "\n## Statistics\n"
    yield "| quantity | unit | values | mean | min | p1 | p50 | p99 | max |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, entry in summary["quantities"].items():
        values = " | ".join(f"{entry[key]:.4g}" for key in ("mean", "min", "p1", "p50", "p99", "max"))
        yield f"| {name} | {entry['unit']} | {entry['count']} | {values} |"
    yield ""
    layers = ", ".join(f"{count} on layer {layer}" for layer, count in summary["instances_by_layer"].items())
    uses = summary["assets"]["uses"]
    yield f"* Objects by layer (0 is the ground): {layers}; {summary['scenes_with_a_stack']} scenes have a stack."
    yield (
        f"* {summary['assets']['distinct']} distinct assets, used {uses['min']:.0f} to {uses['max']:.0f} times (median "
        f"{uses['p50']:.0f}); {summary['scenes_with_an_asset_twice']} scenes hold an asset twice."
    )
    yield f"* {summary['pairs_near']} of {summary['pairs']} pairs came near enough for the exact test."
    yield (
        f"* Sampler: {sampler['tries']} tries and {sampler['expansions']} expansions in all, expansions in "
        f"{sampler['scenes_with_expansions']} scenes; {sampler['scenes_planned_again']} scenes were planned again."
    )
    if report.failures:
        yield "* Failed attempts: " + ", ".join(f"{reason} {n}" for reason, n in sorted(report.failures.items())) + "."
