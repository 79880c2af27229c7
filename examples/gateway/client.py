"""A client of the gateway, or of any x402 facilitator, with nothing but the standard library."""

import http.client
import json
import urllib.error
import urllib.request
import uuid


class Unanswered(Exception):
    """Nobody could say. Answer the buyer 502, never 402: a buyer who reads 402 signs and pays again."""


class Facilitator:
    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.token = token

    def supported(self) -> dict:
        return expect(list, "kinds", self._ask("/supported", timeout=15))

    def verify(self, payload: dict, requirements: dict) -> dict:
        return expect(bool, "isValid", self._ask("/verify", body(payload, requirements), timeout=15))

    def settle(self, payload: dict, requirements: dict) -> dict:
        """The settlement: `success` is true or false, and then it is final.

        An answer without a boolean `success` is neither. The money may have moved, so it is not "payment failed".
        """
        settlement = body(payload, requirements)
        # One key for one purchase: asked again, the gateway gives the answer that was lost on the way. A key made of the
        # payment would give it to everybody who sends the payment again.
        key = {"Idempotency-Key": str(uuid.uuid4())}
        try:
            answer = self._ask("/settle", settlement, key, timeout=90)
        except Unanswered:
            answer = self._ask("/settle", settlement, key, timeout=90)
        return expect(bool, "success", answer)

    def _ask(self, path: str, data: bytes | None = None, headers: dict | None = None, *, timeout: float) -> dict:
        request = urllib.request.Request(
            self.url + path,
            data,
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            text = error.read()  # says why, as JSON
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(f"{path}: {error}") from error
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        return answer if isinstance(answer, dict) else {}


def expect(kind: type, field: str, answer: dict) -> dict:
    if isinstance(answer.get(field), kind):
        return answer
    raise Unanswered(str(answer.get("message") or answer.get("error") or "an answer that is not the protocol's"))


def body(payload: dict, requirements: dict) -> bytes:
    payment = {"paymentPayload": payload, "paymentRequirements": requirements}
    return json.dumps({"x402Version": payload["x402Version"], **payment}).encode()
