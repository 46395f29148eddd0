"""A judge behind an OpenAI-compatible endpoint, with every verdict kept on disk.

The endpoint comes from the environment: VISPEAK_JUDGE_URL (such as https://host/v1), VISPEAK_JUDGE_MODEL, and
OPENAI_API_KEY where the server wants one.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vispeak_training.bench.annotations import Item
from vispeak_training.bench.judge import Verdict, check_marks
from vispeak_training.bench.judge_prompts import judge_prompt
from vispeak_training.bench.record import write_text

logger = logging.getLogger(__name__)

_AGAIN = frozenset({408, 409, 425, 429})  # and all from 500 on: the same request may do better later
_MAX_ENTRY_BYTES = 2**20  # of a kept verdict
_FAILURES = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)


@dataclass(frozen=True)
class EndpointConfig:
    """Where the judge is and how patiently it is asked.

    Raises:
        ValueError: the address is no http address, or there is no model name.
    """

    url: str  # base address, with or without /chat/completions
    model: str  # name that the server knows
    key: str = field(default="", repr=False)  # sent as a bearer token
    tries: int = 10  # for one verdict
    wait: float = 1.0  # s before the second try, twice as long before each further one
    longest_wait: float = 30.0  # s
    timeout: float = 60.0  # s for one answer
    max_bytes: int = 2**20  # of an answer; a longer one is a failed try

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"VISPEAK_JUDGE_URL {self.url!r}: must be an http or https address")
        if not self.model:
            raise ValueError("VISPEAK_JUDGE_MODEL is empty: name the model that judges")

    @property
    def address(self) -> str:
        """Where requests go."""
        base = self.url.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> EndpointConfig:
        """The judge that the environment names.

        Raises:
            ValueError: a variable is missing.
        """
        for name in ("VISPEAK_JUDGE_URL", "VISPEAK_JUDGE_MODEL"):
            if not environment.get(name):
                raise ValueError(f"{name} is not set: the judge `openai` needs an OpenAI-compatible endpoint")
        return cls(
            environment["VISPEAK_JUDGE_URL"], environment["VISPEAK_JUDGE_MODEL"], environment.get("OPENAI_API_KEY", "")
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes to the named host and nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follows nothing."""
        return None


class EndpointJudge:
    """Asks a language model; what it answered before is read from disk, without network.

    Args:
        config: see `EndpointConfig`.
        cache: folder for verdicts, made when needed; a file is named after the hash of model and prompt.
    """

    def __init__(self, config: EndpointConfig, cache: Path) -> None:
        self.name = config.model
        self._config = config
        self._cache = cache
        self._opener = urllib.request.build_opener(_NoRedirect)

    def score(self, item: Item, reply: str) -> Verdict | None:
        """See `Judge.score`; none after too many failed tries, which are not remembered."""
        prompt = judge_prompt(item, reply)
        path = self._path(prompt)
        known = self._known(item, path)
        if known is not None:
            return known
        answer = self._ask(item, prompt)
        if answer is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"model": self._config.model, "prompt": prompt, "answer": answer}
        write_text(path, json.dumps(entry, ensure_ascii=False, indent=1) + "\n")
        return _verdict(item, answer)

    def _path(self, prompt: str) -> Path:
        digest = hashlib.sha256(json.dumps([self._config.model, prompt]).encode()).hexdigest()
        return self._cache / digest[:2] / f"{digest}.json"

    def _known(self, item: Item, path: Path) -> Verdict | None:
        try:
            if path.stat().st_size > _MAX_ENTRY_BYTES + self._config.max_bytes:
                return None
            return _verdict(item, json.loads(path.read_text(encoding="utf-8"))["answer"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: damaged, asked again", path)
            return None

    def _ask(self, item: Item, prompt: str) -> str | None:
        wait = self._config.wait
        for left in reversed(range(self._config.tries)):
            asked = wait
            try:
                answer = self._post(prompt)
                _verdict(item, answer)
                return answer
            except urllib.error.HTTPError as error:
                asked = max(wait, _retry_after(error))
                reason = f"HTTP {error.code}"
                error.close()
                if error.code < 500 and error.code not in _AGAIN:
                    raise ValueError(
                        f"{self._config.address}: refused with {reason} {error.reason}; check the address, "
                        "VISPEAK_JUDGE_MODEL and OPENAI_API_KEY"
                    ) from error
            except _FAILURES as error:
                reason = str(error) or type(error).__name__
            logger.info("judge: %s; %d tries left", reason, left)
            if left:
                time.sleep(min(asked, self._config.longest_wait))
                wait *= 2
        logger.warning("judge: no verdict on %s after %d tries: %s", item.video, self._config.tries, reason)
        return None

    def _post(self, prompt: str) -> str:
        """The model's answer to one message.

        Raises:
            OSError, http.client.HTTPException: the server cannot be reached, or answers with an error.
            ValueError: the answer is too long, or not what such servers send.
        """
        body = {"model": self._config.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
        headers = {"Content-Type": "application/json"}
        if self._config.key:
            headers["Authorization"] = f"Bearer {self._config.key}"
        request = urllib.request.Request(self._config.address, json.dumps(body).encode(), headers, method="POST")
        with self._opener.open(request, timeout=self._config.timeout) as response:
            data = response.read(self._config.max_bytes + 1)
        if len(data) > self._config.max_bytes:
            raise ValueError(f"answer of more than {self._config.max_bytes} bytes")
        try:
            content = json.loads(data)["choices"][0]["message"]["content"]
        except (LookupError, TypeError, RecursionError) as error:
            raise ValueError("answer without a message") from error
        if not isinstance(content, str):
            raise ValueError("answer without a text")
        return content


def _verdict(item: Item, answer: str) -> Verdict:
    """Reads a bare JSON object, also one in a code fence.

    Raises:
        ValueError: it is none, or its marks are outside the scale.
    """
    begin, end = answer.find("{"), answer.rfind("}")
    if begin < 0 or end < begin:
        raise ValueError("no JSON object in the judge's answer")
    try:
        raw = json.loads(answer[begin : end + 1])
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return Verdict(check_marks(item.task, raw), str(raw.get("reason", "")))


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Seconds that a server asks to wait; 0 if it does not say."""
    value = error.headers.get("Retry-After", "") if error.headers else ""
    return float(value) if value.isdigit() else 0.0
