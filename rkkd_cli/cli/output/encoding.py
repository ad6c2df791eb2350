"""What a terminal's or a pipe's encoding lacks is written in plain characters."""

import codecs
import sys
import unicodedata
from io import TextIOWrapper

ERRORS = "rkkd-plain"  # the name of the error handler below

PLAIN = {
    "×": "x", "±": "+-", "−": "-", "–": "-", "—": "-", "·": "*", "→": "->", "←": "<-",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "∞": "inf", "√": "sqrt", "‖": "||", "⁻": "^-",
    "½": "1/2", "Σ": "sum", "λ": "lambda", "µ": "u", "′": "'", "“": '"', "”": '"', "’": "'",
    "⟨": "<", "⟩": ">", "•": "*",
    **dict(zip("▁▂▃▄▅▆▇█", ".:-=+*%#", strict=True)),  # a sparkline
}  # fmt: skip


def to_plain(character: str) -> str:
    """Return what stands for the character in ASCII: τ is tau, é is e, and the unknown \\u4e2d."""
    if character in PLAIN:
        return PLAIN[character]
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and " LETTER " in name:
        letter = name.partition(" LETTER ")[2].partition(" ")[0]
        return letter.lower() if "SMALL" in name else letter.capitalize()
    raised = "^" if unicodedata.decomposition(character).startswith("<super>") else ""
    decomposed = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    if decomposed or unicodedata.combining(character):
        return raised + decomposed
    return character.encode("ascii", "backslashreplace").decode()


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(map(to_plain, error.object[error.start : error.end]))
    return text.replace("^-^", "^-"), error.end


codecs.register_error(ERRORS, _replace)


def write_any_text() -> None:
    """Let stdout and stderr take any text, whatever their encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def as_written(text: str, encoding: str) -> str:
    """Return the text as it is read after it was written in the encoding, to know its width."""
    return text.encode(encoding, ERRORS).decode(encoding)
