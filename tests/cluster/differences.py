"""What a ledger on Kueue does not do of what the others do, part by part, and why; docs/kubernetes.md says the same.

Names are those of claims in tests/contracts (test_ledger.py, test_takeover.py), and of rules and invariants in its
machine.py.
"""

from gangplan.reserve.kueue.refusals import REFUSED

CLAIMS = {
    "test_every_pod_of_a_granted_gang_has_a_node": "nodes are known where the flavor has a Topology (test_hazards.py)",
    "test_a_reason_names_holders_and_what_would_help": "reasons are Kueue's words; holders come with `explain`",
    "test_those_too_far_back_for_a_promise_have_an_expected_start": "no policy: nothing is promised",
    "test_a_look_at_a_long_line_is_used_again_for_a_while": "no policy: the look is kept for two seconds",
    "test_a_look_at_a_long_line_is_made_once_for_all_who_ask_at_a_time": "no policy: the look is kept for two seconds",
    "test_release_grants_to_the_next_in_the_same_call": "Kueue grants a moment later, by its own clock",
    "test_a_window_to_come_is_promised_and_kept": "quota is kept free from some minutes before (test_windows.py)",
    "test_a_small_gang_fills_the_hole_before_a_big_one": "Kueue knows no promised start to fill up to",
    "test_priority_goes_first_and_age_makes_up_for_it": "no ageing: by priority, then by arrival (test_ledger.py)",
    "test_the_preferred_accelerator_comes_first_and_the_other_if_sooner": "no publish: by flavors (test_sharing.py)",
    "test_same_rack_keeps_a_gang_together_or_waits": "no publish: by a Topology (test_hazards.py)",
    "test_only_what_the_calendar_holds_is_promised": "no publish: capacity is the ClusterQueues' quota",
    "test_without_a_calendar_all_wait": "no publish: capacity is the ClusterQueues' quota",
    "test_a_smaller_calendar_takes_promises_back_but_no_grants": "no publish: capacity is the ClusterQueues' quota",
    "test_what_no_calendar_serves_is_refused_by_name": "what exceeds a quota today may fit tomorrow: it waits",
    "test_wait_returns_at_the_grant_or_gives_up": "a sleep that is given ends before Kueue's next grant",
    "test_watch_yields_each_change_until_the_end": "a sleep that is given ends before Kueue's next grant",
    "test_two_pod_sets_share_nodes_and_are_told_apart": "no publish: by flavors (test_sharing.py)",
    "test_the_lease_and_the_walltime_of_a_claimed_grant_count_from_the_claim": "Kueue counts it from its admission",
    "test_a_late_claim_takes_no_time_that_another_was_promised": "the walltime counts from Kueue's admission",
}
"""Claims of the contract."""

PARTS = {
    **{rule: REFUSED[rule] for rule in ("publish", "mark_node", "set_policy", "resize")},
    "plan_drain": REFUSED["mark_node"],
    "nobody_stands_on_a_node_that_goes": "nodes that go are the cluster's own business",
    "a_gang_is_in_one_place": "Kueue picks a flavor for each pod set; one rack by a Topology (test_hazards.py)",
    "a_later_grant_has_a_greater_token": "Kueue's clock counts whole seconds: two may be granted within one",
    "nobody_holds_more_than_its_quota": "no policy: quotas are the ClusterQueues', held against what Kueue counts",
    "notices_end_in_a_grant_or_a_rollback": "Kueue takes slots without notice",
    "promises_do_not_move_later": "nothing is promised but a window, and that as said in docs/kubernetes.md",
}
"""Rules and invariants of the stateful search."""
