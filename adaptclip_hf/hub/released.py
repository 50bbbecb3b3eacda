"""The authors' released checkpoints: found, downloaded with the CLIP that they need, converted and kept."""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from ..conversion import RELEASED_CLIP, convert
from ..files import digest_of_files
from ..modeling import AdaptCLIPModel
from ..modeling.pretrained_adaptclip import clip_origin
from ..reporting import first_line
from . import HUB_ERRORS

REPOSITORY = "csgaobb/AdaptCLIP"
SUFFIXES = (".pth", ".pt", ".safetensors")


def load_released(
    cls: type[AdaptCLIPModel],
    source: str | Path | None = None,
    trained_on: str | None = None,
    checkpoint: str | None = None,
    clip: str | Path = RELEASED_CLIP,
    tokenizer: str | Path | None = None,
    cache_folder: str | Path | None = None,
    **options,
) -> AdaptCLIPModel:
    """Converts a checkpoint that the authors released; a second call finds the converted model.

    `model.name_or_path` is the folder of the converted model, with its processor.

    Args:
        source: Hub id of the repository (the authors' own by default), or a local folder or file, for which nothing
            is fetched.
        trained_on: "mvtec", "visa" or another part of the checkpoint's path, where the source holds several.
        checkpoint: its path in the source, instead of `trained_on`.
        clip, tokenizer: as [`convert`] takes them.
        cache_folder: where converted models are kept; beside the Hub's cache by default.
        options: `revision` and `token` of the download; and fields of the config as [`convert`] takes them, for other
            models than the released ViT-L/14@336.

    Raises:
        FileNotFoundError: no such source, checkpoint or CLIP.
        ValueError: several checkpoints or none fit, with what was found; or as [`convert`].
    """
    hub = {name: options.pop(name, None) for name in ("revision", "token")}
    file = released_checkpoint(source or REPOSITORY, trained_on, checkpoint, **hub)
    cache = Path(cache_folder or Path(constants.HF_HOME, "adaptclip", "released"))
    folder = cache / cache_key(file, clip, tokenizer, options)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache) as temporary:
            convert(file, clip, Path(temporary) / "model", tokenizer, **options)
            try:
                (Path(temporary) / "model").rename(folder)  # whole or not at all
            except OSError:
                if not folder.is_dir():  # another process may have put the same model there
                    raise
    return cls.from_pretrained(folder)


def cache_key(file: Path, clip: str | Path, tokenizer: str | Path | None, config: dict) -> str:
    """The name of the folder for a conversion, from all that it depends on."""
    parts = [contents_of(clip), contents_of(tokenizer) if tokenizer and Path(tokenizer).exists() else str(tokenizer)]
    digest = hashlib.sha256(file.read_bytes())
    digest.update(json.dumps([*parts, config], sort_keys=True).encode())
    return f"{file.stem}-{digest.hexdigest()[:16]}"


def contents_of(source: str | Path) -> str:
    """A digest of a local file or folder, or the commit of a Hub id."""
    path = Path(source)
    if path.is_file():
        # with the tokenizer beside it
        return digest_of_files(sorted({path, *path.parent.glob("*.json"), *path.parent.glob("*.txt")}))
    if path.is_dir():
        return digest_of_files(sorted(file for file in path.iterdir() if file.is_file()))
    return json.dumps(clip_origin(source))


def released_checkpoint(
    source: str | Path,
    trained_on: str | None = None,
    checkpoint: str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """The file of one checkpoint, downloaded where it is on the Hub.

    Raises:
        FileNotFoundError, ValueError: as [`load_released`].
    """
    if Path(source).is_file():
        return Path(source)
    if Path(source).is_dir():
        return Path(source) / choose(list_folder(Path(source)), str(source), trained_on, checkpoint)
    if Path(source).suffix in SUFFIXES or str(source).count("/") != 1 or str(source).startswith("."):
        raise FileNotFoundError(f"No checkpoint {source}: there is no such file or folder, and it is no Hub id.")
    name = choose(list_repository(str(source), revision, token), str(source), trained_on, checkpoint)
    return Path(hf_hub_download(str(source), name, revision=revision, token=token))


def list_repository(repo_id: str, revision: str | None, token: str | None) -> list[str]:
    """The files of a repository; those in the cache where the Hub cannot be reached.

    Raises:
        FileNotFoundError: it is in neither.
    """
    try:
        return [each.rfilename for each in HfApi(token=token).model_info(repo_id, revision=revision).siblings]
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(f"There is no file, folder or readable repository {repo_id}.") from error
    except HUB_ERRORS as error:
        try:
            folder = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
        except OSError:
            raise FileNotFoundError(
                f"{repo_id} is not in the cache and the Hub does not answer ({first_line(error)}). Give a local "
                "file or folder of the released checkpoint."
            ) from error
        return list_folder(folder)


def list_folder(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]


def choose(names: list[str], source: str, trained_on: str | None, checkpoint: str | None) -> str:
    """The one checkpoint that fits.

    Raises:
        FileNotFoundError, ValueError: none or several fit, with all that was found.
    """
    found = [name for name in names if name.endswith(SUFFIXES)]
    listing = "\n".join(f"  {name}" for name in found or names[:50])
    if checkpoint is not None:
        if checkpoint not in names:
            raise FileNotFoundError(f"{source} holds no {checkpoint}. It holds:\n{listing}")
        return checkpoint
    if not found:
        raise FileNotFoundError(f"{source} holds no checkpoint ({', '.join(SUFFIXES)}). It holds:\n{listing}")
    fitting = [name for name in found if trained_on is None or trained_on.lower() in name.lower()]
    if len(fitting) != 1:
        count = "none" if not fitting else "several"
        wanted = f"for trained_on={trained_on!r}" if trained_on else "without trained_on"
        raise ValueError(
            f"{source}: {count} of its checkpoints fit {wanted}; name one with checkpoint=. It holds:\n{listing}"
        )
    return fitting[0]
