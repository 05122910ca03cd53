"""The half of the pictures that a background is made of: copied, for `matching.background`.

    python -m tests.benchmarks.background PICTURES BACKGROUND

What may be somebody's refuse stays out. `not_refuse` reports on the other half alone.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.benchmarks.likeness import second_half
from tests.benchmarks.pictures import GROUPS, PERHAPS_REFUSE


def main(pictures: Path, target: Path) -> None:
    for group in sorted(set(GROUPS) - {PERHAPS_REFUSE}):
        chosen = [f for f in sorted((pictures / group).iterdir()) if not second_half(group, f.name)]
        (target / group).mkdir(parents=True, exist_ok=True)
        for file in chosen:
            shutil.copyfile(file, target / group / file.name)
        print(f"{group}: {len(chosen)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
