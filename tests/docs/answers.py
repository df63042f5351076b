"""Compare a response in the documentation with a real one: the same shape, whatever the values."""

from __future__ import annotations

from typing import Any

MORE = "…"


def differences(shown: Any, real: Any, where: str = "") -> list[str]:
    """Return where the shape of the real response differs from the documented one.

    A key ``"…"`` in an object means that other keys may follow.
    """
    if isinstance(shown, dict) and isinstance(real, dict):
        found = [f"{where}.{key} doesn't exist" for key in shown.keys() - real.keys() - {MORE}]
        if MORE not in shown:
            found += [f"{where}.{key} isn't documented" for key in real.keys() - shown.keys()]
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
    # 2 and 1.5 are the same kind. True is a bool, although Python counts it as an int.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__
