"""Numbers by name, sorted, that print as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["NamedNumbers"]


class NamedNumbers(Mapping[str, float]):
    """Numbers by name from the largest to the smallest, which print as a table of two columns.

    Equal numbers stay in the order in which they are given.

    Args:
        what: What the numbers are: the heading of their column.
        numbers: The numbers by name.
        digits: Digits after the point in the printed table.

    Example:
        >>> NamedNumbers("Elo rating", {"small": 968.0, "large": 1032.0})
        name   Elo rating
        large       1,032
        small         968
    """

    def __init__(self, what: str, numbers: Mapping[str, float], *, digits: int = 0) -> None:
        self.what = what
        self.digits = digits
        self._numbers = dict(sorted(numbers.items(), key=lambda item: -item[1]))

    def __getitem__(self, name: str) -> float:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __repr__(self) -> str:
        rows = [("name", self.what)]
        rows += [(name, f"{number:,.{self.digits}f}") for name, number in self._numbers.items()]
        left, right = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"{name:{left}}  {shown:>{right}}" for name, shown in rows)
