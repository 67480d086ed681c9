"""Files that are odd or hostile end in one clear error, and texts of every script are seen."""

import io
import json
import os
import stat
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from langchain_llm_router.apps.cli.parameters import check_flags
from langchain_llm_router.collect import Journal, load_journal, load_questions
from langchain_llm_router.data import LexicalEmbeddings, Outcomes
from langchain_llm_router.data.artifacts import Artifact, read_artifact, write_artifact
from langchain_llm_router.data.embeddings import describe_embeddings, restore_embeddings
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.types.errors import ArtifactError


def file(folder: Path, name: str, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("query,reference\nWhat is 2, 3 or 4?,5\n", "line 2 has 3 fields, but the header has 2"),
        ("query,reference\nhi,1\nho\n", "line 3 has 1 fields, but the header has 2"),
        ("query,query\na,b\n", "names of the columns must differ"),
        (b"query\n\xff\xfe\n", "UTF-8"),
    ],
)
def test_a_csv_file_with_other_rows_than_its_header_is_refused(tmp_path, content, said):
    with pytest.raises(ValueError, match=said):
        load_questions(file(tmp_path, "q.csv", content))


@pytest.mark.parametrize("n", [1, 400_000])
def test_marks_blank_lines_and_long_fields_of_csv_are_fine(tmp_path, n):
    text = "\ufeffquery,reference\r\n" + "x" * n + ",1\r\n\r\n"
    assert len(load_questions(file(tmp_path, "q.csv", text))[0].query) == n


def test_marks_and_blank_lines_of_json_lines_are_fine(tmp_path):
    text = '\ufeff{"query": "a"}\r\n\r\n{"query": "b\u2028c"}\r\n\n'
    assert [q.query for q in load_questions(file(tmp_path, "q.jsonl", text))] == ["a", "b\u2028c"]


def test_costs_that_some_rows_lack_are_unknown_and_the_others_are_kept():
    rows = [
        {"query": "a", "quality": {"s": 1, "l": 1}},
        {"query": "b", "quality": {"s": 1, "l": 1}, "cost_usd": {"s": 2}},
        {"query": "c", "quality": {"s": 1, "l": 1}, "cost_usd": {"s": 3, "l": 4}},
    ]
    costs = Outcomes.from_rows(rows).cost_usd
    assert np.array_equal(costs, [[np.nan, np.nan], [2, np.nan], [3, 4]], equal_nan=True)


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "answer", "id": "0"}', '{"kind": ["x"]}', '{"kind": "run", "settings": 3}',
        '{"kind": "grade", "id": "0", "candidate": "s", "quality": NaN}',
        '{"kind": "grade", "id": "0", "candidate": "s", "quality": 7}',
        '{"kind": "answer", "id": "0", "candidate": "s", "text": 1}',
        '{"kind": "answer", "id": "0", "candidate": "s", "text": "x", "cost_usd": 1e999}',
        "[" * 100_000, "null", '{"kind": "question"}', '{"a": ' + "9" * 9000 + "}",
        '{"kind": "answer", "id": {}, "candidate": "s", "text": "x"}',
    ],
)  # fmt: skip
def test_a_damaged_journal_is_one_error_with_its_line_and_its_lock_is_released(tmp_path, line):
    path = file(tmp_path, "j.jsonl", line + "\n")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"j.jsonl line 1"), Journal(path):
            pass
    with pytest.raises(ValueError, match=r"j.jsonl line 1"):
        load_journal(path)


def test_a_journal_and_a_table_are_for_their_owner_only(tmp_path):
    with Journal(tmp_path / "j.jsonl"):
        pass
    Outcomes(["a"], ("s",), [[1]]).save(tmp_path / "o.jsonl")
    for name in ("j.jsonl", "o.jsonl"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv", "q.parquet"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="must be a file"):
        load_questions(tmp_path / name)


def hostile_arrays(kind: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "bomb":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "|u1", "fortran_order": False, "shape": (200 << 20,)}
            )
            archive.writestr("a.npy", header.getvalue() + bytes(200 << 20))
        elif kind == "huge shape":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
            )
            archive.writestr("a.npy", header.getvalue())
        else:
            archive.writestr("a.npy", b"\x93NUMPY\x01\x00\x10\x00((((((((((((((((")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["bomb", "huge shape", "bad header"])
def test_hostile_arrays_end_in_one_error_at_once(tmp_path, kind):
    import hashlib

    folder = write_artifact(tmp_path / "a", Artifact("K", {}, {"x": np.ones(3)}))
    data = hostile_arrays(kind)
    (folder / "arrays.npz").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    began = time.process_time()
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_artifact(folder)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema_version": NaN}', "[]", "\x00"])
def test_a_hostile_manifest_ends_in_one_error(tmp_path, text):
    file(tmp_path, "manifest.json", text)
    with pytest.raises(ArtifactError, match="not a saved artifact"):
        read_artifact(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 70_000), ("budget", float("nan")), ("budget", -1.0), ("samples", -1), ("seed", -1),
     ("threshold", float("inf")), ("concurrency", 0), ("shards", 0)],
)  # fmt: skip
def test_flags_out_of_range_are_named_with_what_is_allowed(name, value):
    with pytest.raises(ValueError, match=f"`--{name}` must be"):
        check_flags({name: value})


TWINS = {
    "Chinese": ("请证明第{}个困难的代数定理", "请把第{}个列表里的简单数字相加"),
    "Japanese": ("難しい代数の定理{}を証明してください", "簡単な数のリスト{}を足してください"),
    "Thai": ("พิสูจน์ทฤษฎีบทที่ยากข้อ{}", "บวกเลขง่ายๆในรายการ{}"),
    "Arabic": ("أثبت النظرية الصعبة رقم {} في الجبر", "اجمع الأعداد السهلة في القائمة {}"),
    "Korean": ("어려운 대수 정리 {}번을 증명하세요", "쉬운 숫자 목록 {}을 더하세요"),
    "snake_case": ("prove_hard_theorem_{}()", "add_easy_numbers_{}()"),
    "camelCase": ("proveHardTheorem{}()", "addEasyNumbers{}()"),
}


def accuracy(hard: str, easy: str) -> float:
    queries = [(hard if i % 2 else easy).format(i) for i in range(200)]
    good = np.array([[float(i % 2 == 0), 1.0] for i in range(200)])
    table = Outcomes(queries[:100], ("s", "l"), good[:100])
    predicted = NearestNeighbors(n_neighbors=10).fit(table).predict(queries[100:])[:, 0]
    return float(((predicted > 0.5) == (good[100:, 0] > 0.5)).mean())


@pytest.mark.parametrize("script", TWINS)
def test_the_twin_task_is_as_easy_in_every_script_as_in_english(script):
    english = accuracy("prove the hard theorem number {}", "add the easy numbers of list {} please")
    assert accuracy(*TWINS[script]) >= english - 0.05


def test_english_is_embedded_as_before_and_an_artifact_keeps_its_version():
    texts = ["What is 2 + 2?", "Prove that pi is irrational, please."]
    old = LexicalEmbeddings(version=1).fit(texts)
    assert np.array_equal(old.embed_array(texts), LexicalEmbeddings().fit(texts).embed_array(texts))
    described = describe_embeddings(old, 4096)
    assert "version" not in described, "as in older artifacts"
    assert restore_embeddings(described, None, old.idf_).version == 1
    new = describe_embeddings(LexicalEmbeddings(), 4096)
    assert restore_embeddings(new, None, old.idf_).version == 2
    with pytest.raises(ArtifactError, match="fit and save it again"):
        restore_embeddings({**new, "version": 3}, None, old.idf_)
