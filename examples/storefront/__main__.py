"""``python examples/storefront``: a shop whose admin refunds through flask_refunds."""

from __future__ import annotations

import sys

try:
    from shop.command import main
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed. At the root of the repository: pip install -e '.[demo]'")

if __name__ == "__main__":
    sys.exit(main())
