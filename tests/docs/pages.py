"""The Markdown pages of the repository and the code blocks in them."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of code."""

    page: str
    line: int
    language: str
    code: str

    def compiled(self):
        """The block as code whose tracebacks point into the page."""
        return compile("\n" * self.line + self.code, self.page, "exec")


def pages():
    """Every Markdown file that is tracked or would be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in listed if (ROOT / path).exists()]


def text(page):
    """What a page says."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language="python"):
    """The blocks of one language on a page."""
    said = text(page)
    found = ((said[: match.start()].count("\n") + 1, match) for match in _BLOCK.finditer(said))
    return [Block(page, line, match[1], match[2]) for line, match in found if match[1] == language]
