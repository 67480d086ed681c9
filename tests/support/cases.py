"""One promise over many cases in one test, when a test for each would cost more than the check."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(*which: object) -> Iterator[None]:
    """What fails inside says in which case it failed."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {', '.join(map(str, which))}")
        raise
