"""An answer as the documentation shows it, held against a real one: the same shape, whatever the values."""

from __future__ import annotations

from typing import Any

MORE = "…"


def differences(shown: Any, real: Any, where: str = "") -> list[str]:
    """Where the real answer has another shape than the one that is shown.

    A key ``"…"`` in an object, as in a value, stands for whatever else there is.
    """
    if isinstance(shown, dict) and isinstance(real, dict):
        found = [f"{where}.{key} is not there" for key in shown.keys() - real.keys() - {MORE}]
        if MORE not in shown:
            found += [f"{where}.{key} is not shown" for key in real.keys() - shown.keys()]
        for key in shown.keys() & real.keys():
            found += differences(shown[key], real[key], f"{where}.{key}")
        return found
    if isinstance(shown, list) and isinstance(real, list):
        pairs = zip(shown, real, strict=False)
        return [each for pair in pairs for each in differences(*pair, where=f"{where}[]")]
    if shown is None or real is None or _kind(shown) == _kind(real):
        return []
    return [f"{where} is {_kind(real)}, not {_kind(shown)}"]


def _kind(value: Any) -> str:
    # 2 and 1.5 are numbers alike; true is none.
    return (
        "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    )
