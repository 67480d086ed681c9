"""The added field is taken out of an answer, and text that cannot be read stays as it is."""

from langchain_core.messages import AIMessage

from langchain_llm_router.calls.report_schemas import extend_schema
from langchain_llm_router.verification import SelfReported

CITY = {"title": "City", "type": "object", "properties": {"name": {"type": "string"}}}


def test_text_that_is_nested_too_deeply_stays_as_it_is():
    report = SelfReported().report_of("small")
    extended = extend_schema(CITY, report)
    deep = '{"confidence": ' + '{"a": ' * 100_000 + "}"
    output = {"raw": AIMessage(deep), "parsed": None, "parsing_error": ValueError("deep")}
    value, rest = extended.split(output)
    assert (value, rest["raw"].content) == (None, deep)
