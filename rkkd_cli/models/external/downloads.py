"""Files that torch.hub and the Hugging Face hub download, and where they keep them.

A file is looked for in the cache first, so that nothing is asked of the network if it is there.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.installation import install_command

HUB_PREFIX = "hf-hub:"
HUB_CONFIG = "config.json"
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Download(NamedTuple):
    """A file of the web, and where its library keeps it. It may not be there yet.

    ``repository`` is that of the Hugging Face hub, empty for a file of torch.hub.
    """

    url: str
    path: Path
    repository: str = ""

    @property
    def is_here(self) -> bool:
        """Whether the file is in the cache."""
        return self.path.is_file()

    def fetch(self) -> "Download":
        """Return the download with its file in the cache. Raises RunError if it cannot be got."""
        if self.is_here:
            return self
        try:
            return self._from_hub() if self.repository else self._from_url()
        except (OSError, RuntimeError, ValueError) as error:  # also of the hub, and a wrong hash
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise RunError(
                f"cannot download {self.url}: {reason}; fetch it where there is a network, and put "
                f"it at {self.path}"
            ) from None

    def _from_url(self) -> "Download":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = torch.hub.HASH_REGEX.search(self.path.name)
        prefix = found[1] if found else None
        torch.hub.download_url_to_file(self.url, str(self.path), prefix, progress=False)
        return self

    def _from_hub(self) -> "Download":
        hub = _hub()
        name, revision = _split_revision(self.repository)
        wanted = HUB_WEIGHTS if self.path.name in HUB_WEIGHTS else (self.path.name,)
        with _quiet():
            for filename in wanted:
                try:
                    return self._replace(
                        path=Path(hub.hf_hub_download(name, filename, revision=revision))
                    )
                except hub.errors.LocalEntryNotFoundError:  # there is no network
                    raise
                except hub.errors.EntryNotFoundError as error:  # the repository has no such file
                    missing = error
        raise missing


def from_torch_hub(url: str) -> Download:
    """Return a file that torch.hub keeps among its checkpoints."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return Download(url, folder / url.rpartition("/")[2])


def from_hub(repository: str, *filenames: str) -> Download:
    """Return a file of a repository ``owner/name`` of the Hugging Face hub.

    It is the first of ``filenames`` that is in the cache, or else the first one. A revision may
    stand behind an @. Raises UserError for another name.
    """
    hub = _hub()
    name, revision = _split_revision(repository)
    try:
        cached = [hub.try_to_load_from_cache(name, file, revision=revision) for file in filenames]
    except ValueError:  # the hub's own error for a name that it cannot have
        raise UserError(
            f"{HUB_PREFIX}{repository[:60]} names no repository of the Hugging Face hub; it is "
            f"{HUB_PREFIX}OWNER/NAME"
        ) from None
    url = hub.hf_hub_url(name, filenames[0], revision=revision)
    path = next((Path(path) for path in cached if isinstance(path, str)), None)
    folder = Path(hub.constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    return Download(url, path or folder / (revision or "main") / filenames[0], repository)


def _split_revision(repository: str) -> tuple[str, str | None]:
    name, _, revision = repository.partition("@")
    return name, revision or None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the hub's client logs of each attempt; its last error is raised."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise UserError(
            "files of the Hugging Face hub need the package huggingface_hub, which comes with "
            f"timm; install it: {install_command('timm')}"
        ) from None
    return huggingface_hub
