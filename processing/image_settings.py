"""What the file of a processor may say of its image processor; imports nothing heavy."""

import math
from typing import Any

SWITCHES = ("do_convert_rgb", "do_normalize", "do_rescale", "do_resize")
LARGEST_SIDE = 4096
SMALLEST_VALUE, LARGEST_VALUE = 1e-3, 1e3  # with others all images become alike


def checked_image_settings(content: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings of an image processor that the content of a `processor_config.json` holds.

    Args:
        where: the file, for errors.

    Raises:
        ValueError: names the file, the setting and what was expected.
    """
    settings = content.get("image_processor")
    if not isinstance(settings, dict):
        raise ValueError(f"{where}: image_processor must hold names and values, got {settings!r:.40}.")
    known: dict[str, Any] = {}
    for setting, value in settings.items():
        if setting in SWITCHES:
            known[setting] = expect(where, setting, value, isinstance(value, bool), "true or false")
        elif setting in ("image_mean", "image_std"):
            right = isinstance(value, list) and len(value) == 3 and all(map(is_number, value))
            low, high = (-LARGEST_VALUE, LARGEST_VALUE) if setting == "image_mean" else (SMALLEST_VALUE, LARGEST_VALUE)
            right = right and all(low <= each <= high for each in value)
            known[setting] = expect(where, setting, value, right, f"three numbers in {low}..{high}")
        elif setting == "rescale_factor":
            right = is_number(value) and SMALLEST_VALUE**2 <= value <= LARGEST_VALUE
            known[setting] = expect(where, setting, value, right, f"a number in {SMALLEST_VALUE**2}..{LARGEST_VALUE}")
        elif setting == "resample":
            known[setting] = expect(where, setting, value, is_whole(value) and 0 <= value <= 5, "one of 0..5")
        elif setting == "size":
            right = isinstance(value, dict) and value.keys() >= {"height", "width"}
            right = right and all(
                each is None or (is_whole(each) and 1 <= each <= LARGEST_SIDE) for each in value.values()
            )
            right = right and value["height"] == value["width"] is not None
            known[setting] = expect(where, setting, value, right, f"equal height and width in 1..{LARGEST_SIDE}")
        elif setting in ("do_center_crop", "do_pad"):
            expect(where, setting, value, not value, "false: images are resized alone")
    return known


def expect(where: str, setting: str, value: Any, right: bool, expected: str) -> Any:
    if not right:
        raise ValueError(f"{where}: {setting} must be {expected}, got {value!r:.60}.")
    return value


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
