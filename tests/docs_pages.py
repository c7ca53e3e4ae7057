"""The README and the pages of docs/: their blocks, the commands in them, and how the command line reads these."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import typer
import yaml

from randscene.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
PROGRAMS = frozenset(
    {"randscene", "make", "pip", "python", "torchrun", "ray", "git", "hf", "huggingface-cli", "cd", "cp", "mkdir"}
    | {"unzip", "ptxas", "sha256sum", "tensorboard", "apt-get", "sudo", "export", "docker", "source", "curl", "wget"}
)
"""Words that a line of an indented block begins with if it is a command. In a block marked `bash` any word may."""
SHELL = frozenset({"bash", "sh", "shell"})
_SCRIPT = re.compile(r"^(?:#!|(?:for|while|until|if) )", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced or indented block of a page."""

    page: str
    line: int
    """Of its first line of content, from 1."""
    language: str
    """As the fence says; of indented blocks what their first line looks like."""
    text: str

    @property
    def is_script(self) -> bool:
        """Whether it is a shell program as a whole, and not a list of commands."""
        return self.language in SHELL and _SCRIPT.search(self.text) is not None


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of a page."""

    page: str
    line: int
    words: tuple[str, ...]
    environment: tuple[str, ...] = ()
    """Assignments before it."""

    @property
    def text(self) -> str:
        return shlex.join(self.words)

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def randscene(self) -> list[str] | None:
        """The arguments of `randscene`, also where Python or torchrun starts it; None for other programs."""
        if Path(self.words[0]).name == "randscene":
            return list(self.words[1:])
        if "randscene.cli.main" in self.words:
            return list(self.words[self.words.index("randscene.cli.main") + 1 :])
        return None


def blocks(page: str, text: str) -> Iterator[Block]:
    """All blocks of a page, in order."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        fence = re.fullmatch(r" {0,3}(`{3,}|~{3,})\s*([\w+-]*).*", line)
        if fence:
            end = next((n for n in range(number + 1, len(lines)) if lines[n].strip() == fence[1]), None)
            assert end is not None, f"{page}:{number + 1}: a fence that is not closed"
            body = "\n".join(lines[number + 1 : end]) + "\n"
            yield Block(page=page, line=number + 2, language=fence[2], text=body)
            number = end + 1
        elif line.startswith("    ") and not (number and lines[number - 1].strip()) and not _in_list(lines, number):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            body = "\n".join(row[4:] for row in lines[number:end]).rstrip() + "\n"
            yield Block(page=page, line=number + 1, language=_looks_like(body), text=body)
            number = end
        else:
            number += 1


def _in_list(lines: list[str], number: int) -> bool:
    """Whether an indented line continues an item of a list."""
    before = next((row for row in reversed(lines[:number]) if row.strip() and not row.startswith("    ")), "")
    return re.match(r"\s*([*+-]|\d+\.)\s|  \S", before) is not None


def _looks_like(body: str) -> str:
    first = next(row for row in body.splitlines() if row.strip() and not row.startswith("#"))
    if first.startswith("$ "):
        return "console"
    if first.startswith(("from ", "import ")):
        return "python"
    return "bash" if _program(first) in PROGRAMS or first.startswith(". ") else "text"


def _program(line: str) -> str:
    words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
    return Path(words[0]).name if words else ""


def commands(block: Block) -> list[Command]:
    """The commands of a shell block or a transcript; none of a script, which runs as a whole or not at all."""
    if block.is_script or block.language not in SHELL | {"console"}:
        return []
    found, rows, number = [], block.text.splitlines(), 0
    while number < len(rows):
        start, line = number, rows[number]
        while line.endswith("\\"):
            number += 1
            line = line[:-1] + " " + rows[number].strip()
        number += 1
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        for words in split(line):
            assignments = list(_leading_assignments(words))
            rest = words[len(assignments) :]
            if rest:
                found.append(
                    Command(
                        page=block.page,
                        line=block.line + start,
                        words=tuple(rest),
                        environment=tuple(assignments),
                    )
                )
    return found


def _leading_assignments(words: list[str]) -> Iterator[str]:
    for word in words:
        if not re.match(r"[A-Za-z_]\w*=", word):
            return
        yield word


def split(line: str) -> list[list[str]]:
    """The words of each simple command in a line; redirections and comments are left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = ""
    simple: list[list[str]] = [[]]
    for word in lexer:
        if word == "#" or (word.startswith("#") and not simple[-1]):
            break
        if set(word) <= set(";&|"):
            simple.append([])
        elif re.match(r"\d?[<>]", word):
            if word in (">", "<", ">>", "2>"):
                next(iter(lexer), None)
        else:
            simple[-1].append(word)
    return [words for words in simple if words]


def mentioned(page: str, text: str) -> list[list[str]]:
    """The arguments of `randscene` commands that do not stand in lists of commands: in scripts, in the entrypoints of
    YAML blocks, behind `--` of other programs, and with an option in inline code."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    lines = re.findall(r"`(randscene [^`]+ --[^`]+)`", prose)
    for block in blocks(page, text):
        if block.is_script:
            lines += [row for row in block.text.replace("\\\n", " ").splitlines() if not row.startswith("#")]
        elif block.language in ("yaml", "yml"):
            lines += [line for document in yaml.safe_load_all(block.text) for line in _entrypoints(document)]
        else:
            lines += [command.text for command in commands(block) if command.randscene is None]
    found = []
    for line in lines:
        if not re.search(r"(?:^|[ (])randscene [a-z]", line):
            continue
        for words in split(line.replace("(", " ( ").replace(")", " ) ") if "$(" in line else line):
            if "randscene" in words:
                found.append(words[words.index("randscene") + 1 :])
    return found


def _entrypoints(node: object) -> list[str]:
    """The commands that a YAML document gives to Ray."""
    if isinstance(node, dict):
        own = [str(node["entrypoint"])] if "entrypoint" in node else []
        return own + [line for value in node.values() for line in _entrypoints(value)]
    return [line for value in node for line in _entrypoints(value)] if isinstance(node, list) else []


def understand(arguments: list[str]) -> tuple[str, dict[str, object]]:
    """Name and parameters of a command as the command line reads it, without running it; a usage error if it cannot."""
    command, rest, names = typer.main.get_command(app), list(arguments), []
    context = command.make_context("randscene", rest[:1])
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
        names.append(str(name))
        context = command.make_context(str(name), list(rest), parent=context)
    return " ".join(names), dict(context.params)


@cache
def options() -> dict[str, frozenset[str]]:
    """The options of every command, by its name."""
    found: dict[str, frozenset[str]] = {}

    def walk(command: object, name: str) -> None:
        if hasattr(command, "commands"):
            for child, below in command.commands.items():
                walk(below, f"{name} {child}".strip())
        opts = [opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)]
        found[name] = frozenset(opt for opt in opts if opt.startswith("-")) | {"--help"}

    walk(typer.main.get_command(app), "")
    return found


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
