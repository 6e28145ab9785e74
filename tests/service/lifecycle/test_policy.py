from hypothesis import given
from hypothesis import strategies as st

from service.lifecycle.policy import Action, State, VersionPolicy, plan

LATEST = VersionPolicy()


def test_a_new_version_is_loaded_before_the_old_one_is_unloaded() -> None:
    assert plan({1, 2}, {1: State.AVAILABLE}, LATEST) == [Action("load", 2)]
    both = {1: State.AVAILABLE, 2: State.AVAILABLE}
    assert plan({1, 2}, both, LATEST) == [Action("unload", 1)]
    done = {1: State.UNLOADED, 2: State.AVAILABLE}
    assert plan({1, 2}, done, LATEST) == []


def test_a_version_that_fails_takes_nobodys_place() -> None:
    assert plan({1, 2}, {1: State.AVAILABLE, 2: State.FAILED}, LATEST) == []


def test_without_a_good_newest_version_the_one_before_is_loaded() -> None:
    assert plan({1, 2}, {2: State.FAILED}, LATEST) == [Action("load", 1)]


def test_a_deleted_version_is_drained_even_if_it_was_the_only_one() -> None:
    assert plan(set(), {1: State.AVAILABLE}, LATEST) == [Action("unload", 1)]
    assert plan(set(), {1: State.UNLOADED}, LATEST) == [Action("forget", 1)]


def test_several_versions_can_be_available() -> None:
    actions = plan({1, 2, 3}, {}, VersionPolicy(latest=2))
    assert actions == [Action("load", 3), Action("load", 2)]


@given(
    on_disk=st.sets(st.integers(1, 12)),
    bad=st.sets(st.integers(1, 12)),
    states=st.dictionaries(st.integers(1, 12), st.sampled_from([State.AVAILABLE, State.UNLOADED])),
    latest=st.integers(1, 4),
)
def test_carrying_out_the_plan_ends_with_the_newest_good_versions_and_never_with_a_gap(
    on_disk: set[int], bad: set[int], states: dict[int, State], latest: int
) -> None:
    policy = VersionPolicy(latest=latest)
    good = {version for version in on_disk if version not in bad or _available(states, version)}
    for _ in range(50):
        actions = plan(on_disk, states, policy)
        if not actions:
            break
        for action in actions:
            before = {version for version in states if _available(states, version)}
            if action.kind == "load":
                failed = action.version in bad
                states[action.version] = State.FAILED if failed else State.AVAILABLE
            elif action.kind == "unload":
                states[action.version] = State.UNLOADED
            else:
                del states[action.version]
            after = {version for version in states if _available(states, version)}
            assert after or not before or not before & on_disk, "the model was not answered"
    else:
        raise AssertionError("the plan never ends")
    available = {version for version in states if _available(states, version)}
    assert available == set(sorted(good, reverse=True)[:latest])
    assert set(states) <= on_disk


def _available(states: dict[int, State], version: int) -> bool:
    return states.get(version) is State.AVAILABLE
