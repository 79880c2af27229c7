"""A seller in Python whose facilitator is the gateway, as examples/gateway/seller.py, for the chain of the tests."""

import base64
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../examples/gateway"))
sys.dont_write_bytecode = True
from client import Facilitator, Unanswered  # noqa: E402

gateway = Facilitator(os.environ["GATEWAY_URL"], "")
requirements = json.loads(os.environ["REQUIREMENTS"])
resource = {"url": os.environ["RESOURCE"]}
is_cut = threading.Event()


class Seller(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        try:
            payload = json.loads(base64.b64decode(self.headers["PAYMENT-SIGNATURE"]))
        except (TypeError, ValueError):
            return self.ask_to_pay("Payment required")
        if payload.get("accepted") != requirements:
            return self.ask_to_pay("The payment is for something else")
        try:
            verdict = gateway.verify(payload, requirements)
            if not verdict["isValid"]:
                return self.ask_to_pay(verdict.get("invalidReason"))
            settlement = gateway.settle(payload, requirements)
            if not settlement["success"]:
                return self.ask_to_pay(settlement.get("errorReason"))
        except Unanswered:
            return self.answer(502, {"error": "the payment could not be processed; do not pay again"})
        self.close_connection = True
        if not is_cut.is_set():
            self.answer(200, {"goods": "delivered"}, {"PAYMENT-RESPONSE": encode(settlement)})

    def ask_to_pay(self, error: str | None) -> None:
        required = {"x402Version": 2, "error": error, "resource": resource, "accepts": [requirements]}
        self.answer(402, {}, {"PAYMENT-REQUIRED": encode(required)})

    def answer(self, status: int, content: dict, headers: dict | None = None) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(text), **(headers or {})}.items():
            self.send_header(name, str(value))
        try:
            self.end_headers()
            self.wfile.write(text)
        except OSError:
            self.close_connection = True  # the buyer has hung up

    def log_message(self, *_: object) -> None:
        pass


def encode(value: dict) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


server = ThreadingHTTPServer(("127.0.0.1", 0), Seller)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"listening on http://127.0.0.1:{server.server_port}/goods", flush=True)
for line in sys.stdin:
    is_cut.set() if line.strip() == "cut" else is_cut.clear()
