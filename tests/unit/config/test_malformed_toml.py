"""Any text as a preset, any words as overrides: an experiment, or one sentence for the user."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rkkd_cli.api.requests import ExperimentRequest
from rkkd_cli.cli.flags.flag import split_words
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import looks_like_override
from rkkd_cli.config.presets import load_experiment, preset_directory, to_toml
from rkkd_cli.config.validation import known_keys
from rkkd_cli.errors import UserError

DIGITS = (preset_directory() / "rank_grad.toml").read_text(encoding="utf-8")
LINES = DIGITS.splitlines(keepends=True)

SCALARS = ["0", "-1", "1e999", "nan", "inf", "true", "''", "'x'", "1979-05-27", "07:32:00"]
NESTED = ["[]", "{}", "[[]]", "[1,'a']", "{a={b=1}}", "[{}]", "9" * 30, "0x7fffffffffffffff"]
value = st.sampled_from(SCALARS + NESTED) | st.floats().map(str) | st.integers().map(str)
key = st.sampled_from([*known_keys(), "arms.a", "arms.kd.rank", "x", "''", "a.b.c.d", "arms.'a b'"])
setting = st.builds("{} = {}\n".format, key, value)
table = st.builds("[{}]\n".format, key)
piece = st.text(alphabet="[]{}=,.'\"\\#\n\t 0123456789abn_-+:", max_size=12)


@st.composite
def mutated_preset(draw: st.DrawFn) -> str:
    """Draw digits.toml with lines removed, repeated, replaced and cut, and foreign ones added."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(["drop", "twice", "value", "cut", "add", "into"]))
        if change == "drop" and len(lines) > 1:
            del lines[at]
        elif change == "twice":
            lines.insert(at, lines[at])
        elif change == "value" and " = " in lines[at]:
            lines[at] = f"{lines[at].partition(' = ')[0]} = {draw(value)}\n"
        elif change == "cut":
            lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
        elif change == "add":
            lines.insert(at, draw(setting | table))
        else:
            place = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + draw(piece) + lines[at][place:]
    return "".join(lines)


def outcome_of_file(content: bytes) -> Experiment | str:
    """Return the experiment that a file of this content makes, or the sentence about it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        path.write_bytes(content)
        try:
            return load_experiment(str(path))
        except UserError as error:
            return str(error)


def check(outcome: Experiment | str) -> None:
    """Hold that it is one sentence, or an experiment that can be written and read again."""
    if isinstance(outcome, str):
        assert outcome.strip()
    else:
        assert outcome.resolved_arms
        assert outcome_of_file(to_toml(outcome).encode()) == outcome


@settings(max_examples=200)
@given(text=mutated_preset())
@example(text=DIGITS + "\n[arms]\na = 3\n")
@example(text=DIGITS.replace("[dataset]", "[[dataset]]"))
@example(text="arms = 3\n" + DIGITS)
@example(text="seeds = [" * 500 + DIGITS)
@example(text="a." * 4000 + "a = 1\n" + DIGITS)
@example(text="x = " + "{a=" * 2000 + "1" + "}" * 2000 + "\n" + DIGITS)
@example(text=DIGITS + "\n[arms." + "a." * 900 + "a]\nx = 1\n")
@example(text=DIGITS.replace("epochs = 30", "epochs = " + "9" * 5000))
@example(text=DIGITS.replace("seeds = [0, 1, 2]", "seeds = [" + "9" * 4000 + "]"))
@example(text=DIGITS.replace("lr = 0.02", "lr = 1" + "0" * 400))
@example(text=DIGITS + "\n[arms.kd]\nrank = [1]\n")
@example(text=DIGITS + "\n[arms.kd]\ntraining.epochs = 1979-05-27\n")
@example(text=DIGITS + '\n[arms.kd]\n"rank.grad" = true\n')
def test_any_change_of_a_preset_gives_an_experiment_or_a_sentence(text: str) -> None:
    check(outcome_of_file(text.encode("utf-8", "surrogatepass")))


@settings(max_examples=100)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
def test_any_bytes_give_a_sentence(content: bytes) -> None:
    outcome = outcome_of_file(content)
    assert isinstance(outcome, str)
    assert "mine.toml" in outcome


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("title = 'two\nlines'", "line 1"),
        ("seeds = [0, 1", "mine.toml"),
        ("[dataset]\nname = 'digits'\n[dataset]", "mine.toml"),
        ("dataset.name = 'digits'\ndataset = 1", "mine.toml"),
    ],
)
def test_a_file_that_is_no_toml_is_named_with_the_place(line: str, says: str) -> None:
    outcome = outcome_of_file(line.encode())
    assert isinstance(outcome, str)
    assert says in outcome
    assert "no valid TOML" in outcome


words = st.lists(
    st.builds("{}={}".format, key, value | st.text(max_size=12))
    | st.builds("{}={}".format, st.text(max_size=8), st.text(max_size=8))
    | st.text(max_size=20),
    max_size=4,
)


@settings(max_examples=200)
@given(words=words, rank_grad=st.sampled_from(["on", "off", "both", "", "x"]))
@example(words=["arms={}"], rank_grad="both")
@example(words=["arms=3"], rank_grad="both")
@example(words=["arms.kd=3"], rank_grad="on")
@example(words=["arms={a={b={c=1}}}"], rank_grad="on")
@example(words=["dataset=[]", "dataset.name=digits"], rank_grad="both")
@example(words=["training={epochs=1}", "training.epochs=2"], rank_grad="both")
@example(words=["rank." * 3000 + "grad=1"], rank_grad="both")
@example(words=["arms." + "a." * 900 + "a=1"], rank_grad="both")
@example(words=["seeds=" + "9" * 5000], rank_grad="both")
@example(words=["seeds=0:" + "9" * 5000], rank_grad="both")
@example(words=["seeds=" + "0:9999," * 3 + "1"], rank_grad="both")
@example(words=["training.milestones=[1e308, 1e-320]"], rank_grad="both")
@example(words=["title=\x00"], rank_grad="both")
@example(words=["x" * 5000], rank_grad="both")
@example(words=["a\x00b"], rank_grad="both")
@example(words=["\ud800"], rank_grad="both")
@example(words=["title=\ud800"], rank_grad="both")
def test_any_words_give_an_experiment_or_a_sentence(words: list[str], rank_grad: str) -> None:
    try:
        preset, overrides = split_words(words)
        request = ExperimentRequest(preset, overrides, rank_grad)
        outcome: Experiment | str = request.experiment()
    except UserError as error:
        outcome = str(error)
    check(outcome)
    if not all(looks_like_override(word) for word in words) and isinstance(outcome, Experiment):
        assert any(
            word in ("rank_grad", "rank_grad_cifar100", "rank_grad_cifar100_small")
            for word in words
        )
