"""Graphics cards as NVIDIA's driver names them, whatever library may use them."""

import shutil
import subprocess
from dataclasses import asdict, dataclass

from randscene.cli.checks.finding import Finding, Options, absent, ok, warning

_QUERY = ("name", "compute_cap", "memory.total", "driver_version")


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A card of NVIDIA's."""

    name: str
    capability: str
    """Compute capability, e.g. `9.0`."""
    memory: str
    driver: str


def nvidia_cards() -> list[Card]:
    """The cards that `nvidia-smi` lists; none where it is not there, or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        command = [program, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    return [Card(name=r[0], capability=r[1], memory=r[2], driver=r[3]) for r in rows if len(r) == len(_QUERY)]


def graphics_cards(options: Options) -> Finding:
    """What the driver names; a card is never needed."""
    cards = nvidia_cards()
    if cards:
        first = cards[0]
        number = f"{len(cards)} x " if len(cards) > 1 else ""
        words = f"{number}{first.name}, {first.memory}, sm_{first.capability.replace('.', '')}, driver {first.driver}"
        return ok(words, cards=[asdict(card) for card in cards])
    if shutil.which("nvidia-smi"):
        return warning("nvidia-smi is here and lists no card", "look at the driver with: nvidia-smi")
    return absent("no card of NVIDIA's; nothing needs one")
