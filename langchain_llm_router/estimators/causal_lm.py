"""A causal language model that grades the answers to come: RouteLLM's strongest router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators.training_loop import Lesson
from langchain_llm_router.estimators.transformer import TransformerEstimator, padded
from langchain_llm_router.types.arrays import Floats, Indices
from langchain_llm_router.types.errors import import_extra

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = import_extra("torch", "torch")
    nn = torch.nn

__all__ = [
    "CausalLMClassifier",
    "grade_shares",
]

_GRADES = np.arange(1, 6)
_NEW_TOKENS = [f"[[{grade}]]" for grade in _GRADES]

_SYSTEM = (
    "Predict how an expert would rate the answer of {candidate} to the question below: correct, "
    "helpful, complete and clear. Think of what the question demands. Ratings go from 1 "
    "(irrelevant or wrong) over 3 (partly right) to 5 (excellent). Give the rating only."
)
_USER = "Question:\n{query}"
_ASSISTANT = "Rating: "
_WEAK = "a small language model"
_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(eq=False)
class CausalLMClassifier(TransformerEstimator):
    """A causal language model fine-tuned to name the grade, 1 to 5, of an answer to come.

    The softmax over the logits of the five grades, after the prompt, is read; nothing is
    generated. Training is cross-entropy against the measured quality on the same five grades;
    a quality between two grades is shared between them.

    Args:
        pretrained: Folder or hub name of a causal language model, instruction-tuned or not.
        max_length: Longer prompts are cut to this many tokens, within the query.
        rate: `"every"` rates each candidate, named in the prompt, and reads the mean grade.
            `"weak"` is RouteLLM's: of two candidates only the first, weak one is rated; its
            quality is P(grade >= 4) and the strong one's is 1 − P(grade >= 4).
        score_tokens: `"new"` appends five tokens to the vocabulary, as RouteLLM does; `"digits"`
            uses the tokens for 1 to 5 that are there.
        training: How it is trained.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.2 (causal LLM classifier).
        Deviations: the grades are read directly after the prompt; N candidates.
    """

    _auto_class: ClassVar[str] = "AutoModelForCausalLM"

    pretrained: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    max_length: int = 2048
    rate: Literal["every", "weak"] = "every"
    score_tokens: Literal["new", "digits"] = "new"

    def _fit(self, data: Outcomes) -> None:
        if self.rate == "weak" and len(data.candidates) != 2:
            msg = (
                f"`rate='weak'` needs a weak and a strong candidate, got {list(data.candidates)}: "
                "select two, or use `rate='every'`."
            )
            raise ValueError(msg)
        self._start()
        names = self._rated
        prompts = [self._prompts(data.queries, name) for name in names]
        tokens = [prompts[j][i] for i in range(len(data)) for j in range(len(names))]
        quality = data.quality[:, : len(names)].reshape(-1)
        target = torch.from_numpy(grade_shares(quality).astype(np.float32)).to(self._device)

        def loss(rows: Indices) -> torch.Tensor:
            logits = self._forward([tokens[r] for r in rows])
            wanted = target[torch.from_numpy(rows).to(target.device)]
            return nn.functional.cross_entropy(logits, wanted, reduction="none")

        lesson = Lesson(
            self.network_,
            loss,
            groups=[query for query in data.queries for _ in names],
            lengths=np.array([len(row) for row in tokens]),
            fingerprint=data_hash(self.data_hash_, self._params()),
        )
        self._train(lesson, self.training)

    def _predict(self, queries: Sequence[str]) -> Floats:
        columns = []
        for name in self._rated:
            logits = self._in_batches(self._prompts(queries, name), len(_GRADES))
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares = weights / weights.sum(axis=1, keepdims=True)
            if self.rate == "weak":
                good = shares[:, 3:].sum(axis=1)
                columns += [good, 1 - good]
            else:
                columns.append(shares @ ((_GRADES - 1) / 4))
        return np.stack(columns, axis=1)

    @property
    def _rated(self) -> list[str]:
        return [_WEAK] if self.rate == "weak" else list(self.candidates_)

    def _prompts(self, queries: Sequence[str], candidate: str) -> list[list[int]]:
        """Prompts as tokens; a long query loses its end, never the words around it."""
        before, after = self._frame(candidate)
        room = self._max_tokens - len(before) - len(after)
        if room < 1:
            msg = (
                f"`max_length` is {self.max_length!r}, but the prompt around the query alone has "
                f"{len(before) + len(after)} tokens: raise it."
            )
            raise ValueError(msg)
        rows = self.tokenizer_(list(queries), add_special_tokens=False)["input_ids"]
        return [[*before, *row[:room], *after] for row in rows]

    def _frame(self, candidate: str) -> tuple[list[int], list[int]]:
        """The text before and after the query, in the model's chat template if it has one."""
        system, user = _SYSTEM.format(candidate=candidate), _USER.format(query=_MARK)
        chat = getattr(self.tokenizer_, "chat_template", None) is not None
        if chat:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            text = self.tokenizer_.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        else:
            text = f"{system}\n\n{user}\n\n"
        before, _, after = (text + _ASSISTANT).partition(_MARK)
        # A template writes its special tokens itself; without one the tokenizer adds the first.
        start = self.tokenizer_(before, add_special_tokens=not chat)["input_ids"]
        return list(start), self._ids(after)

    def _build(self, model: nn.Module) -> nn.Module:
        if self.score_tokens == "digits":
            return _Grader(model, self._digit_ids())
        pieces = [self._ids(token) for token in _NEW_TOKENS]
        self.tokenizer_.add_tokens(_NEW_TOKENS)
        if model.get_input_embeddings().weight.shape[0] < len(self.tokenizer_):
            model.resize_token_embeddings(len(self.tokenizer_), mean_resizing=False)
        ids = self.tokenizer_.convert_tokens_to_ids(_NEW_TOKENS)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            with torch.no_grad():
                # A new token starts as the mean of what used to spell it.
                layer.weight[ids] = torch.stack([layer.weight[row].mean(dim=0) for row in pieces])
        return _Grader(model, ids)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer_(text, add_special_tokens=False)["input_ids"])

    def _digit_ids(self) -> list[int]:
        ids = [self._ids(str(grade))[-1] for grade in _GRADES]
        read = [self.tokenizer_.decode([token]).strip() for token in ids]
        if read != [str(grade) for grade in _GRADES]:
            msg = (
                f"{self.pretrained!r} has no token for each of 1 to 5 (found {read}): "
                "use `score_tokens='new'`."
            )
            raise ValueError(msg)
        return ids

    def _forward(self, tokens: Sequence[Sequence[int]], *columns: Any) -> torch.Tensor:
        logits: torch.Tensor = self.network_(*padded(tokens, self._device))
        return logits


class _Grader(nn.Module):
    """Logits of the five grades after the last token, without those of the whole vocabulary."""

    def __init__(self, model: nn.Module, score_ids: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("score_ids", torch.tensor(score_ids), persistent=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # Padding stands on the right, where causal attention does not look.
        inner = self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        last = inner.last_hidden_state[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
        head = self.model.get_output_embeddings()
        bias = None if head.bias is None else head.bias[self.score_ids]
        return nn.functional.linear(last, head.weight[self.score_ids], bias)


def grade_shares(quality: Floats) -> Floats:
    """Quality in [0, 1] as probabilities of the grades 1 to 5, of shape (n, 5), with that mean.

    A quality between two grades is shared between them: 0.6 is 0.6 of a 3 and 0.4 of a 4.
    """
    place = np.asarray(quality, dtype=np.float64) * (len(_GRADES) - 1)
    distance = np.abs(place[:, None] - np.arange(len(_GRADES)))
    shares: Floats = np.clip(1 - distance, 0, 1)
    return shares
