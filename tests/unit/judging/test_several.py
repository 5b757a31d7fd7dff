"""Several judges as one: each says what it was trained on, and looks only where it is needed."""

import pytest
from PIL import Image

from vernissage.errors import BadCard, BadInput
from vernissage.judging.nn import several
from vernissage.judging.spec import HeadSpec, JudgeSpec
from vernissage.records.verdict import Answer, Score, Unscored, Verdict
from vernissage.wiring import DriverConfig, identity_of, load_config, load_driver

PICTURE = Image.new("RGB", (4, 4))


class Half:
    """A judge trained on what its folder's name says, such as "perception-answers"; its number is the name's length."""

    def __init__(self, model, **options):
        head = HeadSpec(adapter="", widths=(), center=0, spread=1, low=0, high=100)
        heads = {name: head for name in ("perception", "correspondence") if name in model}
        self.spec = JudgeSpec(name=model, backbone="x", fingerprint="x", heads=heads, answers="" if "answers" in model else None)
        self.name, self.options, self.seen = model, options, []

    def judge(self, images, prompts, questions):
        self.seen.append([list(each) for each in questions])
        number = Score(value=float(len(self.name)))

        def score(task):
            return number if task in self.name else Unscored(reason=f"{self.name} was not trained on {task}")

        return [
            Verdict(
                perception=score("perception"),
                correspondence=score("correspondence"),
                answers=tuple(Answer(question=text, yes=score("answers")) for text in own),
                judge=self.name,
            )
            for own in questions
        ]


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(several, "TrainedJudge", Half)
    return lambda *models: several.SeveralJudges(list(models), batch_size=3)


def test_each_dimension_comes_from_the_first_judge_that_was_trained_on_it(make):
    judge = make("perception-", "correspondence", "answers", "perception-correspondence-answers")
    (verdict,) = judge.judge([PICTURE], ["a cat"], [["A cat?"]])
    assert (verdict.perception.value, verdict.correspondence.value, verdict.answers[0].yes.value) == (11, 14, 7)
    assert verdict.judge == judge.name
    assert [len(each.seen) for each in judge._judges] == [1, 1, 1, 0], "the last is never needed"
    assert [each.seen[0] for each in judge._judges[:3]] == [[[]], [[]], [["A cat?"]]], "questions go to whoever answers"
    judge.judge([PICTURE], ["a cat"], [[]])
    assert len(judge._judges[2].seen) == 1, "nobody who answers alone looks where nothing is asked"


def test_what_nobody_was_trained_on_is_unscored(make):
    (verdict,) = make("perception", "answers").judge([PICTURE], ["a cat"], [["A cat?"]])
    assert verdict.correspondence == Unscored(reason="perception was not trained on correspondence")
    with pytest.raises(BadInput, match="No judge is named"):
        make()


def test_the_driver_takes_a_list_of_folders_that_start_at_the_configuration(make, tmp_path):
    (tmp_path / "v.toml").write_text(
        '[judge]\ndriver = "several"\nmodels = ["./perception", "hub/answers"]\nbatch_size = 5\n', encoding="utf-8"
    )
    config = load_config(tmp_path / "v.toml").judge
    judge = load_driver("judge", config)
    assert [each.name for each in judge._judges] == [str(tmp_path / "perception"), "hub/answers"]
    assert judge._judges[0].options["batch_size"] == 5
    before = identity_of(config)
    (tmp_path / "perception").mkdir()
    (tmp_path / "perception" / "judge.json").write_text("{}", encoding="utf-8")
    assert identity_of(config) != before
    with pytest.raises(BadCard, match="'models'"):
        load_driver("judge", DriverConfig(driver="several", models="one"))
