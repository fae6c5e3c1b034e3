"""Shared by the clients in Python: named promises, what the test says of the router, and clients that count what they send.

Each script is run by a test of Rust, which gives it the router in the environment, and fails with it.
"""

import json
import os
import threading
import time
import traceback
import urllib.request

ROUTER = os.environ["LLAMA_WARDEN_TEST_ROUTER"]
# A key for every model, one for the model `a` and one request at a time, and one that the router does not know.
KEY = os.environ["LLAMA_WARDEN_TEST_KEY"]
NARROW_KEY = os.environ["LLAMA_WARDEN_TEST_NARROW_KEY"]
FOREIGN_KEY = "sk-nobody"

# Longest wait for anything, in seconds.
PATIENCE = 60

_promises = []


def promise(function):
    """Adds a function to what `keep` runs; its name is the promise."""
    _promises.append(function)
    return function


def keep():
    """Runs every promise, prints the outcome of each, and ends with a failure if one is broken."""
    broken = 0
    for function in _promises:
        began = time.monotonic()
        try:
            function()
            print(f"kept: {function.__name__} ({time.monotonic() - began:.2f} s)", flush=True)
        except BaseException:
            broken += 1
            print(f"BROKEN: {function.__name__}\n{traceback.format_exc()}", flush=True)
    raise SystemExit(1 if broken else 0)


def raises(kind, call):
    """Returns the exception of this kind that a call raises."""
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {answer!r}")


class Exchanges:
    """Every answer that a client of HTTP got, in order: a client that tries again has several for one call."""

    def __init__(self):
        self.answers = []

    def hooks(self):
        return {"response": [self._note]}

    def _note(self, response):
        self.answers.append((time.monotonic(), response.status_code, dict(response.headers)))

    def statuses(self):
        return [status for _, status, _ in self.answers]

    def waited_after(self, number):
        """The seconds between an answer and the next one, and what the answer told to wait."""
        (first, _, headers), (second, *_) = self.answers[number : number + 2]
        return second - first, float(headers["retry-after"])


def running(model):
    """What the router has of a model: requests at work, and requests that wait."""
    request = urllib.request.Request(f"{ROUTER}/running", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        entries = json.load(answer)["running"]
    of_model = [entry for entry in entries if entry["model"] == model]
    return of_model[0] if of_model else {"in_flight": 0, "waiting": 0}


def until(what, condition):
    """Waits for something that nobody announces."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def at_work(model, count):
    until(f"{count} requests of {model} are at work", lambda: running(model)["in_flight"] == count)


def beside(call):
    """Runs a call in a thread; returns a function that waits for its result."""
    outcome = []

    def run():
        try:
            outcome.append((call(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join(PATIENCE)
        (value, error), = outcome
        if error is not None:
            raise error
        return value

    return result
