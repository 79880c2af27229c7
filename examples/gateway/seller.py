"""A seller in Python, with nothing but the standard library, whose facilitator is the gateway."""

import base64
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from client import Facilitator, Unanswered

gateway = Facilitator(
    os.environ.get("GATEWAY_URL", "http://127.0.0.1:4020"),
    os.environ.get("FACILITATOR_GATEWAY_TOKEN", "secret"),
)
port = int(os.environ.get("PORT", "4021"))
requirements = {
    "scheme": "exact",
    "network": "eip155:84532",  # Base Sepolia
    "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",  # its USDC
    "amount": "10000",  # a cent
    "payTo": os.environ["PAY_TO"],
    "maxTimeoutSeconds": 300,
    "extra": {"name": "USDC", "version": "2"},
}


class Seller(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != "/weather":
            return self.answer(404, {"error": "not found"})
        try:
            payload = json.loads(base64.b64decode(self.headers["PAYMENT-SIGNATURE"]))
        except (TypeError, ValueError):
            return self.ask_to_pay("Payment required")
        # What the buyer accepted is the buyer's word: it must be this seller's price.
        if not isinstance(payload, dict) or payload.get("accepted") != requirements:
            return self.ask_to_pay("The payment is for something else")
        try:
            verdict = gateway.verify(payload, requirements)
            if not verdict["isValid"]:
                return self.ask_to_pay(verdict.get("invalidReason"))
            settlement = gateway.settle(payload, requirements)
            if not settlement["success"]:
                return self.ask_to_pay(settlement.get("errorReason"))
        except Unanswered as error:
            self.log_error("%s", error)
            return self.answer(502, {"error": "the payment could not be processed; do not pay again"})
        self.answer(200, {"weather": "sunny"}, {"PAYMENT-RESPONSE": encode(settlement)})

    def ask_to_pay(self, error: str | None) -> None:
        required = {
            "x402Version": 2,
            "error": error,
            "resource": {"url": f"http://{self.headers['Host']}{self.path}"},
            "accepts": [requirements],
        }
        self.answer(402, {}, {"PAYMENT-REQUIRED": encode(required)})

    def answer(self, status: int, content: dict, headers: dict | None = None) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(text), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text)


def encode(value: dict) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


print("the gateway takes", ", ".join(f"{kind['scheme']} on {kind['network']}" for kind in gateway.supported()["kinds"]))
server = ThreadingHTTPServer(("127.0.0.1", port), Seller)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
