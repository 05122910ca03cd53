"""The service, but no session returns while a file is there, as where a GPU is stuck."""

import os
import time
from pathlib import Path
from typing import Any

from service.__main__ import main
from service.classifier import Classifier

HOLD = Path(os.environ["HOLD"])
real = Classifier.run


def run(self: Classifier, *args: Any, **more: Any) -> Any:
    while HOLD.exists():
        time.sleep(0.01)
    return real(self, *args, **more)


Classifier.run = run  # type: ignore[method-assign] # in each worker, which reads this file as well

if __name__ == "__main__":
    main(["serve"])
