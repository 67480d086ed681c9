"""From text to vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.data.embeddings import LexicalEmbeddings, embed, restore_embeddings
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import TableEmbeddings, make_outcomes


@given(st.lists(st.text(max_size=40), max_size=5))
def test_lexical_vectors_have_length_one_or_are_zero(texts):
    vectors = LexicalEmbeddings(width=64).embed_array(texts)
    norms = np.linalg.norm(vectors, axis=1)
    assert vectors.shape == (len(texts), 64)
    assert np.all(np.isclose(norms, 1, atol=1e-5) | (norms == 0))


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
