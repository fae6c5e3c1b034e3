"""Two servers of which one may run: OpenAI's client asks both in turn from many threads, and no call fails."""

import os
import threading
import time

import openai

from promises import KEY, ROUTER

THREADS = 20
SECONDS = float(os.environ["LLAMA_WARDEN_TEST_SECONDS"])

client = openai.OpenAI(base_url=f"{ROUTER}/v1", api_key=KEY, max_retries=0, timeout=120)
deadline = time.monotonic() + SECONDS
counts, failures, waits = {"a": 0, "b": 0}, [], []
lock = threading.Lock()


def alternate(number):
    while time.monotonic() < deadline:
        for model in ("a", "b") if number % 2 else ("b", "a"):
            began = time.monotonic()
            try:
                messages = [{"role": "user", "content": f"text {number}"}]
                answer = client.chat.completions.create(model=model, messages=messages, max_tokens=8)
                assert answer.model == model and answer.usage.completion_tokens == 8, answer
                with lock:
                    counts[model] += 1
                    waits.append(time.monotonic() - began)
            except Exception as error:
                with lock:
                    failures.append(f"{model}: {error!r}")


threads = [threading.Thread(target=alternate, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
waits.sort()
print(f"{counts} calls, longest {waits[-1]:.2f} s, median {waits[len(waits) // 2]:.2f} s; {len(failures)} failed")
assert not failures, "\n".join(failures[:10])
assert min(counts.values()) >= THREADS, counts
