"""Where the real labelled tables lie; tests that need them skip with a reason without them."""

import os
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def shared_data_folder() -> Path | None:
    """The folder of real tables, or None."""
    places = [ROOT.parent / "shared" / "data", ROOT.parent.parent / "shared" / "data"]
    if "LLM_ROUTER_SHARED_DATA" in os.environ:
        places.insert(0, Path(os.environ["LLM_ROUTER_SHARED_DATA"]))
    return next((place for place in places if place.is_dir()), None)


def shared_data(name: str) -> Path:
    """A table's path; skips the running test where it is absent."""
    folder = shared_data_folder()
    if folder is None or not (folder / name).exists():
        pytest.skip(f"the real table {name} is not at ../shared/data")
    return folder / name
