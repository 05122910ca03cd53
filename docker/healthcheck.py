"""Exit with 0 where the service of this container wants requests, else with 1."""

import os
import sys
from http.client import HTTPConnection

try:
    # Not urllib, which would ask a proxy where the environment names one.
    connection = HTTPConnection("127.0.0.1", int(os.environ["SUPERBIN_PORT"]), timeout=3)
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    print(answer.status, answer.read(1000).decode())
    sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"no answer from /readyz: {error}")
