"""Anthropic's client for Python."""

import anthropic

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
    until,
)

MESSAGES = [{"role": "user", "content": "once upon a time"}]
WEATHER = {
    "name": "weather",
    "description": "The weather of a town",
    "input_schema": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}


def client(key=KEY, retries=0, exchanges=None):
    http = anthropic.DefaultHttpxClient(event_hooks=(exchanges or Exchanges()).hooks())
    return anthropic.Anthropic(base_url=ROUTER, api_key=key, max_retries=retries, timeout=PATIENCE, http_client=http)


def message(of, model="a", **options):
    return of.messages.create(model=model, messages=MESSAGES, **{"max_tokens": 4, **options})


@promise
def a_message_has_text_a_reason_for_its_end_and_usage():
    answer = message(client(), max_tokens=8, system="be brief")
    assert answer.content[0].text and answer.stop_reason == "max_tokens" and answer.role == "assistant", answer
    assert answer.usage.output_tokens == 8 and answer.usage.input_tokens >= 0, answer.usage


@promise
def a_streamed_message_is_that_of_its_events():
    with client().messages.stream(model="a", messages=MESSAGES, max_tokens=16) as stream:
        text = "".join(stream.text_stream)
        whole = stream.get_final_message()
    assert text and whole.content[0].text == text and whole.stop_reason == "max_tokens", whole
    kinds = [event.type for event in message(client(), max_tokens=4, stream=True)]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds


@promise
def tokens_are_counted():
    counted = client().messages.count_tokens(model="a", messages=MESSAGES)
    more = client().messages.count_tokens(model="a", messages=MESSAGES * 3)
    assert 0 < counted.input_tokens < more.input_tokens, (counted, more)


@promise
def a_message_with_tools_and_their_results_is_answered():
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"town": "Bern"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}]},
    ]
    # Of random weights nobody gets a call, but the tools have to get to the server, and an answer back.
    answer = client().messages.create(model="a", messages=messages, tools=[WEATHER], max_tokens=8)
    assert answer.stop_reason == "max_tokens", answer


@promise
def models_are_listed():
    assert [model.id for model in client().models.list()] == ["a", "busy", "embed", "stopped"]


@promise
def an_unknown_model_is_not_found_and_not_asked_for_again():
    exchanges = Exchanges()
    error = raises(anthropic.NotFoundError, lambda: message(client(retries=2, exchanges=exchanges), model="claude"))
    assert error.body["type"] == "error" and error.body["error"]["type"] == "not_found_error", error.body
    assert error.body["request_id"] == error.response.headers["x-request-id"], error.body
    assert exchanges.statuses() == [404], exchanges.statuses()


@promise
def a_message_without_a_model_is_a_bad_request():
    error = raises(anthropic.BadRequestError, lambda: client().post("/v1/messages", cast_to=object, body={}))
    assert error.body["error"]["type"] == "invalid_request_error", error.body


@promise
def keys_are_asked_for_in_the_header_of_this_client():
    error = raises(anthropic.AuthenticationError, lambda: message(client(FOREIGN_KEY)))
    assert error.body["error"]["type"] == "authentication_error", error.body
    error = raises(anthropic.PermissionDeniedError, lambda: message(client(NARROW_KEY), model="busy"))
    assert error.body["error"]["type"] == "permission_error", error.body


@promise
def a_key_that_is_in_use_is_a_rate_limit_and_the_client_comes_back_when_it_was_told():
    stream = message(client(NARROW_KEY), max_tokens=1_000_000, stream=True)
    next(iter(stream))
    error = raises(anthropic.RateLimitError, lambda: message(client(NARROW_KEY)))
    assert error.body["error"]["type"] == "rate_limit_error", error.body
    exchanges = Exchanges()
    comes_back = beside(lambda: message(client(NARROW_KEY, retries=3, exchanges=exchanges)))
    until("it was refused", lambda: exchanges.statuses() == [429])
    stream.close()
    assert comes_back().content
    waited, told = exchanges.waited_after(0)
    assert exchanges.statuses() == [429, 200] and waited >= told * 0.75, (exchanges.answers, waited, told)


@promise
def a_server_that_a_person_stopped_is_asked_once():
    exchanges = Exchanges()
    error = raises(anthropic.InternalServerError, lambda: message(client(retries=2, exchanges=exchanges), model="stopped"))
    assert error.body["error"]["type"] == "api_error" and exchanges.statuses() == [503], (error.body, exchanges.answers)


@promise
def a_client_that_leaves_amid_a_stream_frees_its_place():
    with client().messages.stream(model="a", messages=MESSAGES, max_tokens=1_000_000) as stream:
        next(iter(stream.text_stream))
        at_work("a", 1)
    at_work("a", 0)


keep()
