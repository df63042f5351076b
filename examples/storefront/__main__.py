"""``python examples/storefront``: run the example shop."""

from __future__ import annotations

import sys

try:
    from shop.command import main
except ModuleNotFoundError as missing:
    sys.exit(
        f"{missing.name} isn't installed. In the repository's root directory, run: pip install -e '.[demo]'"
    )

if __name__ == "__main__":
    sys.exit(main())
