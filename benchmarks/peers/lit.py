"""LitServe: `lit.py PORT`. One API server process and one model process, as it does by default.

It reads the annotations of `decode_request`, so they cannot be texts.
"""

import sys
from typing import Any

import litserve
import model


class Tabular(litserve.LitAPI):
    """One model."""

    def setup(self, device: str) -> None:
        self.model = model.load()

    def decode_request(self, request: dict[str, Any]) -> list[Any]:
        return request["row"]

    def predict(self, row: list[Any]) -> list[float]:
        return self.model.predict([row])[1][0]

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        return {"probabilities": output}


if __name__ == "__main__":
    server = litserve.LitServer(Tabular(), accelerator="cpu", timeout=60, track_requests=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error",
               generate_client_file=False)  # fmt: skip
