"""``python -m tests.bench.instant SECONDS``: a fast Stripe that only makes refunds that succeed.

The sandbox uses as much CPU time per refund as the measured worker, so it would be measured too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import parse_qs

from flask_refunds.testing import StripeSandbox

AMOUNT = 1999
_sandbox = StripeSandbox()
CHARGE = _sandbox.charge(_sandbox.create_payment(AMOUNT))
"""The charge of every payment, for requests that expand it."""


class Connection(asyncio.Protocol):
    """Answers every ``POST`` with a succeeded refund.

    :param pause: the seconds before the response.
    """

    refunds = 0

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head):
            self._received = b""
            response = _response(body)
            if self._pause:
                asyncio.get_running_loop().call_later(self._pause, self._transport.write, response)
            else:
                self._transport.write(response)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _response(body: bytes) -> bytes:
    params = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    Connection.refunds += 1
    refund = {
        "id": f"re_instant{Connection.refunds}",
        "object": "refund",
        "amount": AMOUNT,
        "balance_transaction": f"txn_instant{Connection.refunds}",
        "charge": CHARGE if "expand[0]" in params else CHARGE["id"],
        "created": int(time.time()),
        "currency": "usd",
        "destination_details": {"card": {"reference_status": "pending", "type": "refund"}, "type": "card"},
        "metadata": {"refund_id": params.get("metadata[refund_id]", "")},
        "payment_intent": params["payment_intent"],
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    content = json.dumps(refund).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + f"Request-Id: req_instant{Connection.refunds}\r\n\r\n".encode() + content


async def serve(pause: float) -> None:
    """Serve on a free port, and print the URL."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(pause), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
