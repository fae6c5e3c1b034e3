"""LangChain with OpenAI's client."""

import openai
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from promises import FOREIGN_KEY, KEY, PATIENCE, ROUTER, keep, promise, raises

TO_THE_ROUTER = {"base_url": f"{ROUTER}/v1", "api_key": KEY, "max_retries": 0, "timeout": PATIENCE}


def chat(**options):
    return ChatOpenAI(**{**TO_THE_ROUTER, "model": "a", "max_tokens": 8, **options})


@tool
def weather(town: str) -> str:
    """The weather of a town."""
    return f"rain in {town}"


@promise
def a_chat_is_answered_with_usage():
    answer = chat().invoke("once upon a time")
    assert answer.content and answer.usage_metadata["output_tokens"] == 8, answer
    assert answer.response_metadata["finish_reason"] == "length", answer.response_metadata


@promise
def a_streamed_chat_adds_up_to_a_message():
    whole = None
    for chunk in chat(stream_usage=True).stream("once upon a time"):
        whole = chunk if whole is None else whole + chunk
    assert whole.content and whole.usage_metadata["output_tokens"] == 8, whole


@promise
def a_batch_is_answered_in_order():
    answers = chat().batch([f"text {number}" for number in range(6)], config={"max_concurrency": 6})
    assert len(answers) == 6 and all(answer.usage_metadata["output_tokens"] == 8 for answer in answers), answers


@promise
def a_chat_with_bound_tools_and_their_results_is_answered():
    call = {"name": "weather", "args": {"town": "Bern"}, "id": "call-1"}
    messages = [HumanMessage("once"), AIMessage("", tool_calls=[call]), ToolMessage("rain", tool_call_id="call-1")]
    answer = chat().bind_tools([weather]).invoke(messages)
    assert answer.response_metadata["finish_reason"] == "length", answer


@promise
def a_structured_answer_follows_its_schema():
    schema = {"title": "town", "type": "object", "properties": {"is_large": {"type": "boolean"}}, "required": ["is_large"]}
    answer = chat(max_tokens=200).with_structured_output(schema, method="json_schema").invoke("once")
    assert isinstance(answer["is_large"], bool), answer


@promise
def the_responses_interface_is_answered():
    answer = chat(use_responses_api=True).invoke("once upon a time")
    assert answer.text and answer.usage_metadata["output_tokens"] == 8, answer


@promise
def a_completion_is_answered():
    assert OpenAI(**TO_THE_ROUTER, model="a", max_tokens=8).invoke("once upon a time")


@promise
def texts_are_embedded():
    # Without this option the client sends numbers of OpenAI's own tokens.
    embeddings = OpenAIEmbeddings(**TO_THE_ROUTER, model="embed", check_embedding_ctx_length=False)
    vectors = embeddings.embed_documents(["one text", "another"])
    assert len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 8
    assert all(abs(one - other) < 1e-4 for one, other in zip(vectors[0], embeddings.embed_query("one text")))


@promise
def errors_are_those_of_the_client_of_openai():
    error = raises(openai.NotFoundError, lambda: chat(model="gpt-5").invoke("once"))
    assert error.code == "model_not_found", error.body
    error = raises(openai.AuthenticationError, lambda: chat(api_key=FOREIGN_KEY).invoke("once"))
    assert error.code == "unauthorized", error.body


keep()
