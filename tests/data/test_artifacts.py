"""Folders of JSON, arrays and further files that refuse what was tampered with."""

import json

import numpy as np
import pytest

from langchain_llm_router.data.artifacts import Artifact, data_hash, read_artifact, write_artifact
from langchain_llm_router.types.errors import ArtifactError


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


def written(tmp_path):
    arrays = {"a": np.arange(4.0)}
    return write_artifact(tmp_path / "it", Artifact("Thing", {"x": 1}, arrays))


def test_what_was_written_comes_back(tmp_path):
    back = read_artifact(written(tmp_path), "Thing")
    assert back.settings == {"x": 1}
    np.testing.assert_array_equal(back.arrays["a"], np.arange(4.0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m | {"schema_version": 99}, "schema version 99"),
        (lambda m: m | {"kind": "Other"}, "contains a 'Other', not a 'Thing'"),
        (lambda m: m | {"arrays_sha256": "0" * 64}, "corrupted"),
        (lambda m: {"kind": "Thing"}, "not a saved artifact"),
        (lambda m: [1, 2], "not a saved artifact"),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path, change, says):
    folder = written(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(change(manifest)))
    with pytest.raises(ArtifactError, match=says):
        read_artifact(folder, "Thing")


def test_a_missing_or_cut_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="not a saved artifact"):
        read_artifact(tmp_path / "nowhere")
    folder = written(tmp_path)
    arrays = folder / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:20])
    with pytest.raises(ArtifactError, match="corrupted"):
        read_artifact(folder)


def test_python_objects_are_not_saved(tmp_path):
    arrays = {"a": np.array([object()], dtype=object)}
    with pytest.raises(ArtifactError, match="Python objects"):
        write_artifact(tmp_path / "it", Artifact("Thing", {}, arrays))


def test_the_fingerprint_follows_the_data():
    assert data_hash(["a"], np.ones(3)) == data_hash(["a"], np.ones(3))
    assert data_hash(["a"], np.ones(3)) != data_hash(["a"], np.zeros(3))
