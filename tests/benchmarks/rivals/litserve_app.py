"""LitServe with its batching on."""

import sys

import litserve
import numpy as np
from fastapi import Request

from tests.benchmarks.rivals.model import decode, open_session, run


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = open_session()

    def decode_request(self, request: Request):
        return decode(request["file"].file.read())

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, photos):
        return run(self.session, photos)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=16, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
