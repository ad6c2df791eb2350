"""What the shell completes: names of presets, models, runs and the like, keys, and their values.

Typer's own scripts for bash, zsh and fish (``rkkd --install-completion``) start the program and ask
it. It answers without torch.
"""

import csv
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkkd_cli.records import DEFAULT_RESULTS

if TYPE_CHECKING:
    from rkkd_cli.cli.flags.flag import Flag
    from rkkd_cli.config.keys import Key

COMPLETE = "_RKKD_COMPLETE"  # Typer's variable: complete_bash, complete_zsh …
KEPT = "_RKKD_KEPT"  # the beginning of the current word that bash keeps
BREAKS = "=:"  # bash takes what stands on either side of them for words

Values = Callable[[Mapping[str, Any], str], Iterable[str]]  # of the other flags and the word so far


def is_asked() -> bool:
    """Whether this process was started by a shell that completes a command."""
    return COMPLETE in os.environ


def join_words_of_bash() -> None:
    """Put together in the environment what bash has split: ``method.name=dkd`` is one word.

    It replaces only what stands behind the last = or :, so that alone is the word to complete.
    """
    if os.environ.get(COMPLETE) != "complete_bash":
        return
    typed = os.environ["COMP_WORDS"].split("\n")
    typed = typed[: int(os.environ["COMP_CWORD"]) + 1]
    words: list[str] = []
    for word in typed:
        is_break = bool(word) and not word.strip(BREAKS)
        if words and (is_break or words[-1].endswith(tuple(BREAKS))):
            words[-1] += word
        else:
            words.append(word)
    option, equals, value = words[-1].partition("=")
    if option.startswith("--") and equals:
        words[-1:] = [option, value]
    last = max(words[-1].rfind(letter) for letter in BREAKS) + 1
    os.environ[KEPT], words[-1] = words[-1][:last], words[-1][last:]
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(len(words) - 1)


def candidates(flag: "Flag", given: Mapping[str, Any], word: str) -> list[str]:
    """Return what the word may become as a value of the flag; ``given`` are the other flags."""
    kept = os.environ.get(KEPT, "")
    whole = kept + word
    values = _values_of(flag, given, whole)
    return [value[len(kept) :] for value in values if value.startswith(whole)]


def _values_of(flag: "Flag", given: Mapping[str, Any], word: str) -> Iterable[str]:
    if flag.key:
        return values_of_key(flag.key, word)
    if flag.choices:
        return flag.choices
    if flag.name in BY_FLAG:
        return BY_FLAG[flag.name](given, word)
    return [word for word in re.split(r"[\[\]|]", flag.metavar or "") if word.islower()]


def values_of_key(key: str, word: str) -> Iterable[str]:
    """Return the values of a key that are names or few."""
    from rkkd_cli.config import names
    from rkkd_cli.config.keys import keys_in
    from rkkd_cli.config.methods import METHODS
    from rkkd_cli.config.monitors import MONITORS

    named: dict[str, Iterable[str]] = {
        "dataset.name": names.DATASETS,
        "device": ("auto", "cpu", "cuda", "mps"),
        "method.name": METHODS,
        "rank.surrogate": names.SURROGATES,
        "rank.channels": ("all", "top:0.1", "bottom:0.1", "union:0.1"),
        "training.monitor": (*MONITORS, "none"),
    }
    if key.endswith(".model"):
        return _models(word)
    key = re.sub(r"^teachers\.\w+", "teacher", key)  # one of several has the keys of one
    return named.get(key) or keys_in(key)[0].choices


def _models(word: str) -> list[str]:
    from rkkd_cli.config.names import LIBRARIES, MODELS, library_models

    library, colon, _ = word.partition(":")
    if colon and library in LIBRARIES:
        return [f"{library}:{name}" for name in library_models(library)]
    return [*MODELS, *(f"{name}:" for name in LIBRARIES)]


def _words(given: Mapping[str, Any], word: str) -> list[str]:
    """Return presets, until one is given, and keys; behind a key its values."""
    from rkkd_cli.config.keys import all_keys
    from rkkd_cli.config.shipped import preset_names

    key, equals, value = word.partition("=")
    if equals:
        return [f"{key}={value}" for value in values_of_key(key, value)]
    has_preset = any("=" not in other for other in given.get("words") or ())
    presets = [] if has_preset else preset_names()
    presets = [preset for preset in presets if preset.startswith(word)]
    keys = [one for one in all_keys() if one.name.startswith(word)]
    if presets and not word:
        return presets
    if len(keys) == 1 and not presets:
        return _key_with_values(keys[0])
    return [*presets, *(f"{one.name}=" for one in keys)]


def _key_with_values(key: "Key") -> list[str]:
    """Return the key with each of its values: of one candidate alone a shell would add a space."""
    values = list(values_of_key(key.name, ""))
    if not values:
        values = [f"<{key.type}>" if key.default in ("", "required") else key.default]
    return [f"{key.name}={value}" for value in ("", *values)]


def _varied(given: Mapping[str, Any], word: str) -> list[str]:
    return _words({"words": ["a preset is given"]}, word)


def _presets(given: Mapping[str, Any], word: str) -> list[str]:
    from rkkd_cli.config.shipped import preset_names

    return preset_names()


def _published(given: Mapping[str, Any], word: str) -> list[str]:
    from rkkd_cli.config.shipped import preset_directory

    files = preset_directory().glob("*_published.csv")
    return ["auto", *(path.stem.removesuffix("_published") for path in files)]


def _runs(given: Mapping[str, Any], word: str) -> list[str]:
    folder = Path(given.get("out") or DEFAULT_RESULTS)
    return [path.parent.name for path in folder.glob("*/manifest.json")]


def _run_folder(given: Mapping[str, Any]) -> Path | None:
    """Return the folder of the run that the command names, or that of the newest."""
    folder = Path(given.get("out") or DEFAULT_RESULTS)
    run = given.get("run") or next(iter(given.get("runs") or ()), None)
    if run is not None:
        return next((path for path in (folder / run, Path(run)) if path.is_dir()), None)
    files = folder.glob("*/metrics.csv")
    return max((path.parent for path in files), key=lambda path: path.stat().st_mtime, default=None)


def _arms(given: Mapping[str, Any], word: str) -> list[str]:
    folder = _run_folder(given)
    with suppress(OSError, ValueError, KeyError):
        if folder is not None:
            text = (folder / "experiment.toml").read_text(encoding="utf-8")
            return list(tomllib.loads(text)["arms"])
    return []


def _arms_or_runs(given: Mapping[str, Any], word: str) -> list[str]:
    return [*_arms(given, word), *_runs(given, word)]


def _metrics(given: Mapping[str, Any], word: str) -> list[str]:
    folder = _run_folder(given)
    with suppress(OSError, ValueError, StopIteration):
        if folder is not None:
            with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
                return [name for name in next(csv.reader(file)) if name not in ("arm", "seed")]
    return []


def _listed_within(given: Mapping[str, Any], word: str) -> Iterable[str]:
    """Return what may follow ``rkkd ls models`` and ``rkkd ls keys``."""
    from rkkd_cli.config.keys import all_keys
    from rkkd_cli.config.names import LIBRARIES

    if given.get("what") == "models":
        return LIBRARIES
    keys = all_keys() if given.get("what") == "keys" else []
    return dict.fromkeys(key.name.rpartition(".")[0] for key in keys if "." in key.name)


BY_FLAG: dict[str, Values] = {
    "words": _words, "vary": _varied, "preset": _presets, "published": _published,
    "run": _runs, "runs": _runs, "resume": _runs, "arm": _arms, "arms": _arms,
    "others": _arms_or_runs, "metric": _metrics, "within": _listed_within,
}  # fmt: skip
