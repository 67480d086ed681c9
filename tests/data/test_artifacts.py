"""Folders of JSON, arrays and further files that refuse what was tampered with."""

import json

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import Artifact, data_hash, read_artifact, write_artifact
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Policy, Threshold
from langchain_llm_router.router import SavedRouter
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


def constant(folder):
    outcomes = Outcomes(queries=["q"], candidates=("a", "b"), quality=[[0.0, 1.0]])
    return Constant().fit(outcomes).save(folder)


@pytest.mark.parametrize(
    ("make", "load", "lost", "says"),
    [
        (constant, Constant.load, "candidates", "a Constant as this version .* no 'candidates'"),
        (Threshold(0.6).save, Policy.load, "params", "a Threshold as this version .* no 'params'"),
        (
            SavedRouter(("a", "b"), Threshold(0.6)).save,
            SavedRouter.load,
            "expected_cost_usd",
            "a SavedRouter as this version .* no 'expected_cost_usd'",
        ),
    ],
    ids=["estimator", "policy", "router"],
)
def test_an_artifact_with_other_fields_says_which_and_what_to_do(tmp_path, make, load, lost, says):
    path = make(tmp_path / "it") / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["settings"][lost]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=rf"{says}\. Fit and save it again\.$"):
        load(tmp_path / "it")


def test_a_field_that_is_not_known_any_more_says_what_to_do(tmp_path):
    path = Threshold(0.6).save(tmp_path) / "manifest.json"
    path.write_text(path.read_text().replace('"threshold"', '"bar"'))
    with pytest.raises(ArtifactError, match=r"no argument `bar`.*\]\. Fit and save it again\.$"):
        Policy.load(tmp_path)
