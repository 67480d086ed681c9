"""Nothing that a user says is ignored: one list of fields, heard in every shape of a router."""

import re
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from langchain_core.messages import AIMessage
from langchain_core.rate_limiters import InMemoryRateLimiter

import langchain_llm_router.router.parts as parts_module
from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, routing_edge
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.collect.graders import make_grader
from langchain_llm_router.live.live import Live
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from langchain_llm_router.router.agent_runs import AgentRules
from langchain_llm_router.router.fields import (
    _KINDS,
    DecisionArguments,
    RouterArguments,
    RouterFields,
    _kinds_of,
)
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.router.shadow import Shadow
from langchain_llm_router.types.options import RoutingOptions
from langchain_llm_router.verification import SelfEvaluator
from tests.support.fakes import JudgeModel, ScriptedModel


def pool():
    return [
        Candidate("small", JudgeModel("a draft", verdicts=["no"]), Price(1, 2)),
        Candidate("large", ScriptedModel("large says"), Price(10, 20)),
    ]


def chat(**fields):
    return ChatLLMRouter(candidates=pool(), **{"policy": Always("large"), **fields})


def graph(**fields):
    return create_cascade(pool(), **{"policy": Always("large"), **fields})


def edge(**fields):
    return routing_edge(Always("large"), pool(), **fields)


shapes = pytest.mark.parametrize("make", [chat, graph, edge])
whole = pytest.mark.parametrize("make", [chat, graph])


def test_the_arguments_of_a_graph_are_the_fields_of_a_router():
    hints = get_type_hints(RouterArguments, vars(parts_module))
    fields = dict(RouterFields.model_fields)
    del fields["candidates"]
    assert hints.keys() == fields.keys()
    for name, field in fields.items():
        assert hints[name] == field.annotation, name
    assert set(DecisionArguments.__annotations__) < set(hints)
    assert set(RouterFields.model_fields) <= set(ChatLLMRouter.model_fields)


@shapes
def test_an_unknown_argument_is_refused_and_the_nearest_one_named(make):
    with pytest.raises(TypeError, match=r"no argument `turn`\. Did you mean `turns`"):
        make(turn=3)


@whole
def test_a_misspelt_budget_does_not_spend_without_a_limit(make):
    with pytest.raises(TypeError, match=r"`budget`\. Did you mean `budgets`"):
        make(budget=Budgets([Budget(0.0)]))


@whole
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy", "large"),
        ("verifier", 0.7),
        ("estimator", object()),
        ("budgets", 5.0),
        ("live", True),
        ("log", "log.jsonl"),
        ("shadow", Always("large")),
        ("lengths", 100),
    ],
)
def test_a_part_of_the_wrong_kind_is_refused_at_once(make, field, value):
    with pytest.raises(TypeError, match=f"`{field}` must be"):
        make(**{field: value})


@whole
@pytest.mark.parametrize("field", _KINDS)
def test_a_part_of_the_wrong_kind_is_told_all_that_is_allowed(make, field):
    kinds = _kinds_of(field)
    with pytest.raises(TypeError, match=rf"^`{field}` must be .* or None, got <object") as told:
        make(**{field: object()})
    for kind in kinds:
        assert f" {kind.__name__}" in str(told.value)


@whole
def test_every_kind_of_shadow_that_is_named_is_accepted(make, tmp_path):
    router = chat()
    shadows = {
        "Shadow": Shadow(Always("small")),
        "ChatLLMRouter": router,
        "SavedRouter": SavedRouter(("small", "large"), Always("small")),
        "None": None,
    }
    names = {kind.__name__ for kind in _kinds_of("shadow")} | {"None"}
    assert shadows.keys() == names
    for shadow in shadows.values():
        make(shadow=shadow)
    # It has a policy, but not one of its own.
    make(shadow=ChatLLMRouter(candidates=pool()))


NAMED = [
    (RoutingOptions.parse, "value"),
    (make_grader, "grader"),
    (AgentRules, "hand_over"),
    (AgentRules, "prepare"),
    (AgentRules, "restore"),
]


@pytest.mark.parametrize(("function", "argument"), NAMED)
def test_an_error_about_an_argument_names_all_that_its_annotation_allows(function, argument):
    with pytest.raises(TypeError) as told:
        function(**{argument: object()})
    hints = get_type_hints(function.__init__ if isinstance(function, type) else function)
    parts = get_args(hints[argument]) or (hints[argument],)
    words = {str: "string|text|one of", NoneType: "None", Mapping: "mapping", Callable: "function"}
    for part in parts:
        kind = get_origin(part) or part
        choices = get_args(part) if kind is Literal else [words.get(kind) or kind.__name__]
        for choice in choices:
            assert re.search(choice, str(told.value)), choice


@pytest.mark.parametrize("candidates", ["openai:gpt-4o", 3, {"small": 1}])
def test_candidates_that_are_no_sequence_are_refused(candidates):
    for make in (ChatLLMRouter, create_cascade):
        with pytest.raises(TypeError, match="`candidates` must be a sequence"):
            make(candidates=candidates, policy=Always("large"))


@whole
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("turns", 0),
        ("commit_at", 1.5),
        ("temperature", -1),
        ("max_tokens", 0),
        ("timeout", 0),
        ("max_retries", -1),
        ("sticky", "sometimes"),
        ("streaming_mode", "now"),
    ],
)
def test_a_value_out_of_its_range_is_refused_at_once(make, field, value):
    with pytest.raises(ValueError, match=field):
        make(**{field: value})


@whole
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("api_key", "sk-123"),
        ("base_url", "http://localhost"),
        ("model", "gpt-4o"),
        ("rate_limiter", InMemoryRateLimiter()),
        ("cache", True),
    ],
)
def test_what_belongs_to_the_candidates_is_refused_with_the_reason(make, field, value):
    with pytest.raises(ValueError, match=f"`{field}` cannot be set on a router: .*"):
        make(**{field: value})


def test_what_cannot_be_honoured_is_refused_after_construction_too():
    router = chat()
    for field, value in (("cache", True), ("rate_limiter", InMemoryRateLimiter())):
        with pytest.raises(ValueError, match=f"`{field}` cannot be set"):
            setattr(router, field, value)
        assert not getattr(router, field)
    with pytest.raises(TypeError, match="`budgets` must be"):
        router.budgets = 3.0
    with pytest.raises(ValueError, match="`disable_streaming` must be"):
        router.disable_streaming = "sometimes"
    with pytest.raises(ValueError, match="`api_key` cannot be set"):
        router.api_key = "sk-123"
    with pytest.raises(TypeError, match=r"no argument `budget`\. Did you mean `budgets`"):
        router.budget = Budgets([Budget(1.0)])
    assert router.budgets is None
    assert router.invoke("q").content == "large says"


class Noting(ScriptedModel):
    """Keeps the keywords of its calls."""

    kwargs_seen: list = []  # noqa: RUF012 - a field of a pydantic model

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.kwargs_seen.append({**kwargs, "stop": stop})
        return super()._generate(messages, stop, run_manager, **kwargs)


SETTINGS = {"temperature": 0.3, "max_tokens": 7, "stop": ["\n"]}


def test_settings_reach_the_candidate_from_chat_and_graph():
    for shape in ("chat", "graph"):
        model = Noting("hi")
        candidates = [Candidate("large", model, Price(1, 2))]
        if shape == "chat":
            ChatLLMRouter(candidates=candidates, policy=Always("large"), **SETTINGS).invoke("q")
        else:
            built = create_cascade(candidates, policy=Always("large"), **SETTINGS).compile()
            built.invoke({"messages": [("human", "q")]})
        assert model.kwargs_seen[-1] == SETTINGS


def test_settings_set_after_construction_count_and_those_of_a_call_come_first():
    model = Noting("hi")
    router = ChatLLMRouter(candidates=[Candidate("large", model)], policy=Always("large"))
    router.temperature = 0.1
    router.stop = ["!"]
    router.invoke("q")
    assert model.kwargs_seen[-1] == {"temperature": 0.1, "stop": ["!"]}
    router.invoke("q", stop=["?"], temperature=0.9, seed=4)
    assert model.kwargs_seen[-1] == {"temperature": 0.9, "stop": ["?"], "seed": 4}


def test_another_policy_set_after_construction_decides():
    router = chat()
    router.policy = Always("small")
    assert router.invoke("q").content == "a draft"
    with pytest.raises(ValueError, match="Unknown candidate 'medium'"):
        router.policy = Always("medium")
    assert router.invoke("q").content == "a draft"


def test_a_copy_is_told_what_it_does_not_know():
    with pytest.raises(TypeError, match=r"no argument `polcy`\. Did you mean `policy`"):
        chat().model_copy(update={"polcy": Always("small")})
    assert chat().model_copy(update={"policy": Always("small")}).invoke("q").content == "a draft"


class Flaky(ScriptedModel):
    """Fails so many times, then answers."""

    failures: int = 1

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.failures > 0:
            self.failures -= 1
            raise TimeoutError
        return super()._generate(messages, stop, run_manager, **kwargs)


@pytest.mark.parametrize("shape", ["chat", "graph"])
def test_max_retries_asks_the_same_candidate_again(shape):
    def answer(**fields):
        candidates = [Candidate("large", Flaky("hi"), Price(1, 2))]
        if shape == "chat":
            router = ChatLLMRouter(candidates=candidates, policy=Always("large"), **fields)
            return router.invoke("q")
        built = create_cascade(candidates, policy=Always("large"), **fields).compile()
        return built.invoke({"messages": [("human", "q")]})["messages"][-1]

    assert answer(max_retries=1).content == "hi"
    with pytest.raises(TimeoutError):
        answer()


def test_a_timeout_is_kept_and_not_set_twice():
    parts = Parts(RouterFields(candidates=pool(), policy=Always("large"), timeout=2.5))
    assert parts.live is not None
    assert parts.live.resilience.timeout_s == 2.5
    with pytest.raises(ValueError, match="cannot be combined with `live`"):
        chat(timeout=2.5, live=Live())


@pytest.mark.parametrize(("setting", "n_chunks"), [(False, 3), (True, 1), ("tool_calling", 3)])
def test_disable_streaming_gives_whole_answers(setting, n_chunks):
    model = ScriptedModel("one two three")
    router = ChatLLMRouter(
        candidates=[Candidate("large", model)], policy=Always("large"), disable_streaming=setting
    )
    chunks = [chunk for chunk in router.stream("q") if chunk.content]
    assert len(chunks) == n_chunks
    assert "".join(str(chunk.content) for chunk in chunks) == "one two three"


def test_streaming_can_be_disabled_and_enabled_again():
    router = ChatLLMRouter(
        candidates=[Candidate("large", ScriptedModel("one two three"))], policy=Always("large")
    )
    counts = []
    for setting in (True, False, True):
        router.disable_streaming = setting
        counts.append(sum(bool(chunk.content) for chunk in router.stream("q")))
    assert counts == [1, 3, 1]


def test_the_default_policy_is_that_of_the_parts_in_chat_and_graph():
    verifier = SelfEvaluator(n_samples=1)
    assert isinstance(chat(policy=None, verifier=verifier).policy, ConfidenceThreshold)
    built = create_cascade(pool(), verifier=verifier).compile()
    answer = built.invoke({"messages": [("human", "q")]})["messages"][-1]
    assert isinstance(answer, AIMessage)
    with pytest.raises(ValueError, match="predicted quality"):
        ChatLLMRouter(candidates=pool(), policy=Utility()).invoke("q")


def test_a_graph_cannot_commit_to_a_stream():
    with pytest.raises(ValueError, match="use a ChatLLMRouter"):
        graph(streaming_mode="commit")


@pytest.mark.parametrize(
    "text",
    [
        "openai:gpt-5-mini?reasoning_effort=low",
        "mini=openai:gpt-5-mini",
        "openai:tiny@http://user:secret@127.0.0.1:1/v1",
    ],
)
def test_a_model_in_the_form_of_the_command_line_is_not_taken_for_a_name(text):
    for given in (text, Candidate("mini", text)):
        with pytest.raises(ValueError, match=r"'provider:model', got .*parse_candidates") as caught:
            ChatLLMRouter(candidates=[given], policy=Always("mini"))
        assert "secret" not in str(caught.value)
