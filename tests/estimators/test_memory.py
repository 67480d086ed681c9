"""Where past queries are kept: exact, approximate on disk, and in vector stores."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_llm_router.data import Battles, Outcomes
from langchain_llm_router.data.embeddings import embed
from langchain_llm_router.estimators import (
    ApproximateMemory,
    BradleyTerry,
    ExactMemory,
    NearestNeighbors,
    StoreMemory,
)
from langchain_llm_router.types.errors import ArtifactError, MissingExtraError
from tests.support.fakes import TableEmbeddings, make_outcomes

needs_ann = pytest.mark.skipif(find_spec("usearch") is None, reason="the extra `ann` is absent")

WIDTH = 32


def vectors_of(n, seed=0, n_topics=20):
    """Points around topics, as unit vectors."""
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(99).standard_normal((n_topics, WIDTH))
    points = topics[rng.integers(n_topics, size=n)] + 0.5 * rng.standard_normal((n, WIDTH))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def texts_of(vectors):
    return [f"text {i}" for i in range(len(vectors))]


def table_of(*tables):
    return TableEmbeddings({t: v.tolist() for table in tables for t, v in table.items()})


def make_world(n=300, n_queries=12):
    """An embedding that knows n stored and some new texts, and outcomes of the stored."""
    stored, new = vectors_of(n), vectors_of(n_queries, seed=1)
    known = dict(zip(texts_of(stored), stored, strict=True))
    fresh = {f"new {i}": v for i, v in enumerate(new)}
    quality = np.random.default_rng(2).random((n, 2))
    return table_of(known, fresh), Outcomes(list(known), ("weak", "strong"), quality), list(fresh)


def test_many_texts_are_embedded_part_by_part_in_order(monkeypatch):
    monkeypatch.setattr("langchain_llm_router.data.embeddings._PART", 3)
    table = {str(i): [float(i), 1.0] for i in range(10)}
    asked = []

    class Counting(TableEmbeddings):
        def embed_documents(self, texts):
            asked.append(len(texts))
            return super().embed_documents(texts)

    vectors = embed(Counting(table), list(table))
    assert asked == [3, 3, 3, 1]
    expected = np.array(list(table.values()))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    assert vectors.flags.c_contiguous


def test_the_exact_memory_finds_what_sorting_finds():
    stored, new = vectors_of(200), vectors_of(5, seed=1)
    rows, cosine = ExactMemory().fit(stored, texts_of(stored)).search(new, texts_of(new), 7)
    for i in range(5):
        true = stored @ new[i]
        assert set(rows[i]) == set(np.argsort(-true)[:7])
        np.testing.assert_allclose(cosine[i], true[rows[i]], atol=1e-6)


def test_asking_for_more_than_there_is_gives_all():
    stored = vectors_of(3)
    rows, _ = ExactMemory().fit(stored, texts_of(stored)).search(stored, texts_of(stored), 9)
    assert rows.shape == (3, 3)


def test_fitting_an_estimator_leaves_the_given_memory_alone():
    memory = ExactMemory()
    NearestNeighbors(memory=memory).fit(make_outcomes())
    assert not hasattr(memory, "vectors_")


@needs_ann
def test_the_approximate_memory_finds_nearly_all_of_the_nearest():
    stored, new = vectors_of(3000), vectors_of(50, seed=1)
    true, _ = ExactMemory().fit(stored, texts_of(stored)).search(new, texts_of(new), 20)
    memory = ApproximateMemory(n_threads=1).fit(stored, texts_of(stored))
    rows, cosine = memory.search(new, texts_of(new), 20)
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(true, rows, strict=True)])
    assert recall >= 0.98
    np.testing.assert_allclose(cosine, np.einsum("qkd,qd->qk", stored[rows], new), atol=2e-3)


@needs_ann
def test_an_estimator_over_an_approximate_memory_agrees_with_the_exact_one():
    embeddings, outcomes, queries = make_world()
    exact = NearestNeighbors(embeddings, n_neighbors=20).fit(outcomes)
    memory = ApproximateMemory(n_threads=1)
    approximate = NearestNeighbors(embeddings, n_neighbors=20, memory=memory).fit(outcomes)
    np.testing.assert_allclose(approximate.predict(queries), exact.predict(queries), atol=5e-3)
    exact = BradleyTerry(embeddings, top_k=20).fit(outcomes)
    approximate = BradleyTerry(embeddings, top_k=20, memory=memory).fit(outcomes)
    np.testing.assert_allclose(approximate.predict(queries), exact.predict(queries), atol=5e-3)
    chosen = BradleyTerry(embeddings, top_k="loo", memory=memory).fit(outcomes)
    assert chosen.top_k_ is not None


@needs_ann
def test_a_loaded_approximate_memory_is_mapped_from_disk_and_predicts_the_same(tmp_path):
    embeddings, outcomes, queries = make_world()
    memory = ApproximateMemory(n_threads=1, expansion_search=99)
    fitted = NearestNeighbors(embeddings, memory=memory).fit(outcomes)
    folder = fitted.save(tmp_path / "it")
    loaded = NearestNeighbors.load(folder, embeddings=embeddings)
    assert isinstance(loaded.memory_.vectors_, np.memmap)
    assert loaded.memory_.index_.expansion_search == 99
    np.testing.assert_allclose(loaded.predict(queries), fitted.predict(queries), atol=1e-6)
    again = NearestNeighbors.load(loaded.save(tmp_path / "other"), embeddings=embeddings)
    np.testing.assert_allclose(again.predict(queries), fitted.predict(queries), atol=1e-6)
    NearestNeighbors.load(loaded.save(folder), embeddings=embeddings)
    assert isinstance(loaded.fit(outcomes).memory_, ApproximateMemory)


@needs_ann
def test_it_travels_to_worker_processes():
    embeddings, outcomes, queries = make_world()
    fitted = NearestNeighbors(embeddings, memory=ApproximateMemory(n_threads=1)).fit(outcomes)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(again.predict(queries), fitted.predict(queries), atol=1e-6)


@needs_ann
def test_many_threads_may_search_at_once():
    stored, new = vectors_of(2000), vectors_of(100, seed=1)
    memory = ApproximateMemory(n_threads=1).fit(stored, texts_of(stored))

    def search(vector):
        return memory.search(vector[None], [""], 10)[0].tolist()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(search, new)) == [search(vector) for vector in new]


@needs_ann
@pytest.mark.parametrize("name", ["memory_vectors.npy", "memory_index.usearch"])
def test_a_corrupted_file_is_refused(tmp_path, name):
    embeddings, outcomes, _ = make_world(50)
    fitted = NearestNeighbors(embeddings, memory=ApproximateMemory(n_threads=1)).fit(outcomes)
    file = fitted.save(tmp_path / "it") / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=name):
        NearestNeighbors.load(tmp_path / "it", embeddings=embeddings)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    with pytest.raises(MissingExtraError, match=r"langchain-llm-router\[ann\]"):
        ApproximateMemory().fit(vectors_of(5), texts_of(vectors_of(5)))


@pytest.mark.parametrize(
    "arguments",
    [{"connectivity": 1}, {"expansion_add": 0}, {"expansion_search": 0}, {"oversampling": 0.5}],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        ApproximateMemory(**arguments)


def test_a_vector_store_gives_what_the_exact_memory_gives(tmp_path):
    embeddings, outcomes, queries = make_world()
    exact = NearestNeighbors(embeddings, n_neighbors=20).fit(outcomes)
    store = StoreMemory(InMemoryVectorStore(embeddings))
    stored = NearestNeighbors(embeddings, n_neighbors=20, memory=store).fit(outcomes)
    assert stored.memory_.score_ == "cosine"
    np.testing.assert_allclose(stored.predict(queries), exact.predict(queries), atol=1e-5)
    folder = stored.save(tmp_path / "it")
    with pytest.raises(ArtifactError, match=r"pass `memory=StoreMemory"):
        NearestNeighbors.load(folder, embeddings=embeddings)
    with pytest.raises(ArtifactError, match="got ExactMemory"):
        NearestNeighbors.load(folder, embeddings=embeddings, memory=ExactMemory())
    loaded = NearestNeighbors.load(folder, embeddings=embeddings, memory=store)
    np.testing.assert_allclose(loaded.predict(queries), exact.predict(queries), atol=1e-5)


class OtherScores(InMemoryVectorStore):
    """A store with a score of its own, which takes texts only, as many do."""

    score = staticmethod(lambda cosine: cosine)

    similarity_search_with_score_by_vector = None

    def similarity_search_with_score(self, query, k=4, **kwargs):
        found = self._similarity_search_with_score_by_vector(self.embedding.embed_query(query), k)
        return [(document, self.score(cosine)) for document, cosine, _ in found]


@pytest.mark.parametrize(
    ("kind", "score"),
    [
        ("cosine distance", lambda c: 1 - c),
        ("squared distance", lambda c: 2 - 2 * c),
        ("distance", lambda c: max(2 - 2 * c, 0) ** 0.5),
        ("relevance", lambda c: (1 + c) / 2),
    ],
)
def test_what_a_stores_score_means_is_measured(kind, score):
    embeddings, outcomes, queries = make_world()
    store = OtherScores(embeddings)
    store.score = score
    fitted = BradleyTerry(embeddings, top_k=10, memory=StoreMemory(store)).fit(outcomes)
    assert fitted.memory_.score_ == kind
    exact = BradleyTerry(embeddings, top_k=10).fit(outcomes)
    np.testing.assert_allclose(fitted.predict(queries), exact.predict(queries), atol=1e-3)


def test_a_store_with_another_embedding_is_refused():
    embeddings, outcomes, _ = make_world()
    other = TableEmbeddings({}, fallback=[1.0] + [0.0] * (WIDTH - 1))
    with pytest.raises(ValueError, match="in the estimator's embedding"):
        NearestNeighbors(embeddings, memory=StoreMemory(InMemoryVectorStore(other))).fit(outcomes)


def test_a_shared_collection_is_refused():
    embeddings, outcomes, queries = make_world()
    store = InMemoryVectorStore(embeddings)
    store.add_texts(queries)
    fitted = NearestNeighbors(embeddings, memory=StoreMemory(store))
    with pytest.raises(ValueError, match="one collection per estimator"):
        fitted.fit(outcomes).predict(queries)


def test_an_emptied_store_is_noticed():
    embeddings, outcomes, queries = make_world()
    store = InMemoryVectorStore(embeddings)
    fitted = NearestNeighbors(embeddings, memory=StoreMemory(store)).fit(outcomes)
    store.delete(list(store.store))
    with pytest.raises(ValueError, match="The store returned no documents"):
        fitted.predict(queries)


def test_refitting_a_store_forgets_the_earlier_rows():
    embeddings, outcomes, _ = make_world()
    store = InMemoryVectorStore(embeddings)
    memory = StoreMemory(store, batch_size=7)
    estimator = NearestNeighbors(embeddings, memory=memory).fit(outcomes)
    assert len(store.store) == 300
    estimator.fit(outcomes.take(range(40)))
    assert len(store.store) == 40


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A real PostgreSQL with pgvector, on a Unix socket."""
    pgserver = pytest.importorskip("pgserver", reason="PostgreSQL (`pgserver`) is not installed")
    pytest.importorskip("langchain_postgres", reason="`langchain-postgres` is not installed")
    server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    server.psql("CREATE EXTENSION IF NOT EXISTS vector;")
    yield server
    server.cleanup()


def test_pgvector_remembers_what_the_exact_memory_remembers(postgres, tmp_path):
    from langchain_postgres import PGVector

    embeddings, outcomes, queries = make_world()
    uri = postgres.get_uri().replace("postgresql://", "postgresql+psycopg://")
    store = PGVector(embeddings, connection=uri, collection_name="router", use_jsonb=True)
    memory = StoreMemory(store)
    stored = NearestNeighbors(embeddings, n_neighbors=20, memory=memory).fit(outcomes)
    assert stored.memory_.score_ == "cosine distance"
    exact = NearestNeighbors(embeddings, n_neighbors=20).fit(outcomes)
    np.testing.assert_allclose(stored.predict(queries), exact.predict(queries), atol=1e-4)
    folder = stored.save(tmp_path / "it")
    loaded = NearestNeighbors.load(folder, embeddings=embeddings, memory=memory)
    np.testing.assert_allclose(loaded.predict(queries), exact.predict(queries), atol=1e-4)
    battles = Battles(outcomes.queries, ["a"] * 300, ["b"] * 300, [1.0, 0.0, 0.5] * 100)
    ranked = BradleyTerry(embeddings, top_k=20, memory=memory).fit(battles)
    same = BradleyTerry(embeddings, top_k=20).fit(battles)
    np.testing.assert_allclose(ranked.predict(queries), same.predict(queries), atol=1e-4)
    assert len(store.similarity_search("new 0", k=1000)) == 300
    loaded.memory_.forget()
    assert store.similarity_search("new 0", k=1000) == []
    store._engine.dispose()


def test_vectors_that_hold_no_numbers_are_refused():
    memory = ExactMemory().fit(np.eye(2, dtype=np.float32), ["a", "b"])
    with pytest.raises(ValueError, match="hold <U1, expected decimal numbers"):
        memory._check_shape(np.full((2, 2), "a"))
