"""The shape of the package as its sources show it: lines of code by file and by body."""

import ast
from functools import cache
from pathlib import Path

from tests.support.paths import PACKAGE


def code_lines(tree: ast.AST, lines: list[str]) -> set[int]:
    """The lines that are neither blank nor comment nor docstring (an attribute's included)."""
    said: set[int] = set()
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        for statement in node.body if isinstance(node, holders) else ():
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ):
                said |= set(range(statement.lineno, (statement.end_lineno or 0) + 1))
    texts = ((i, line.strip()) for i, line in enumerate(lines, 1))
    return {i for i, text in texts if text and not text.startswith("#")} - said


@cache
def parsed(path: Path) -> ast.Module:
    """A source file's tree, parsed once for all who read it."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def lines_of_code(path: Path) -> tuple[int, dict[str, int]]:
    """Of a file, and of each body in it."""
    tree = parsed(path)
    code = code_lines(tree, path.read_text(encoding="utf-8").splitlines())
    bodies: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, last = node.body[0].lineno, node.body[-1].end_lineno or 0
            bodies[f"{node.lineno}:{node.name}"] = len(code & set(range(first, last + 1)))
    return len(code), bodies


def shape() -> dict[str, str | int]:
    """The largest file and the longest body of the package."""
    found = {str(path.relative_to(PACKAGE)): lines_of_code(path) for path in PACKAGE.rglob("*.py")}
    bodies = {f"{name}:{body}": n for name, (_, all_) in found.items() for body, n in all_.items()}
    files = {name: n for name, (n, _) in found.items()}
    largest, longest = max(files, key=files.__getitem__), max(bodies, key=bodies.__getitem__)
    return {
        "largest_file": largest,
        "largest_file_lines": files[largest],
        "longest_body": longest,
        "longest_body_lines": bodies[longest],
        "lines_of_code": sum(files.values()),
        "n_files": len(files),
    }
