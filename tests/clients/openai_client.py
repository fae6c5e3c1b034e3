"""OpenAI's client for Python."""

import base64
import struct

import openai
import pydantic

from promises import (
    FOREIGN_KEY,
    KEY,
    NARROW_KEY,
    PATIENCE,
    ROUTER,
    Exchanges,
    at_work,
    beside,
    keep,
    promise,
    raises,
    running,
    until,
)

MESSAGES = [{"role": "user", "content": "once upon a time"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


def client(key=KEY, retries=0, exchanges=None):
    http = openai.DefaultHttpxClient(event_hooks=(exchanges or Exchanges()).hooks())
    return openai.OpenAI(base_url=f"{ROUTER}/v1", api_key=key, max_retries=retries, timeout=PATIENCE, http_client=http)


def chat(of, model="a", **options):
    return of.chat.completions.create(model=model, messages=MESSAGES, **{"max_tokens": 4, **options})


@promise
def models_are_listed_and_found():
    ids = [model.id for model in client().models.list()]
    assert ids == ["a", "busy", "embed", "stopped"], ids
    assert client().models.retrieve("gpt-4o-mini").id == "a"
    assert [model.id for model in client(NARROW_KEY).models.list()] == ["a"]


@promise
def a_chat_has_text_a_reason_for_its_end_and_usage():
    answer = chat(client(), model="gpt-4o-mini", max_tokens=8)
    choice = answer.choices[0]
    assert choice.message.content and choice.finish_reason == "length" and answer.model == "a", answer
    assert answer.usage.completion_tokens == 8 and answer.usage.prompt_tokens > 0, answer.usage


@promise
def a_streamed_chat_has_a_chunk_for_each_token_and_usage_at_its_end():
    stream = chat(client(), max_tokens=16, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert len(chunks) > 4 and reasons[-1] == "length" and not any(reasons[:-1]), reasons
    assert chunks[-1].usage.completion_tokens == 16, chunks[-1]


@promise
def the_headers_of_the_router_reach_the_caller():
    raw = client().chat.completions.with_raw_response.create(
        model="a", messages=MESSAGES, max_tokens=1, extra_headers={"x-request-id": "my-own-id"}
    )
    headers = raw.headers
    assert headers["x-request-id"] == "my-own-id" and headers["x-llama-warden-server"] == "a", dict(headers)


@promise
def a_chat_with_tools_and_their_results_is_answered():
    call = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Bern"}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-1", "content": "rain"},
    ]
    # Of random weights nobody gets a call, but the tools have to get to the server, and an answer back.
    for stream in (False, True):
        answer = client().chat.completions.create(
            model="a", messages=messages, tools=[WEATHER], max_tokens=8, stream=stream
        )
        assert list(answer) if stream else answer.choices[0].finish_reason == "length"


@promise
def an_answer_that_has_to_follow_a_schema_follows_it():
    class Town(pydantic.BaseModel):
        is_large: bool

    parsed = client().chat.completions.parse(model="a", messages=MESSAGES, response_format=Town, max_tokens=200)
    assert isinstance(parsed.choices[0].message.parsed.is_large, bool), parsed


@promise
def completions_come_whole_and_as_a_stream():
    answer = client().completions.create(model="a", prompt="once upon a time", max_tokens=8)
    assert answer.choices[0].text and answer.usage.completion_tokens == 8, answer
    stream = client().completions.create(model="a", prompt="once upon a time", max_tokens=8, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices)


@promise
def embeddings_are_the_same_as_numbers_and_in_base64():
    def embeddings(**encoding):
        return client().embeddings.create(model="embed", input=["one text", "another"], **encoding).data

    # Without a word about it the client asks for base64 and decodes it.
    decoded, numbers, encoded = embeddings(), embeddings(encoding_format="float"), embeddings(encoding_format="base64")
    assert len(decoded) == len(numbers) == len(encoded) == 2
    for one, other, text in zip(decoded, numbers, encoded):
        raw = base64.b64decode(text.embedding)
        unpacked = struct.unpack(f"<{len(raw) // 4}f", raw)
        assert len(unpacked) == len(one.embedding) == len(other.embedding) > 8
        for values in (one.embedding, other.embedding):
            assert all(abs(a - b) < 1e-4 for a, b in zip(unpacked, values))


@promise
def audio_reaches_the_model_that_its_form_names():
    def transcribe(model):
        return client().audio.transcriptions.create(model=model, file=("voice.wav", b"RIFF"))

    # The model takes text alone, which it says itself.
    error = raises(openai.InternalServerError, lambda: transcribe("gpt-4o-mini"))
    assert error.status_code == 501 and error.response.headers["x-llama-warden-server"] == "a", error.body
    assert raises(openai.NotFoundError, lambda: transcribe("whisper-1")).code == "model_not_found"


@promise
def responses_come_whole_and_as_a_stream():
    answer = client().responses.create(model="a", input="once upon a time", max_output_tokens=8)
    assert answer.output_text and answer.usage.output_tokens == 8, answer
    kinds = [
        event.type
        for event in client().responses.create(model="a", input="once", max_output_tokens=8, stream=True)
    ]
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete"), kinds
    assert "response.output_text.delta" in kinds, kinds


@promise
def an_unknown_model_is_not_found_and_not_asked_for_again():
    exchanges = Exchanges()
    error = raises(openai.NotFoundError, lambda: chat(client(retries=2, exchanges=exchanges), model="gpt-5"))
    assert error.code == "model_not_found" and error.type == "invalid_request_error", error.body
    assert "a, " in error.message and exchanges.statuses() == [404], (error, exchanges.statuses())


@promise
def a_request_without_a_model_is_a_bad_request():
    error = raises(openai.BadRequestError, lambda: client().post("/chat/completions", cast_to=object, body={}))
    assert error.code == "model_missing", error.body


@promise
def an_error_of_llama_server_passes_unchanged():
    error = raises(openai.BadRequestError, lambda: chat(client(), temperature="hot"))
    assert error.type == "invalid_request_error" and error.code != "bad_body", error.body


@promise
def an_unknown_key_is_an_authentication_error_and_a_foreign_model_a_denied_permission():
    error = raises(openai.AuthenticationError, lambda: chat(client(FOREIGN_KEY, retries=2)))
    assert error.code == "unauthorized", error.body
    error = raises(openai.PermissionDeniedError, lambda: chat(client(NARROW_KEY), model="busy"))
    assert error.code == "model_not_allowed", error.body


@promise
def a_server_that_a_person_stopped_is_asked_once():
    exchanges = Exchanges()
    error = raises(openai.InternalServerError, lambda: chat(client(retries=2, exchanges=exchanges), model="stopped"))
    assert error.code == "server_stopped" and exchanges.statuses() == [503], (error.body, exchanges.statuses())


@promise
def a_client_that_leaves_amid_a_stream_frees_its_place():
    stream = chat(client(), model="busy", max_tokens=10000, stream=True)
    next(iter(stream))
    at_work("busy", 1)
    stream.close()
    at_work("busy", 0)
    assert chat(client(), model="busy", max_tokens=1).choices


@promise
def a_full_queue_is_a_rate_limit_and_the_client_comes_back_when_it_was_told():
    stream = chat(client(), model="busy", max_tokens=10000, stream=True)
    next(iter(stream))
    waits = beside(lambda: chat(client(), model="busy", max_tokens=1))
    until("one request waits", lambda: running("busy")["waiting"] == 1)
    error = raises(openai.RateLimitError, lambda: chat(client(), model="busy"))
    assert error.code == "queue_full" and error.response.headers["retry-after"], error.body
    exchanges = Exchanges()
    comes_back = beside(lambda: chat(client(retries=2, exchanges=exchanges), model="busy", max_tokens=1))
    until("it was refused", lambda: exchanges.statuses() == [429])
    stream.close()
    assert waits().choices and comes_back().choices
    waited, told = exchanges.waited_after(0)
    assert exchanges.statuses() == [429, 200] and waited >= told * 0.75, (exchanges.answers, waited, told)


@promise
def a_wait_that_takes_too_long_is_unavailable_and_the_client_comes_back():
    stream = chat(client(), model="busy", max_tokens=10000, stream=True)
    next(iter(stream))
    exchanges = Exchanges()
    comes_back = beside(lambda: chat(client(retries=2, exchanges=exchanges), model="busy", max_tokens=1))
    until("it has waited too long", lambda: exchanges.statuses() == [503])
    stream.close()
    assert comes_back().choices
    waited, told = exchanges.waited_after(0)
    assert exchanges.statuses() == [503, 200] and waited >= told * 0.75, (exchanges.answers, waited, told)


keep()
