"""The product's source, parsed: what the shape tests look at."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PRODUCT = ("interpd", "clients/python/interpd_client", "plugins", "examples", "protos", "benchmarks")


@dataclass(frozen=True)
class Source:
    """One file of the product."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @property
    def n_lines(self) -> int:
        """Its length."""
        return self.text.count("\n")

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function, nested ones included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def product() -> list[Source]:
    """Every Python file of the product: tests, generated stubs and build folders left out."""
    paths = (path for folder in PRODUCT for path in sorted((ROOT / folder).rglob("*.py")))
    kept = [path for path in paths if not _is_left_out(path.relative_to(ROOT))]
    return [Source(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in kept]


def _is_left_out(path: Path) -> bool:
    return any(part in ("tests", "build", "__pycache__") for part in path.parts) or path.match("interpd/wire/v1/*")


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0
