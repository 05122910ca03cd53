"""The service, but no session returns while a file is there, as where a GPU is stuck."""

import os
import threading
from pathlib import Path
from typing import Any

from service.__main__ import main
from service.classifier import Classifier

HOLD = Path(os.environ["HOLD"])
real = Classifier.run


def run(self: Classifier, *args: Any, **more: Any) -> Any:
    if HOLD.exists():
        threading.Event().wait()
    return real(self, *args, **more)


Classifier.run = run  # type: ignore[method-assign] # in each worker, which reads this file as well

if __name__ == "__main__":
    main(["serve"])
