"""Print the dependencies of pyproject.toml, and those of the extras named on the command line.

The images install these before the source is copied, so that a changed source keeps their layer.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
wanted = list(project["dependencies"])
for name in sys.argv[1:]:
    if name not in extras:
        sys.exit(f"expected an extra of {', '.join(sorted(extras))}, got {name!r}")
    wanted += extras[name]
print("\n".join(wanted))
