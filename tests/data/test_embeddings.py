"""From text to vectors."""

from collections import Counter
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.data.embeddings import (
    _WORDS,
    LexicalEmbeddings,
    _counted,
    embed,
    restore_embeddings,
)
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import TableEmbeddings, make_outcomes


@given(st.lists(st.text(max_size=40), max_size=5))
def test_lexical_vectors_have_length_one_or_are_zero(texts):
    vectors = LexicalEmbeddings(width=64).embed_array(texts)
    norms = np.linalg.norm(vectors, axis=1)
    assert vectors.shape == (len(texts), 64)
    assert np.all(np.isclose(norms, 1, atol=1e-5) | (norms == 0))


@settings(max_examples=50)
@given(st.lists(st.text(max_size=40), max_size=5), st.lists(st.text(max_size=40), max_size=5))
def test_vectors_without_their_zeros_are_the_same(fitted_on, texts):
    lexical = LexicalEmbeddings(width=16).fit(fitted_on)
    sparse = lexical.embed_sparse(texts)
    np.testing.assert_allclose(sparse.toarray(), lexical.embed_array(texts), atol=1e-6)
    at_once = LexicalEmbeddings(width=16)
    np.testing.assert_array_equal(
        at_once.fit_sparse(texts).toarray(), at_once.embed_sparse(texts).toarray()
    )
    np.testing.assert_array_equal(at_once.idf_, LexicalEmbeddings(width=16).fit(texts).idf_)


@given(st.lists(st.text("ab\ud83dß", min_size=1, max_size=3), max_size=8), st.integers(1, 4))
def test_an_n_gram_has_the_hash_of_its_words_with_spaces_between(words, n_words):
    code, count = _counted(" ".join(words), n_words, 1)
    found = dict(zip(code.tolist(), count.tolist(), strict=True))
    tokens = _WORDS.findall(" ".join(words).lower())
    grams = [tokens[i : i + n] for n in range(1, n_words + 1) for i in range(len(tokens) - n + 1)]
    hashed = [crc32(" ".join(gram).encode("utf-8", "surrogatepass")) for gram in grams]
    assert found == Counter(hashed)


def test_rarity_counts_texts_also_where_n_grams_cancel_out():
    lexical = LexicalEmbeddings(width=1).fit(["a b", "c", ""])
    assert lexical.idf_[0] == pytest.approx(np.log(4 / 3) + 1)


def test_many_texts_are_counted_part_by_part_in_order(monkeypatch):
    monkeypatch.setattr("langchain_llm_router.data.embeddings._PART", 3)
    texts = [f"word {i}" for i in range(10)]
    lexical = LexicalEmbeddings(width=64)
    np.testing.assert_allclose(
        lexical.embed_sparse(texts).toarray(), lexical.embed_array(texts), atol=1e-6
    )


def test_similar_wording_is_similar():
    a, b, c = LexicalEmbeddings().embed_array(
        ["how many apples are left", "how many pears are left", "prove the theorem"]
    )
    assert a @ b > 0.3 > a @ c


def test_rare_words_weigh_more_after_fitting():
    fitted = LexicalEmbeddings().fit(["the cat", "the dog", "the zebra"])
    the, zebra, both = fitted.embed_array(["the", "zebra", "the zebra"])
    assert both @ zebra > both @ the


def test_the_langchain_interface_gives_the_same_numbers():
    lexical = LexicalEmbeddings(width=32)
    np.testing.assert_allclose(lexical.embed_query("a b"), lexical.embed_array(["a b"])[0])


def test_an_embedding_that_misbehaves_is_named():
    broken = TableEmbeddings({}, [float("nan"), 1.0])
    with pytest.raises(ValueError, match="TableEmbeddings returned"):
        embed(broken, ["x"])


def test_a_saved_estimator_refuses_the_wrong_embedding(tmp_path):
    table = TableEmbeddings({}, [1.0, 0.0])
    folder = NearestNeighbors(table).fit(make_outcomes()).save(tmp_path / "it")
    with pytest.raises(ArtifactError, match="pass `embeddings=`"):
        NearestNeighbors.load(folder)
    with pytest.raises(ArtifactError, match="LexicalEmbeddings"):
        NearestNeighbors.load(folder, embeddings=LexicalEmbeddings())
    wider = TableEmbeddings({}, [1.0, 0.0, 0.0])
    loaded = NearestNeighbors.load(folder, embeddings=wider)
    with pytest.raises(ValueError, match="dimension 3"):
        loaded.predict(["x"])


def test_a_lexical_description_with_a_wrong_idf_is_refused():
    described = {"class": "LexicalEmbeddings", "model": None, "width": 8, "n_words": 2}
    with pytest.raises(ArtifactError, match="idf has shape"):
        restore_embeddings(described, None, np.ones(4, dtype=np.float32))
