"""What this repository's own runs need: the helper modules in tests/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tests"))
