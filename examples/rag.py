"""Retrieval in LCEL, where the router stands where any chat model stands.

Offline the models answer from a table. With your own keys, change the line marked below.
"""

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_llm_router import Candidate, ChatLLMRouter, Outcomes
from langchain_llm_router.data import RecordedChatModel
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import Threshold

FACTS = [
    "The observatory on the hill opened in 1911 and closes at nine in the evening.",
    "The ferry to the island leaves every forty minutes from pier three.",
    "Bread at the market is cheapest on Thursdays after four.",
]
PROMPT = ChatPromptTemplate.from_template("Context: {context}\nQuestion: {question}")


def recorded(said: dict[str, str]) -> RecordedChatModel:
    """A model that knows these questions with their context."""
    return RecordedChatModel(
        {f"Context: {FACTS[i]}\nQuestion: {q}": a for i, (q, a) in enumerate(said.items())}
    )


QUESTIONS = ["When does the observatory close?", "Which pier does the ferry leave from?"]
# With real keys: small, large = "openai:gpt-4o-mini", "openai:gpt-4o"
small, large = (
    recorded(dict(zip(QUESTIONS, answers, strict=True)))
    for answers in (("At nine.", "Pier three."), ("At 9 p.m.", "From pier three, every 40 min."))
)


def main() -> None:
    store = InMemoryVectorStore(LexicalEmbeddings())
    store.add_documents([Document(fact) for fact in FACTS])
    retriever = store.as_retriever(search_kwargs={"k": 1})

    # Two labelled questions are enough to show the wiring, not to route well.
    labelled = Outcomes(QUESTIONS, ("small", "large"), [[1, 1], [0, 1]])
    router = ChatLLMRouter(
        candidates=[Candidate("small", small), Candidate("large", large)],
        estimator=NearestNeighbors(n_neighbors=1).fit(labelled),
        policy=Threshold(0.7),
    )
    chain = (
        {
            "context": retriever | (lambda found: found[0].page_content),
            "question": RunnablePassthrough(),
        }
        | PROMPT
        | router
    )
    for question in QUESTIONS:
        answer = chain.invoke(question)
        who = answer.response_metadata["llm_router"]["candidate"]
        print(f"{question}  {answer.text}  <- {who}")
    print("streamed:", "".join((chain | StrOutputParser()).stream(QUESTIONS[0])))


if __name__ == "__main__":
    main()
