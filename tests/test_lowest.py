"""The versions that `tests/lowest.sh` installs are the lowest that pyproject.toml allows."""

import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.paths import ROOT

# What tests alone need; and libraries that need a newer LangChain than the package does.
NOT_LOWEST = {"dev", "tests", "clients"}

# Tested with a higher version: the older ones bring gigabytes of CUDA.
HIGHER = {"torch"}


def test_every_lower_bound_is_the_version_that_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = set(project["dependencies"])
    for extra, requirements in project["optional-dependencies"].items():
        needed |= set(requirements) if extra not in NOT_LOWEST else set()
    bounds = {
        requirement.name: {Version(s.version) for s in requirement.specifier if s.operator == ">="}
        for requirement in map(Requirement, needed)
        if requirement.name != project["name"]
    }
    tested = {}
    for line in (ROOT / "tests" / "lowest.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            tested[name] = {Version(version)}
    assert set(tested) == set(bounds)
    for name in set(bounds) - HIGHER:
        assert tested[name] == bounds[name], f"{name}: tests/lowest.txt against pyproject.toml"
