"""A profile's folder: `profile.json`, the features that it names, and the profile that it replaced."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..files import NoLocksError, array_of, as_json, inside, locked, parse_json, whole_file, write_json, write_whole
from ..hub_access import near_names, reaching, require_hub_id
from ..model_files import PROFILE_FILE
from ..modeling.checksums import sha256_of
from ..reporting import Report, first_line, print_nothing
from ..versions import __version__
from .profile_content import ProfileContent, check_features, content_digest

if TYPE_CHECKING:
    import torch

FEATURES = "features-{}.safetensors"
FEATURES_NAME = re.compile(r"features-([0-9a-f]{16})\.safetensors")
FORMAT = 1
EARLIER = "earlier"  # a folder of a profile's folder, in which the one before it is kept under a name of its own
EARLIER_NAME = re.compile(r"[0-9a-f]{16}")
IGNORE = "ignore"  # the name of the view's mask among the features
REMEDY = "Fit it again, or take a copy that is whole."
WHO = "another `adaptclip fit`"
UNLIKE = ("version", "earlier", "sha256")  # of a profile that is saved again as it was
READS = 100  # of a profile that is saved again and again meanwhile
MISSES = 3  # of features that one `profile.json` names, after which they are not there: two may be saved in turn


def is_profile_file(name: str) -> bool:
    """Whether a file of this name may be part of a profile's folder."""
    return name == PROFILE_FILE or FEATURES_NAME.fullmatch(name) is not None


@contextmanager
def saving(folder: Path, report: Report = print_nothing) -> Iterator[None]:
    """Nobody else saves a profile in a folder meanwhile: an update is read, made and saved as one step.

    Args:
        folder: it is made, and removed again if nothing was saved.
        report: told that it waits for another one.

    Raises:
        NoLocksError: the folder lies on a share without locks.
        OSError: the folder cannot be written.
    """
    new = not folder.exists()
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(folder, WHO))
            except ValueError:
                report(f"waiting: {WHO} is writing to {folder}")
                stack.enter_context(locked(folder, WHO, wait=-1))
            yield
    finally:
        if new:  # it stays where something was saved
            with suppress(OSError):
                folder.rmdir()


def write_profile(folder: Path, content: dict, tensors: "dict[str, torch.Tensor]"):
    """Writes a profile's folder. Who reads it meanwhile gets the older profile or the new one, and so does who comes
    after a kill. The older one is kept, see [`keep_earlier`].

    The features come first, then the file that names them, and then the older features go. On a share without locks two
    that save at once must not.

    Args:
        content: of `profile.json`; the format, the version, the features' file and the digests are put in.
        tensors: the photos' features, contiguous.
    """
    from safetensors.torch import save

    packed = save(tensors, metadata={"format": "pt"})
    digest = hashlib.sha256(packed).hexdigest()
    features = folder / FEATURES.format(digest[:16])
    content = {"format": FORMAT, "version": __version__} | content
    content |= {"features": features.name, "features_sha256": digest}
    with ExitStack() as stack:
        with suppress(NoLocksError):
            stack.enter_context(saving(folder))
        content["earlier"] = keep_earlier(folder, content)
        write_whole(features, packed)
        write_json(folder / PROFILE_FILE, content | {"sha256": content_digest(content)})
        for file in folder.glob(FEATURES.format("*")):
            if file != features:
                with suppress(OSError):  # on Windows it stays while somebody reads it, and goes with the next save
                    file.unlink()
        for older in (folder / EARLIER).glob("*"):
            if EARLIER_NAME.fullmatch(older.name) and older.name != content["earlier"]:
                shutil.rmtree(older, ignore_errors=True)


def keep_earlier(folder: Path, content: dict) -> str | None:
    """Keeps the profile that a folder holds as a profile's folder of its own in `earlier/`; its name there.

    `None` where the folder holds none that is whole. What is saved again as it was replaces nothing.

    Args:
        content: of `profile.json`, which is to be written.

    Raises:
        ValueError: `earlier` leads out of the folder.
    """
    kept = inside(folder, EARLIER)
    try:
        text = (folder / PROFILE_FILE).read_bytes()
        older = checked_content(text)
        features = folder / older.features
        size = features.stat().st_size
    except (FileNotFoundError, ValueError):
        return None
    there = parse_json(text)
    if all(there.get(name) == as_json(value) for name, value in content.items() if name not in UNLIKE):
        return older.earlier
    target = kept / content_digest(there)[:16]
    if not (target / PROFILE_FILE).is_file():
        copy = target / features.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.is_file() or copy.stat().st_size != size:
            with whole_file(copy) as opened, features.open("rb") as original:
                shutil.copyfileobj(original, opened)
        write_whole(target / PROFILE_FILE, text)  # last: with it the copy is whole
    return target.name


def earlier_folder(folder: Path) -> Path:
    """The folder of the profile that a folder held before.

    Raises:
        FileNotFoundError: no profile, or none before it.
        ValueError: the profile is damaged; names the file and the field.
    """
    content, _ = read_profile(folder)
    earlier = None if content.earlier is None else inside(folder, EARLIER) / content.earlier
    if earlier is None or not (earlier / PROFILE_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} keeps no earlier profile: one is kept when an update or --overwrite replaces it, and none comes "
            "along with a download."
        )
    return earlier


def read_profile(folder: str | Path, **hub) -> tuple[ProfileContent, dict[str, np.ndarray]]:
    """The content of `profile.json` and the features, of a folder or repository.

    Raises:
        FileNotFoundError: no such folder or repository, or one without a profile.
        ValueError: it is damaged, was changed, or is of another format; names the file and the field.
    """
    before, misses = None, 0
    if not Path(folder).is_dir():
        require_hub_id(str(folder), "profile", PROFILE_FILE)
        hub = reaching(hub)
    for _ in range(READS):
        file = profile_file(folder, PROFILE_FILE, hub)
        text = file.read_bytes()
        try:
            content = checked_content(text)
            return content, read_features(profile_file(folder, content.features, hub), content)
        except FileNotFoundError:
            misses = misses + 1 if text == before else 0
            if misses == MISSES:
                raise
            before = text  # it was saved anew after it was read, and its older features are gone: read the new one
        except ValueError as error:
            raise ValueError(
                f"{file} is not a profile (of `adaptclip fit`): {str(error).rstrip('.')}. {REMEDY}"
            ) from error
    raise ValueError(f"{folder} is saved again and again: read it later.")


def checked_content(text: bytes) -> ProfileContent:
    """What `profile.json` says; raises ValueError, with the field, for what is no whole profile of this format."""
    content: Any = parse_json(text)
    if not isinstance(content, dict):
        raise ValueError(f"expected named fields, got a {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise ValueError(f"format: it has format {content.get('format')!r}, this version reads {FORMAT}")
    checked = ProfileContent.checked(content)
    if checked.sha256 not in (None, content_digest(content)):
        raise ValueError("sha256: what it says was changed or damaged after it was written")
    if (checked.sha256 is None) != (checked.features_sha256 is None):
        raise ValueError("sha256, features_sha256: one of the digests is not there")
    return checked


def read_features(file: Path, content: ProfileContent) -> dict[str, np.ndarray]:
    """The features of a profile's photos, compared with their digest: the bytes are read twice, once to be hashed.

    Raises:
        FileNotFoundError: the file is gone.
        ValueError: it is damaged, or belongs to another profile.
    """
    digest = sha256_of(file)
    if content.features_sha256 not in (None, digest) or FEATURES.format(digest[:16]) != content.features:
        raise ValueError(f"{file} is damaged or was changed: its SHA-256 is not the one that was written with it")
    try:
        with safe_open(file, framework="np") as opened:
            tensors = {name: array_of(opened, name) for name in opened.keys()}
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} holds no features ({error})") from error
    check_features(file, content, tensors, IGNORE)
    return tensors


def profile_file(folder: str | Path, name: str, hub: dict) -> Path:
    """A file of a profile's folder or repository.

    Raises:
        FileNotFoundError: no such folder or repository, or one without a profile.
    """
    if Path(folder).is_dir():
        file = Path(folder) / name
        if not file.is_file():
            raise FileNotFoundError(f"No profile in {folder}: expected {name}, which `adaptclip fit` writes.")
        return file
    try:
        from transformers.utils import cached_file

        return Path(cached_file(str(folder), name, **hub))
    except OSError as error:
        reason = "the Hub cannot be reached" if hub.get("local_files_only") else first_line(error)
        near = near_names(str(folder), PROFILE_FILE)
        raise FileNotFoundError(
            f"No profile at {folder}: there is no such folder, and none on the Hub ({reason}).{near}"
        ) from error
