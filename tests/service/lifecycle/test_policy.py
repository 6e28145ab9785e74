from hypothesis import given
from hypothesis import strategies as st

from convd.service.lifecycle.policy import (
    Action,
    AllVersions,
    LatestVersions,
    SpecificVersions,
    State,
    VersionPolicy,
    move_labels,
    plan,
)

LATEST = LatestVersions()
VERSIONS = st.integers(1, 12)
POLICIES = st.one_of(
    st.builds(LatestVersions, latest=st.integers(1, 4)),
    st.just(AllVersions()),
    st.builds(SpecificVersions, specific=st.frozensets(VERSIONS, min_size=1, max_size=4)),
)


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
    actions = plan({1, 2, 3}, {}, LatestVersions(latest=2))
    assert actions == [Action("load", 3), Action("load", 2)]


def test_specific_versions_that_are_not_there_leave_what_answers() -> None:
    policy = SpecificVersions(specific=frozenset({7}))
    assert plan({3}, {3: State.AVAILABLE}, policy) == []


def test_a_version_that_drains_is_loaded_again_only_when_it_is_unloaded() -> None:
    assert plan({1}, {1: State.DRAINING}, LATEST) == []


def test_a_stale_version_is_loaded_anew_while_it_answers() -> None:
    states = {1: State.AVAILABLE, 2: State.AVAILABLE}
    assert plan({1, 2}, states, AllVersions(), stale={1}) == [Action("reload", 1)]


def test_a_labelled_version_is_loaded_and_kept_whatever_the_policy_says() -> None:
    labels = {"stable": 1}
    assert plan({1, 2}, {2: State.AVAILABLE}, LATEST, labels=labels) == [Action("load", 1)]
    both = {1: State.AVAILABLE, 2: State.AVAILABLE}
    assert plan({1, 2}, both, LATEST, labels=labels, resolved=labels) == []


def test_a_label_moves_when_its_new_version_is_available_and_not_before() -> None:
    before, wanted = {"stable": 1}, {"stable": 2}
    states = {1: State.AVAILABLE, 2: State.FAILED, 3: State.AVAILABLE}
    assert move_labels(wanted, before, states) == {"stable": 1}
    actions = plan({1, 2, 3}, states, LATEST, labels=wanted, resolved=before)
    assert actions == [], "the version that still has the label is unloaded"
    states[2] = State.AVAILABLE
    assert move_labels(wanted, before, states) == {"stable": 2}


@given(
    on_disk=st.sets(VERSIONS),
    bad=st.sets(VERSIONS),
    states=st.dictionaries(VERSIONS, st.sampled_from([State.AVAILABLE, State.UNLOADED])),
    policy=POLICIES,
    labels=st.dictionaries(st.sampled_from(["stable", "canary"]), VERSIONS),
    resolved=st.dictionaries(st.sampled_from(["stable", "canary"]), VERSIONS),
    stale=st.sets(VERSIONS),
)
def test_carrying_out_the_plan_ends_with_what_is_aspired_and_never_with_a_gap(
    on_disk: set[int],
    bad: set[int],
    states: dict[int, State],
    policy: VersionPolicy,
    labels: dict[str, int],
    resolved: dict[str, int],
    stale: set[int],
) -> None:
    answered = {one for one in states if states[one] is State.AVAILABLE}
    good = {version for version in on_disk if version not in bad or version in answered}
    for _ in range(50):
        resolved_before = resolved
        resolved = move_labels(labels, resolved, states)
        for label, version in resolved.items():
            assert states[version] is State.AVAILABLE
            # A label leaves a version that answers only for the one that it should point to.
            old = resolved_before.get(label)
            if states.get(old or 0) is State.AVAILABLE:
                assert version in (old, labels[label])
        actions = plan(on_disk, states, policy, labels=labels, resolved=resolved, stale=stale)
        if not actions:
            break
        for action in actions:
            before = _available(states)
            if action.kind == "load":
                failed = action.version in bad
                states[action.version] = State.FAILED if failed else State.AVAILABLE
            elif action.kind == "reload":
                assert states[action.version] is State.AVAILABLE
                stale = stale - {action.version}
            elif action.kind == "unload":
                assert action.version not in resolved.values() or action.version not in on_disk
                states[action.version] = State.UNLOADED
            else:
                del states[action.version]
            after = _available(states)
            assert after or not before or not before & on_disk, "the model was not answered"
    else:
        raise AssertionError("the plan never ends")
    available = _available(states)
    known = {one: State.AVAILABLE if one in good else State.FAILED for one in on_disk}
    aspired = policy.aspired(known) | {one for one in labels.values() if one in good}
    assert aspired <= available
    if aspired:
        # What is left over answers for a label whose own version cannot.
        assert available - aspired <= set(resolved.values())
    assert not stale & available & aspired
    assert set(states) <= on_disk


def _available(states: dict[int, State]) -> set[int]:
    return {version for version in states if states[version] is State.AVAILABLE}
