"""What a damaged manifest or half a character must not do to an embedding."""

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data.embeddings import (
    LexicalEmbeddings,
    describe_embeddings,
    embed,
    restore_embeddings,
)
from langchain_llm_router.types.errors import ArtifactError


def test_an_enormous_width_is_refused_before_it_takes_memory():
    fitted = LexicalEmbeddings(width=64).fit(["a"])
    described = {**describe_embeddings(fitted, 64), "width": 10**12}
    with pytest.raises(ArtifactError, match=r"shape \(64,\), expected \(1000000000000,\)"):
        restore_embeddings(described, None, fitted.idf_)


def test_longer_word_groups_than_a_text_has_take_no_time():
    assert np.isfinite(LexicalEmbeddings(n_words=10**12).embed_array(["What is 2 + 2?"])).all()


class Strict(Embeddings):
    """An embedding that refuses half a character, as tokenizers do."""

    def embed_documents(self, texts):
        return [[float(len(text.encode())), 1.0] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


@pytest.mark.parametrize("embeddings", [LexicalEmbeddings(), Strict()])
def test_half_a_character_can_be_embedded(embeddings):
    assert np.isfinite(embed(embeddings, ["half \ud83d of a character"])).all()
