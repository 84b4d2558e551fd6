import pytest
from tests import suite

A, B, C = (f"tests/test_suite.py::{name}" for name in ("a", "b", "c"))


@pytest.fixture
def ran(monkeypatch, capsys):
    """A function that calls `main` where pytest gives these results, and returns code, last line and pytest's calls."""

    def ran(results, *arguments):
        calls, results = [], iter(results)
        monkeypatch.setattr(suite, "run", lambda call: (calls.append(call), next(results))[1])
        code = suite.main(arguments)
        return code, capsys.readouterr().out.strip(), calls

    return ran


def test_a_test_that_passes_when_run_again_alone_counts_as_passed_and_is_named(ran):
    results = [(1, {A: "failed", B: "passed"}), (0, {C: "skipped"}), (0, {A: "passed"})]
    code, said, calls = ran(results, "tests/test_suite.py", "-x")
    assert (code, said) == (0, f"suite: 2 passed (1 of them only when run again alone: {A}), 0 failed, 1 skipped")
    assert calls[2] == ["-x", A]


def test_a_test_that_fails_again_has_failed(ran):
    results = [(1, {A: "failed"}), (1, {B: "failed", C: "passed"}), (1, {A: "passed", B: "failed"})]
    code, said, calls = ran(results)
    assert (code, said) == (1, f"suite: 2 passed (1 of them only when run again alone: {A}), 1 failed, 0 skipped")
    assert calls[2] == [A, B]


@pytest.mark.parametrize("again", [(0, {A: "skipped"}), (1, {}), (2, {A: "passed"}), (5, {})])
def test_anything_but_a_pass_is_a_failure(ran, again):
    code, _, _ = ran([(1, {A: "failed"}), (5, {}), again])
    assert code == 1


@pytest.mark.parametrize("code", [1, 2, 3, 4])
def test_a_run_that_names_no_failed_test_fails(ran, code):
    assert ran([(code, {A: "passed"}), (0, {})])[0] == code


def test_other_errors_stay_when_failed_tests_pass_again(ran):
    assert ran([(1, {A: "failed"}), (2, {}), (0, {A: "passed"})])[0] == 2


def test_very_many_failures_are_not_run_again(ran):
    many = dict.fromkeys(map(str, range(suite.AGAIN_AT_MOST + 1)), "failed")
    code, said, calls = ran([(1, many), (0, {})])
    assert (code, said, len(calls)) == (1, f"suite: 0 passed, {len(many)} failed, 0 skipped", 2)
