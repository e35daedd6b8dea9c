"""
`PROFILES`: how many times a second each thing goes wrong, on average, in lives of one sort; see `Misfortune`.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PROFILES"]

_EVERYTHING = {
    "kill": 0.05,
    "kill_writing": 0.05,
    "power_cut": 0.03,
    "stop": 0.03,
    "pause": 0.05,
    "isolate": 0.05,
    "cut_one_way": 0.04,
    "bridge": 0.02,
    "hold_back": 0.05,
    "slow": 0.05,
    "reset": 0.1,
    "block_app": 0.05,
    "disk_full": 0.01,
    "disk_broken": 0.01,
    "replace_disk": 0.01,
    "revote": 0.03,
    "roll": 0.01,
    "drift": 0.05,
    "jump_wall": 0.05,
    "refuse": 0.03,
    "park": 0.1,
    "stall": 0.03,
    "answer_late": 0.03,
}

PROFILES: Mapping[str, Mapping[str, float]] = {
    "everything": _EVERYTHING,
    "crashes": {"kill": 0.1, "kill_writing": 0.3, "power_cut": 0.2, "stop": 0.05},
    "network": {"isolate": 0.15, "cut_one_way": 0.15, "bridge": 0.05, "hold_back": 0.2, "slow": 0.1, "reset": 0.3},
    "laggards": {"lag": 0.3},
    "mutes": {"mute": 0.3},
    "frozen": {"pause": 0.2, "block_app": 0.2, "drift": 0.1},
    "disks": {"kill_writing": 0.2, "disk_full": 0.1, "disk_broken": 0.05, "power_cut": 0.1},
    "voters": {"revote": 0.3, "kill": 0.1, "power_cut": 0.05, "isolate": 0.1, "reset": 0.1},
    "amnesia": {"replace_disk": 0.1, "kill": 0.2, "isolate": 0.1},
    "third_party": {"refuse": 0.02, "answer_late": 0.05, "hang": 0.1, "update": 3.0, "pause": 0.05},
    "refusals": {"refuse": 0.15, "park": 1.0, "kill": 0.05, "isolate": 0.05, "pause": 0.05},
    "churn": {"update": 10.0, "stop": 0.3, "slow": 0.5},
    "repeats": {"update": 10.0, "hold_back": 0.5, "isolate": 0.1, "kill": 0.1},
    "deploys": {"roll": 0.1, "stop": 0.1, "refuse": 0.05},
    "webhooks": {
        "publish": 6.0,
        "kill": 0.1,
        "kill_writing": 0.15,
        "power_cut": 0.05,
        "stop": 0.05,
        "pause": 0.1,
        "isolate": 0.05,
        "hold_back": 0.1,
        "block_app": 0.05,
        "receiver_mood": 0.2,
    },
    "sources": {
        "list_changes": 1.5,
        "list_mood": 0.4,
        "meddle": 0.5,
        "kill": 0.1,
        "kill_writing": 0.15,
        "power_cut": 0.05,
        "stop": 0.1,
        "pause": 0.2,
        "isolate": 0.1,
        "hold_back": 0.2,
        "reset": 0.1,
        "block_app": 0.05,
        "refuse": 0.03,
    },
    "old_lists": {"list_changes": 4.0, "list_late": 0.5, "pause": 0.5},
    "calm": {},
}
