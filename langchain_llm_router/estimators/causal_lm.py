"""A causal language model that predicts grades of answers: RouteLLM's strongest router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators.training_loop import TrainingJob
from langchain_llm_router.estimators.transformer import TransformerEstimator, pad_tokens
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
    """A causal language model fine-tuned to predict the grade, 1 to 5, of a candidate's answer.

    The prediction is the softmax over the logits of the five grades after the prompt; no text is
    generated. The training loss is the cross-entropy against the measured quality as probabilities
    of the five grades (`grade_shares`).

    Args:
        pretrained: Folder or hub name of a causal language model, instruction-tuned or not.
        max_length: Maximum number of tokens of a prompt; longer queries are cut at the end.
        rate: `"every"` rates each candidate, whose name is in the prompt, by the mean grade.
            `"weak"` is RouteLLM's method for two candidates: only the first candidate, the weak
            one, is rated. Its quality is P(grade >= 4), and that of the strong one
            1 − P(grade >= 4).
        score_tokens: `"new"` adds five tokens to the vocabulary, as RouteLLM does; `"digits"`
            uses the existing tokens for 1 to 5.
        training: The training settings.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.2 (causal LLM classifier).
        Deviations: the grade follows the prompt directly; more than two candidates.
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
        self._load_pretrained()
        names = self._rated_names
        prompts = [self._prompts(data.queries, name) for name in names]
        tokens = [prompts[j][i] for i in range(len(data)) for j in range(len(names))]
        quality = data.quality[:, : len(names)].reshape(-1)
        target = torch.from_numpy(grade_shares(quality).astype(np.float32)).to(self._device)

        def loss(rows: Indices) -> torch.Tensor:
            logits = self._forward([tokens[r] for r in rows])
            wanted = target[torch.from_numpy(rows).to(target.device)]
            return nn.functional.cross_entropy(logits, wanted, reduction="none")

        job = TrainingJob(
            self.network_,
            loss,
            groups=[query for query in data.queries for _ in names],
            lengths=np.array([len(row) for row in tokens]),
            fingerprint=data_hash(self.data_hash_, self._params()),
        )
        self._train(job, self.training)

    def _predict(self, queries: Sequence[str]) -> Floats:
        columns = []
        for name in self._rated_names:
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
    def _rated_names(self) -> list[str]:
        return [_WEAK] if self.rate == "weak" else list(self.candidates_)

    def _prompts(self, queries: Sequence[str], candidate: str) -> list[list[int]]:
        """Tokenize the prompts; of a prompt that is too long, the end of the query is cut."""
        before, after = self._prompt_parts(candidate)
        room = self._max_tokens - len(before) - len(after)
        if room < 1:
            msg = (
                f"The prompt has {len(before) + len(after)} tokens without the query, but at most "
                f"{self._max_tokens} fit: raise `max_length` ({self.max_length!r}), or use a model "
                "with a longer context."
            )
            raise ValueError(msg)
        rows = self.tokenizer_(list(queries), add_special_tokens=False)["input_ids"]
        return [[*before, *row[:room], *after] for row in rows]

    def _prompt_parts(self, candidate: str) -> tuple[list[int], list[int]]:
        """Tokenize the prompt before and after the query, in the chat template if there is one."""
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
        # A chat template contains the special tokens; without one the tokenizer adds them.
        start = self.tokenizer_(before, add_special_tokens=not chat)["input_ids"]
        return list(start), self._token_ids(after)

    def _build(self, model: nn.Module) -> nn.Module:
        if self.score_tokens == "digits":
            return _Grader(model, self._digit_ids())
        pieces = [self._token_ids(token) for token in _NEW_TOKENS]
        self.tokenizer_.add_tokens(_NEW_TOKENS)
        if model.get_input_embeddings().weight.shape[0] < len(self.tokenizer_):
            model.resize_token_embeddings(len(self.tokenizer_), mean_resizing=False)
        ids = self.tokenizer_.convert_tokens_to_ids(_NEW_TOKENS)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            with torch.no_grad():
                # A new token starts as the mean of the tokens that its text had before.
                layer.weight[ids] = torch.stack([layer.weight[row].mean(dim=0) for row in pieces])
        return _Grader(model, ids)

    def _token_ids(self, text: str) -> list[int]:
        return list(self.tokenizer_(text, add_special_tokens=False)["input_ids"])

    def _digit_ids(self) -> list[int]:
        ids = [self._token_ids(str(grade))[-1] for grade in _GRADES]
        read = [self.tokenizer_.decode([token]).strip() for token in ids]
        if read != [str(grade) for grade in _GRADES]:
            msg = (
                f"{self.pretrained!r} needs one token for each of 1 to 5, but has {read}: "
                "use `score_tokens='new'`."
            )
            raise ValueError(msg)
        return ids

    def _forward(self, tokens: Sequence[Sequence[int]], *columns: Any) -> torch.Tensor:
        logits: torch.Tensor = self.network_(*pad_tokens(tokens, self._device))
        return logits


class _Grader(nn.Module):
    """A network that returns only the logits of the five grades after the last token."""

    def __init__(self, model: nn.Module, score_ids: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("score_ids", torch.tensor(score_ids), persistent=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # Padding is on the right, where causal attention ignores it.
        inner = self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        last = inner.last_hidden_state[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
        head = self.model.get_output_embeddings()
        bias = None if head.bias is None else head.bias[self.score_ids]
        return nn.functional.linear(last, head.weight[self.score_ids], bias)


def grade_shares(quality: Floats) -> Floats:
    """Convert quality in [0, 1] to probabilities of the grades 1 to 5, of shape (n, 5).

    The expected grade, scaled to [0, 1], is the quality: quality 0.35 becomes probability 0.6 for
    grade 2 and 0.4 for grade 3.
    """
    place = np.asarray(quality, dtype=np.float64) * (len(_GRADES) - 1)
    distance = np.abs(place[:, None] - np.arange(len(_GRADES)))
    shares: Floats = np.clip(1 - distance, 0, 1)
    return shares
