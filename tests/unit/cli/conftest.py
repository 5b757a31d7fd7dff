"""How commands are run in these tests. A file that tests one command names it as `COMMAND`, and `run` puts it first."""

from pathlib import Path
from typing import NamedTuple

import pytest

from vernissage.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys, request):
    command = getattr(request.module, "COMMAND", ())

    def run(*arguments: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as ended:  # anything else that is raised would be a traceback
            main([*command, *(str(argument) for argument in arguments)])
        seen = capsys.readouterr()
        return Outcome(ended.value.code or 0, seen.out, seen.err)

    return run


@pytest.fixture
def fails(run, tmp_path):
    """Runs a command that must fail as the user's mistake: code 2, a message with the fix, nothing left behind."""

    def fails(*arguments: str | Path, code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        found = run(*arguments)
        assert (found.code, found.out) == (code, ""), found.err
        assert "Traceback" not in found.err
        assert found.err.lower().count("error: ") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return found.err

    return fails
