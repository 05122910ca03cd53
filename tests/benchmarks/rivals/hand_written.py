"""The FastAPI server that people write by hand: a sync route, one session."""

import sys

import uvicorn
from fastapi import FastAPI, File

from tests.benchmarks.rivals.model import decode, open_session, run

app = FastAPI()
session = open_session()


@app.post("/predict")
def predict(file: bytes = File()) -> dict[str, object]:
    return run(session, decode(file)[None])[0]


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
