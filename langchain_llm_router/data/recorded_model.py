"""A chat model that replays recorded answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_llm_router.types.arguments import refuse_unknown
from langchain_llm_router.types.messages import question_of

__all__ = ["RecordedChatModel"]


class RecordedChatModel(BaseChatModel):
    """A chat model that replays recorded answers, with the recorded token counts as usage.

    Args:
        answers: Answers by query.
        usage: (input tokens, output tokens) by query; for a missing query, words are counted.
        mean_logprobs: Mean log-probability of the answer's tokens by query, which is reported for
            the answer as one token.
        model: Name of the model in `response_metadata`.

    Example:
        >>> RecordedChatModel({"2 + 2?": "4"}).invoke("2 + 2?").content
        '4'
    """

    answers: Mapping[str, str]
    usage: Mapping[str, tuple[int, int]] = {}
    mean_logprobs: Mapping[str, float] = {}
    model: str = "recorded"

    def __init__(self, answers: Mapping[str, str], **kwargs: Any) -> None:
        refuse_unknown(kwargs, type(self).model_fields, type(self).__name__)
        super().__init__(**{"answers": answers, **kwargs})

    @property
    def _llm_type(self) -> str:
        return "recorded"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        message = self._answer(messages)
        words = str(message.content).split(" ")
        for i, word in enumerate(words):
            last = i == len(words) - 1
            chunk = AIMessageChunk(
                content=word if last else f"{word} ",
                usage_metadata=message.usage_metadata if last else None,
                response_metadata=message.response_metadata if last else {},
                chunk_position="last" if last else None,
            )
            yield ChatGenerationChunk(message=chunk)

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        question = question_of(messages)
        if question not in self.answers:
            msg = (
                f"The recorded model {self.model!r} has no answer to {question[:80]!r}: add it to "
                "`answers`."
            )
            raise KeyError(msg)
        text = self.answers[question]
        n_in, n_out = self.usage.get(question, (len(question.split()), len(text.split())))
        usage = UsageMetadata(input_tokens=n_in, output_tokens=n_out, total_tokens=n_in + n_out)
        metadata: dict[str, Any] = {"model_name": self.model, "model_provider": "recorded"}
        if question in self.mean_logprobs:
            token = {"token": text, "logprob": self.mean_logprobs[question]}
            metadata["logprobs"] = {"content": [token]}
        return AIMessage(text, usage_metadata=usage, response_metadata=metadata)
