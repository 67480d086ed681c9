"""Folders of JSON, arrays and further files that refuse what was tampered with."""

import json

import numpy as np
import pytest

from langchain_llm_router.artifacts import Artifact, read_artifact, write_artifact
from langchain_llm_router.errors import ArtifactError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "weights.safetensors").write_bytes(b"weights")
    artifact = Artifact("Thing", {"a": 1}, {"x": np.ones(3)}, ["part/weights.safetensors"])
    return write_artifact(tmp_path, artifact)


def test_further_files_are_listed_after_reading(folder):
    assert read_artifact(folder, "Thing").files == ("part/weights.safetensors",)


@pytest.mark.parametrize("damage", [b"weightZ", b"", None])
def test_a_further_file_that_changed_or_vanished_is_refused(folder, damage):
    path = folder / "part" / "weights.safetensors"
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(ArtifactError, match=r"corrupted: part/weights\.safetensors"):
        read_artifact(folder)


def test_a_manifest_from_before_further_files_is_still_read(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files_sha256"]
    path.write_text(json.dumps(manifest))
    assert read_artifact(folder).files == ()
